//! Columns: how a value is taken from a record, collected and written.

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type,
};
use parquet::errors::Result;
use parquet::file::writer::SerializedColumnWriter;
use parquet::schema::types::{Type, TypePtr};
use std::sync::Arc;

/// A type of values that a column may have: booleans, numbers, [`TimestampMillis`], and each of these as an `Option`.
/// Texts and bytes have methods of their own, [`ParquetFormat::text`](crate::ParquetFormat::text) and
/// [`ParquetFormat::bytes`](crate::ParquetFormat::bytes), so that they are not copied twice.
pub trait ColumnType: sealed::Value + 'static {}

/// A point in time, in milliseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampMillis(pub i64);

pub(crate) mod sealed {
    use super::{DataType, LogicalType};

    /// How a value is stored.
    pub trait Value: Sized {
        /// Parquet's physical type.
        type Stored: DataType;
        /// Whether there may be none.
        const OPTIONAL: bool = false;
        /// What it means.
        fn logical() -> Option<LogicalType> {
            None
        }
        /// What is stored; `None` stores null.
        fn stored(self) -> Option<<Self::Stored as DataType>::T>;
    }
}
use sealed::Value;

macro_rules! value {
    ($type:ty, $stored:ty, $logical:expr, $convert:expr) => {
        impl Value for $type {
            type Stored = $stored;
            fn logical() -> Option<LogicalType> {
                $logical
            }
            fn stored(self) -> Option<<$stored as DataType>::T> {
                let convert: fn($type) -> <$stored as DataType>::T = $convert;
                Some(convert(self))
            }
        }
        impl ColumnType for $type {}
        impl ColumnType for Option<$type> {}
    };
}

fn unsigned(bit_width: i8) -> Option<LogicalType> {
    Some(LogicalType::integer(bit_width, false))
}

value!(bool, BoolType, None, |x| x);
value!(i32, Int32Type, None, |x| x);
value!(i64, Int64Type, None, |x| x);
value!(f32, FloatType, None, |x| x);
value!(f64, DoubleType, None, |x| x);
// The bits are those of the signed number; the logical type says how to read them.
value!(u32, Int32Type, unsigned(32), u32::cast_signed);
value!(u64, Int64Type, unsigned(64), u64::cast_signed);
value!(
    TimestampMillis,
    Int64Type,
    Some(LogicalType::timestamp(true, TimeUnit::MILLIS)),
    |time| time.0
);

impl<V: Value> Value for Option<V> {
    type Stored = V::Stored;
    const OPTIONAL: bool = true;
    fn logical() -> Option<LogicalType> {
        V::logical()
    }
    fn stored(self) -> Option<<V::Stored as DataType>::T> {
        self.and_then(V::stored)
    }
}

/// A column of records of type `T`.
pub(crate) trait Column<T>: Send + Sync {
    fn name(&self) -> &str;
    fn schema(&self) -> Result<TypePtr>;
    fn buffer(&self) -> Box<dyn Buffer<T>>;
}

/// Values of a column that wait for their row group.
pub(crate) trait Buffer<T>: Send {
    /// Takes the values of `records`; returns how many bytes they have, about.
    fn append(&mut self, records: &[T]) -> u64;
    /// Writes all values, and forgets them.
    fn write(&mut self, writer: &mut SerializedColumnWriter<'_>) -> Result<()>;
}

fn schema(name: &str, physical: Physical, logical: Option<LogicalType>, optional: bool) -> Result<TypePtr> {
    let repetition = if optional {
        Repetition::OPTIONAL
    } else {
        Repetition::REQUIRED
    };
    let builder = Type::primitive_type_builder(name, physical)
        .with_repetition(repetition)
        .with_logical_type(logical);
    builder.build().map(Arc::new)
}

/// A column of plain values, or of bytes.
pub(crate) struct Plain<D, F> {
    pub(crate) name: String,
    pub(crate) logical: Option<LogicalType>,
    pub(crate) optional: bool,
    pub(crate) get: Arc<F>,
    pub(crate) stored: std::marker::PhantomData<fn() -> D>,
}

struct PlainBuffer<D: DataType, F> {
    get: Arc<F>,
    optional: bool,
    values: Vec<D::T>,
    /// 1 where there is a value, 0 where there is none.
    levels: Vec<i16>,
}

impl<T, D, F> Column<T> for Plain<D, F>
where
    T: 'static,
    D: DataType,
    F: Fn(&T) -> Option<D::T> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn schema(&self) -> Result<TypePtr> {
        schema(
            &self.name,
            D::get_physical_type(),
            self.logical.clone(),
            self.optional,
        )
    }

    fn buffer(&self) -> Box<dyn Buffer<T>> {
        Box::new(PlainBuffer::<D, F> {
            get: self.get.clone(),
            optional: self.optional,
            values: Vec::new(),
            levels: Vec::new(),
        })
    }
}

impl<T, D, F> Buffer<T> for PlainBuffer<D, F>
where
    D: DataType,
    F: Fn(&T) -> Option<D::T> + Send + Sync,
{
    fn append(&mut self, records: &[T]) -> u64 {
        let mut bytes = 0;
        for record in records {
            let value = (self.get)(record);
            if self.optional {
                self.levels.push(i16::from(value.is_some()));
            }
            if let Some(value) = value {
                bytes += heap_bytes(&value);
                self.values.push(value);
            }
        }
        (bytes + records.len() * D::get_type_size()) as u64
    }

    fn write(&mut self, writer: &mut SerializedColumnWriter<'_>) -> Result<()> {
        let levels = self.optional.then_some(self.levels.as_slice());
        writer.typed::<D>().write_batch(&self.values, levels, None)?;
        self.values.clear();
        self.levels.clear();
        Ok(())
    }
}

/// Bytes that a value has outside of itself.
fn heap_bytes<V: std::any::Any>(value: &V) -> usize {
    let bytes: &dyn std::any::Any = value;
    bytes.downcast_ref::<ByteArray>().map_or(0, ByteArray::len)
}

/// The physical type of texts and bytes.
pub(crate) type Bytes = ByteArrayType;
