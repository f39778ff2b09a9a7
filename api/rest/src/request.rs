//! What requests say, read with errors that a client understands.

use crate::error::RestError;
use hurtig_core::ids::{JobId, VertexId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use std::str::FromStr;

/// Digits of an id.
const DIGITS: usize = 32;

/// A job's id, from a path.
pub(crate) fn job_id(text: &str) -> Result<JobId, RestError> {
    let id = text.parse().ok().filter(|_| is_id(text));
    id.ok_or_else(|| {
        RestError::bad_request(format!("'{text}' is no job id: {DIGITS} hexadecimal digits are"))
    })
}

/// A vertex's id, from a path.
pub(crate) fn vertex_id(text: &str) -> Result<VertexId, RestError> {
    let id = text.parse().ok().filter(|_| is_id(text));
    id.ok_or_else(|| {
        RestError::bad_request(format!(
            "'{text}' is no vertex id: {DIGITS} hexadecimal digits are"
        ))
    })
}

/// A number, from a path or a query.
pub(crate) fn number<T: FromStr>(what: &str, text: &str) -> Result<T, RestError> {
    let bad = || RestError::bad_request(format!("'{text}' is no {what}: a number from 0 is"));
    text.parse().map_err(|_| bad())
}

/// The id of a request whose outcome is asked for later.
pub(crate) fn trigger_id(text: &str) -> Result<String, RestError> {
    match is_id(text) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(RestError::bad_request(format!(
            "'{text}' is no trigger id: {DIGITS} hexadecimal digits are"
        ))),
    }
}

/// Whether a text is the id of something.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A field that is null is one that says nothing: some clients name them all.
pub(crate) fn or_default<'de, D, T>(field: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(field).map(Option::unwrap_or_default)
}

/// A body of JSON; without one, what is meant when nothing is said.
pub(crate) fn body<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<T, RestError> {
    match bytes.is_empty() {
        true => Ok(T::default()),
        false => serde_json::from_slice(bytes)
            .map_err(|error| RestError::bad_request(format!("the body is not what is expected: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_32_digits() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(job_id(id).unwrap().to_string(), id);
        assert_eq!(trigger_id(&id.to_uppercase()).unwrap(), id);
        for wrong in ["", "zzz", &id[1..], &format!("{id}0"), &id.replace('a', "-")] {
            assert!(job_id(wrong).is_err() && trigger_id(wrong).is_err(), "{wrong}");
        }
    }
}
