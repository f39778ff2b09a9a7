//! For tests of messages: what a newer or older version may send must decode, and never into something else.

use crate::codec;
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::{self, Debug};

/// A field that no version has.
const UNKNOWN: &str = "a field of the future";

/// Any value of MessagePack.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

/// Takes each field away from `sample`, and adds one that is not known.
///
/// # Panics
/// When a field that is not `required` cannot be missing, one that is required can, an unknown field changes the value, or a
/// missing field changes another one.
pub fn fields_come_and_go<M: Serialize + DeserializeOwned + PartialEq + Debug>(
    sample: &M,
    required: &[&str],
) {
    let fields = fields(sample);
    let mut more = fields.clone();
    more.push((Value::Text(UNKNOWN.to_owned()), Value::Unsigned(7)));
    assert_eq!(
        &decoded::<M>(more).unwrap_or_else(|error| panic!("an unknown field: {error}")),
        sample
    );
    for name in required {
        assert!(
            fields.iter().any(|(key, _)| is(key, name)),
            "{sample:?} has no field '{name}'"
        );
    }
    for at in 0..fields.len() {
        let mut fewer = fields.clone();
        let (removed, _) = fewer.remove(at);
        let is_required = required.iter().any(|name| is(&removed, name));
        match decoded::<M>(fewer.clone()) {
            Err(error) => assert!(is_required, "{removed:?} cannot be missing: {error}"),
            Ok(read) => {
                assert!(!is_required, "{removed:?} can be missing");
                let mut others = self::fields(&read);
                others.retain(|(key, _)| *key != removed);
                assert_eq!(others, fewer, "without {removed:?}");
            }
        }
    }
}

/// A variant that is not known is caught.
///
/// # Panics
/// When it cannot be decoded.
pub fn unknown_variants_are_caught<E: DeserializeOwned + Debug>() {
    let unit = encoded(&Value::Text("AVariantOfTheFuture".to_owned()));
    assert!(
        codec::decode::<E>(&unit).is_ok(),
        "an unknown variant without fields"
    );
}

fn is(key: &Value, name: &str) -> bool {
    matches!(key, Value::Text(text) if text == name)
}

fn encoded(value: &Value) -> Vec<u8> {
    codec::encode(value).unwrap_or_else(|error| panic!("{value:?}: {error}"))
}

fn fields<M: Serialize>(sample: &M) -> Vec<(Value, Value)> {
    let bytes = codec::encode(sample).unwrap_or_else(|error| panic!("the sample: {error}"));
    match codec::decode::<Value>(&bytes) {
        Ok(Value::Map(fields)) => fields,
        other => panic!("the sample is no struct with named fields but {other:?}"),
    }
}

fn decoded<M: DeserializeOwned>(fields: Vec<(Value, Value)>) -> Result<M, codec::CodecError> {
    codec::decode(&encoded(&Value::Map(fields)))
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nil => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                values
                    .iter()
                    .try_for_each(|value| list.serialize_element(value))?;
                list.end()
            }
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                entries
                    .iter()
                    .try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(bytes.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Offer {
        name: String,
        #[serde(default)]
        slots: Option<u32>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[serde(default)]
        name: String,
    }

    #[derive(Debug, Serialize, Deserialize)]
    enum Closed {
        A,
    }

    #[test]
    fn a_type_that_cannot_change_is_found() {
        let offer = || Offer {
            name: "a".to_owned(),
            slots: Some(3),
        };
        fields_come_and_go(&offer(), &["name"]);
        let wrong =
            |required: &'static [&str]| catch_unwind(|| fields_come_and_go(&offer(), required)).is_err();
        assert!(wrong(&[]) && wrong(&["name", "slots"]) && wrong(&["nobody"]));
        let strict = || fields_come_and_go(&Strict { name: String::new() }, &[]);
        assert!(catch_unwind(strict).is_err());
        assert!(catch_unwind(unknown_variants_are_caught::<Closed>).is_err());
        let _ = Closed::A;
    }
}
