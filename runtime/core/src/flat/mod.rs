//! Records as they travel between processes of one executable: values in the order in which their types declare them, without names,
//! types or tags for what the type says already.
//!
//! Integers and floats have their width, little-endian; `bool` and the tag of an option are a byte, a `char` is a `u32`; strings and bytes
//! follow their length, elements of sequences and maps their number, each a `u32`; a variant is its number in one byte. Structs, tuples and
//! units are their fields.
//!
//! Nothing here is for storage: another version of a type reads other values out of the same bytes. And not every type can be read that
//! way: one whose `Deserialize` asks what comes next (`untagged` and internally tagged enums, `flatten`, JSON values) needs a form that says
//! it. [`reads_flat`] tells them apart.

mod de;
mod probe;
mod ser;

pub(crate) use de::Reader;
pub(crate) use probe::reads_flat;
pub(crate) use ser::Writer;

use std::fmt;

/// Why bytes are not those of a value, or a value has no flat form.
#[derive(Debug)]
pub(crate) enum FlatError {
    /// They end before it does.
    CutOff,
    /// A byte that is no boolean, tag or letter.
    Malformed(&'static str),
    /// It cannot be written in this form, or not be read back.
    NotFlat(&'static str),
    /// The type says so.
    Custom(Box<str>),
}

impl fmt::Display for FlatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutOff => f.write_str("the bytes end within a value"),
            Self::Malformed(what) => write!(f, "the bytes hold no {what} where one is to be"),
            Self::NotFlat(what) => write!(f, "it has no flat form: {what}"),
            Self::Custom(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for FlatError {}

impl serde::ser::Error for FlatError {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self::Custom(problem.to_string().into())
    }
}

impl serde::de::Error for FlatError {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self::Custom(problem.to_string().into())
    }
}

#[cfg(test)]
mod tests;
