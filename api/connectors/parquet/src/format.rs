//! [`ParquetFormat`]: the columns of a file, and the encoder of one part.

use crate::column::{Buffer, Bytes, Column, ColumnType, Plain};
use hurtig_connector_files::{PartEncoder, PartFormat};
use hurtig_core::{Error, Result};
use parquet::basic::{Compression as Codec, LogicalType, ZstdLevel};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

/// How pages are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Fast, and what most writers do.
    #[default]
    Snappy,
    /// Smaller, for what is kept long.
    Zstd,
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Codec::UNCOMPRESSED,
            Compression::Snappy => Codec::SNAPPY,
            Compression::Zstd => Codec::ZSTD(ZstdLevel::default()),
        }
    }
}

/// Bytes in memory at which a row group is written.
const DEFAULT_ROW_GROUP_BYTES: u64 = 32 * 1024 * 1024;

/// Parquet files of flat columns, for `FileSink::bulk`. A part is complete at every checkpoint, so make checkpoints
/// rare where files are to be large.
///
/// ```
/// use hurtig_connector_files::FileSink;
/// use hurtig_connector_parquet::{ParquetFormat, TimestampMillis};
/// use hurtig_dataflow::sink::Sink;
///
/// struct Click { user: String, at: i64, price: Option<f64> }
///
/// let format = ParquetFormat::new()
///     .text("user", |click: &Click| &click.user)
///     .column("at", |click: &Click| TimestampMillis(click.at))
///     .column("price", |click: &Click| click.price);
/// let sink = FileSink::bulk(format, "/tmp/hurtig-doc/clicks").part_suffix(".parquet");
/// Sink::<Click>::validate(&sink).unwrap();
/// ```
pub struct ParquetFormat<T> {
    columns: Vec<Arc<dyn Column<T>>>,
    compression: Compression,
    row_group_bytes: u64,
}

impl<T> Clone for ParquetFormat<T> {
    fn clone(&self) -> Self {
        Self {
            columns: self.columns.clone(),
            ..*self
        }
    }
}

impl<T> std::fmt::Debug for ParquetFormat<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.columns.iter().map(|column| column.name());
        f.debug_list().entries(names).finish()
    }
}

impl<T: 'static> Default for ParquetFormat<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: 'static> ParquetFormat<T> {
    /// No column yet.
    pub fn new() -> Self {
        Self {
            columns: Vec::new(),
            compression: Compression::default(),
            row_group_bytes: DEFAULT_ROW_GROUP_BYTES,
        }
    }

    /// A column of numbers, booleans or times; an `Option` may be null.
    #[must_use]
    pub fn column<V: ColumnType>(self, name: &str, value: impl Fn(&T) -> V + Send + Sync + 'static) -> Self {
        self.add::<V::Stored>(name, (V::logical(), V::OPTIONAL), move |record| {
            value(record).stored()
        })
    }

    /// A column of texts.
    #[must_use]
    pub fn text(self, name: &str, value: impl Fn(&T) -> &str + Send + Sync + 'static) -> Self {
        let get = move |record: &T| Some(ByteArray::from(value(record)));
        self.add::<Bytes>(name, (Some(LogicalType::String), false), get)
    }

    /// A column of texts that may be null.
    #[must_use]
    pub fn optional_text(
        self,
        name: &str,
        value: impl Fn(&T) -> Option<&str> + Send + Sync + 'static,
    ) -> Self {
        let get = move |record: &T| value(record).map(ByteArray::from);
        self.add::<Bytes>(name, (Some(LogicalType::String), true), get)
    }

    /// A column of bytes.
    #[must_use]
    pub fn bytes(self, name: &str, value: impl Fn(&T) -> &[u8] + Send + Sync + 'static) -> Self {
        let get = move |record: &T| Some(ByteArray::from(value(record).to_vec()));
        self.add::<Bytes>(name, (None, false), get)
    }

    /// How pages are compressed (Snappy by default).
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Writes a row group when its values have about so many bytes in memory (32 MiB by default).
    #[must_use]
    pub fn row_group_bytes(mut self, bytes: u64) -> Self {
        self.row_group_bytes = bytes;
        self
    }

    fn add<D: DataType>(
        mut self,
        name: &str,
        (logical, optional): (Option<LogicalType>, bool),
        get: impl Fn(&T) -> Option<D::T> + Send + Sync + 'static,
    ) -> Self {
        self.columns.push(Arc::new(Plain::<D, _> {
            name: name.to_owned(),
            logical,
            optional,
            get: Arc::new(get),
            stored: PhantomData,
        }));
        self
    }

    fn schema(&self) -> Result<TypePtr> {
        let names: BTreeSet<&str> = self.columns.iter().map(|column| column.name()).collect();
        if names.is_empty() || names.len() < self.columns.len() || names.contains("") {
            return Err(Error::user(format!(
                "a Parquet file needs columns, each with a name of its own; there are {self:?}"
            )));
        }
        let fields = self.columns.iter().map(|column| column.schema());
        let build = || {
            let fields = fields.collect::<parquet::errors::Result<_>>()?;
            Type::group_type_builder("record").with_fields(fields).build()
        };
        build().map(Arc::new).map_err(failed)
    }
}

/// What is written lies in memory until the sink takes it, so only mistakes of the program can fail.
fn failed(error: ParquetError) -> Error {
    Error::user("cannot write Parquet").because(error)
}

impl<T: Send + 'static> PartFormat<T> for ParquetFormat<T> {
    type Encoder = ParquetPart<T>;
    const RESUMABLE: bool = false;

    fn begin(&self, _: u64) -> Result<ParquetPart<T>> {
        let properties = WriterProperties::builder()
            .set_compression(self.compression.into())
            .set_created_by(concat!("hurtig ", env!("CARGO_PKG_VERSION")).to_owned());
        let writer = SerializedFileWriter::new(Vec::new(), self.schema()?, Arc::new(properties.build()));
        Ok(ParquetPart {
            writer: writer.map_err(failed)?,
            buffers: self.columns.iter().map(|column| column.buffer()).collect(),
            buffered_bytes: 0,
            row_group_bytes: self.row_group_bytes,
        })
    }
}

/// Encodes the records of one part.
pub struct ParquetPart<T> {
    writer: SerializedFileWriter<Vec<u8>>,
    buffers: Vec<Box<dyn Buffer<T>>>,
    buffered_bytes: u64,
    row_group_bytes: u64,
}

impl<T> std::fmt::Debug for ParquetPart<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ParquetPart({} bytes buffered)", self.buffered_bytes)
    }
}

impl<T> ParquetPart<T> {
    fn write_row_group(&mut self) -> parquet::errors::Result<()> {
        let mut group = self.writer.next_row_group()?;
        let mut buffers = self.buffers.iter_mut();
        while let (Some(buffer), Some(mut column)) = (buffers.next(), group.next_column()?) {
            buffer.write(&mut column)?;
            column.close()?;
        }
        group.close()?;
        self.buffered_bytes = 0;
        Ok(())
    }

    /// Moves what the writer has written.
    fn hand_over(&mut self, out: &mut Vec<u8>) -> parquet::errors::Result<()> {
        self.writer.flush()?;
        out.append(self.writer.inner_mut());
        Ok(())
    }
}

impl<T: Send> PartEncoder<T> for ParquetPart<T> {
    fn encode(&mut self, records: &[T], out: &mut Vec<u8>) -> Result<()> {
        for buffer in &mut self.buffers {
            self.buffered_bytes += buffer.append(records);
        }
        if self.buffered_bytes < self.row_group_bytes {
            return Ok(());
        }
        let written = self.write_row_group().and_then(|()| self.hand_over(out));
        written.map_err(failed)
    }

    fn buffered_bytes(&self) -> u64 {
        self.buffered_bytes
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let mut end = || {
            if self.buffered_bytes > 0 {
                self.write_row_group()?;
            }
            self.writer.finish()?;
            self.hand_over(out)
        };
        end().map_err(failed)
    }
}
