//! The bytes of a record: MessagePack with named fields, in an envelope with versions and a stamp.
//!
//! It promises that what a record holds and our types do not know survives when the record is written again, and that
//! no record is larger than [`MAX_RECORD`].

use super::Failure;
use crate::kv::{Entry, Key, Revision};
use rmpv::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The most bytes that a record may have. What is larger belongs into a blob that the record names.
pub const MAX_RECORD: usize = 8 * 1024;
/// How deep values may be nested.
const MAX_DEPTH: usize = 64;

/// A type of record.
pub trait Record:
    Serialize + DeserializeOwned + Clone + PartialEq + std::fmt::Debug + Send + 'static
{
    /// What messages call it.
    const NAME: &'static str;
    /// Raised with every change of the type.
    const VERSION: u32;
    /// The least version that may read what we write. Raised only when an older reader would do harm.
    const NEEDS: u32 = 1;
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<T> {
    /// What it says.
    pub value: T,
    /// When its key came to be.
    pub created: Revision,
    /// When it was last written.
    pub modified: Revision,
    origin: Origin,
}

/// What a record's bytes said, beyond what our types know.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Origin {
    /// The envelope as it was read.
    read: Value,
    /// The envelope as we would have written what we understood of it.
    known: Value,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    needs: u32,
    stamp: u64,
    record: T,
}

/// Only what must be looked at before anything else is.
#[derive(Deserialize)]
struct Versions {
    version: u32,
    needs: u32,
}

impl<T: Record> Stored<T> {
    /// Reads what is under a key.
    ///
    /// # Errors
    /// When the bytes are no such record, or one that only a newer program may read.
    pub fn read(entry: &Entry) -> Result<Self, Failure> {
        let damaged = |why: String| Failure::Damaged {
            what: T::NAME,
            key: entry.key.clone(),
            why,
        };
        let unreadable = |error: rmp_serde::decode::Error| damaged(error.to_string());
        if entry.value.len() > MAX_RECORD {
            return Err(damaged(format!(
                "it has {} bytes, {MAX_RECORD} are allowed",
                entry.value.len()
            )));
        }
        let versions: Versions = rmp_serde::from_slice(&entry.value).map_err(unreadable)?;
        if versions.needs > T::VERSION {
            return Err(Failure::TooNew {
                what: T::NAME,
                key: entry.key.clone(),
                written: versions.version,
                readable: T::VERSION,
            });
        }
        let envelope: Envelope<T> = rmp_serde::from_slice(&entry.value).map_err(unreadable)?;
        let read = parse(&entry.value).ok_or_else(|| damaged("it is nested too deeply".to_owned()))?;
        let known = to_value(&envelope, &entry.key)?;
        Ok(Self {
            value: envelope.record,
            created: entry.created,
            modified: entry.modified,
            origin: Origin { read, known },
        })
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// The bytes of a record. With an origin, what that held beyond our types is kept.
///
/// # Errors
/// When they are more than [`MAX_RECORD`].
pub(crate) fn encode<T: Record>(
    key: &Key,
    record: &T,
    stamp: u64,
    origin: Option<&Origin>,
) -> Result<Vec<u8>, Failure> {
    let envelope = Envelope {
        version: T::VERSION,
        needs: T::NEEDS,
        stamp,
        record,
    };
    let value = to_value(&envelope, key)?;
    let merged = match origin {
        Some(origin) => keep_versions(merge(&origin.read, &origin.known, &value), &origin.read),
        None => value,
    };
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &merged).map_err(|error| internal(key, &error))?;
    if bytes.len() > MAX_RECORD {
        return Err(Failure::TooLarge {
            what: T::NAME,
            key: key.clone(),
            bytes: bytes.len(),
        });
    }
    Ok(bytes)
}

fn internal(key: &Key, error: &dyn std::fmt::Display) -> Failure {
    Failure::Internal(format!("{key} cannot be encoded: {error}"))
}

fn to_value<T: Serialize>(value: &T, key: &Key) -> Result<Value, Failure> {
    let bytes = rmp_serde::to_vec_named(value).map_err(|error| internal(key, &error))?;
    parse(&bytes).ok_or_else(|| internal(key, &"it is nested too deeply"))
}

fn parse(mut bytes: &[u8]) -> Option<Value> {
    rmpv::decode::read_value_with_max_depth(&mut bytes, MAX_DEPTH).ok()
}

/// What to write: `new`, where it differs from what was `known` of what was `read`, else what was `read`.
fn merge(read: &Value, known: &Value, new: &Value) -> Value {
    if known == new {
        return read.clone();
    }
    match (read, known, new) {
        (Value::Map(read), Value::Map(known), Value::Map(new)) => Value::Map(merge_maps(read, known, new)),
        (Value::Array(read), Value::Array(known), Value::Array(new)) if read.len() == known.len() => {
            let kept = |item: &Value| {
                known
                    .iter()
                    .position(|known| known == item)
                    .map(|at| read[at].clone())
            };
            Value::Array(
                new.iter()
                    .map(|item| kept(item).unwrap_or_else(|| item.clone()))
                    .collect(),
            )
        }
        _ => new.clone(),
    }
}

type Pairs = Vec<(Value, Value)>;

fn merge_maps(read: &Pairs, known: &Pairs, new: &Pairs) -> Pairs {
    let merged = new
        .iter()
        .map(|(name, value)| match (find(read, name), find(known, name)) {
            (Some(read), Some(known)) => (name.clone(), merge(read, known, value)),
            _ => (name.clone(), value.clone()),
        });
    let unknown = read
        .iter()
        .filter(|(name, _)| find(known, name).is_none() && find(new, name).is_none());
    merged.chain(unknown.cloned()).collect()
}

fn find<'a>(pairs: &'a Pairs, name: &Value) -> Option<&'a Value> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// The envelope's versions are those of the newest program that has written it.
fn keep_versions(mut merged: Value, read: &Value) -> Value {
    if let (Value::Map(merged), Value::Map(read)) = (&mut merged, read) {
        for (name, value) in merged.iter_mut() {
            let versioned = matches!(name.as_str(), Some("version" | "needs"));
            let before = find(read, name).and_then(Value::as_u64);
            if versioned && before > value.as_u64() {
                *value = Value::from(before.unwrap_or_default());
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum OldShape {
        Square {
            side: u32,
        },
        #[serde(other)]
        Unknown,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct OldPart {
        width: u32,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        name: String,
        shape: OldShape,
        parts: BTreeMap<String, OldPart>,
        list: Vec<OldPart>,
    }

    impl Record for Old {
        const NAME: &'static str = "thing";
        const VERSION: u32 = 1;
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum NewShape {
        Square { side: u32, colour: String },
        Circle { radius: u32 },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct NewPart {
        width: u32,
        height: u32,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        name: String,
        shape: NewShape,
        parts: BTreeMap<String, NewPart>,
        list: Vec<NewPart>,
        added: Vec<u8>,
    }

    impl Record for New {
        const NAME: &'static str = "thing";
        const VERSION: u32 = 2;
    }

    fn entry(value: Vec<u8>) -> Entry {
        let (key, created, modified) = (Key::new("/x"), Revision(3), Revision(5));
        Entry {
            key,
            value,
            created,
            modified,
            lease: None,
        }
    }

    fn part(width: u32, height: u32) -> NewPart {
        NewPart { width, height }
    }

    fn new(shape: NewShape) -> New {
        New {
            name: "a".into(),
            shape,
            parts: [("x".into(), part(1, 10)), ("y".into(), part(2, 20))].into(),
            list: vec![part(3, 30), part(4, 40)],
            added: vec![7, 8],
        }
    }

    /// What an old program makes of a new record by `change`, read again by a new program.
    fn through_old(record: &New, change: impl FnOnce(&mut Old)) -> Stored<New> {
        let key = Key::new("/x");
        let written = entry(encode(&key, record, 1, None).unwrap());
        let mut old = Stored::<Old>::read(&written).unwrap();
        change(&mut old.value);
        let rewritten = encode(&key, &old.value, 2, Some(old.origin())).unwrap();
        let versions: Versions = rmp_serde::from_slice(&rewritten).unwrap();
        assert_eq!(versions.version, 2);
        Stored::read(&entry(rewritten)).unwrap()
    }

    #[test]
    fn fields_that_an_old_program_does_not_know_survive_it() {
        let colour = || "red".to_owned();
        let record = new(NewShape::Square {
            side: 1,
            colour: colour(),
        });
        let read = through_old(&record, |old| {
            old.name = "b".into();
            old.shape = OldShape::Square { side: 9 };
            old.parts.remove("x");
            old.list.remove(0);
        });
        let mut expected = record;
        expected.name = "b".into();
        expected.shape = NewShape::Square {
            side: 9,
            colour: colour(),
        };
        expected.parts.remove("x");
        expected.list.remove(0);
        assert_eq!(read.value, expected);
    }

    #[test]
    fn a_variant_that_an_old_program_does_not_know_survives_it() {
        let record = new(NewShape::Circle { radius: 5 });
        let read = through_old(&record, |old| {
            assert_eq!(old.shape, OldShape::Unknown);
            old.name = "b".into();
        });
        assert_eq!(read.value.shape, NewShape::Circle { radius: 5 });
    }

    #[test]
    fn every_write_differs_from_every_other() {
        let key = Key::new("/x");
        let record = new(NewShape::Circle { radius: 5 });
        assert_ne!(
            encode(&key, &record, 1, None).unwrap(),
            encode(&key, &record, 2, None).unwrap()
        );
        let stored = Stored::<New>::read(&entry(encode(&key, &record, 1, None).unwrap())).unwrap();
        let again = encode(&key, &record, 2, Some(stored.origin())).unwrap();
        assert_ne!(again, encode(&key, &record, 1, Some(stored.origin())).unwrap());
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Breaking(New);

    impl Record for Breaking {
        const NAME: &'static str = "thing";
        const VERSION: u32 = 3;
        const NEEDS: u32 = 3;
    }

    #[test]
    fn a_record_that_needs_a_newer_program_says_so() {
        let record = Breaking(new(NewShape::Circle { radius: 5 }));
        let bytes = encode(&Key::new("/x"), &record, 1, None).unwrap();
        let error = Stored::<New>::read(&entry(bytes)).unwrap_err();
        assert!(
            matches!(
                error,
                Failure::TooNew {
                    written: 3,
                    readable: 2,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn what_is_too_large_is_refused_with_advice() {
        let mut record = new(NewShape::Circle { radius: 5 });
        record.added = vec![200; MAX_RECORD];
        let error = encode(&Key::new("/x"), &record, 1, None).unwrap_err();
        assert!(error.to_string().contains("blob"), "{error}");
    }
}
