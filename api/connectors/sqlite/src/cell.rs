//! [`Cell`]: a value of a row.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};

/// A value of a row, of one of SQLite's storage classes. Most types become one by `into`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Cell {
    /// `NULL`; what `None` becomes.
    Null,
    /// `INTEGER`; also booleans, as 0 and 1.
    Integer(i64),
    /// `REAL`. SQLite stores a NaN as `NULL`.
    Real(f64),
    /// `TEXT`.
    Text(String),
    /// `BLOB`.
    Blob(#[serde(with = "bytes")] Vec<u8>),
}

/// Bytes as bytes, and not as a list of numbers.
mod bytes {
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;
    use std::fmt;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_bytes(Bytes)
    }
}

macro_rules! cell_from {
    ($($type:ty => $make:expr;)*) => {
        $(impl From<$type> for Cell {
            fn from(value: $type) -> Self {
                let make: fn($type) -> Cell = $make;
                make(value)
            }
        })*
    };
}

cell_from! {
    bool => |x| Cell::Integer(x.into());
    i32 => |x| Cell::Integer(x.into());
    u32 => |x| Cell::Integer(x.into());
    i64 => Cell::Integer;
    f32 => |x| Cell::Real(x.into());
    f64 => Cell::Real;
    &str => |x| Cell::Text(x.to_owned());
    String => Cell::Text;
    Vec<u8> => Cell::Blob;
}

impl<V: Into<Cell>> From<Option<V>> for Cell {
    fn from(value: Option<V>) -> Self {
        value.map_or(Cell::Null, Into::into)
    }
}

impl Cell {
    /// About how many bytes it needs.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Cell::Null | Cell::Integer(_) | Cell::Real(_) => 16,
            Cell::Text(text) => 16 + text.len(),
            Cell::Blob(bytes) => 16 + bytes.len(),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Cell::Null => ValueRef::Null,
            Cell::Integer(x) => ValueRef::Integer(*x),
            Cell::Real(x) => ValueRef::Real(*x),
            Cell::Text(text) => ValueRef::Text(text.as_bytes()),
            Cell::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
