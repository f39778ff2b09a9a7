//! Readings of sensors, as lines `id,timestamp_ms,temperature`.

use serde::{Deserialize, Serialize};

/// What a sensor has measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub(crate) sensor: String,
    pub(crate) time: i64,
    pub(crate) temperature: f64,
}

/// A reading of exactly three fields; none when the line is malformed.
pub(crate) fn reading(line: &str) -> Option<Reading> {
    let mut fields = line.split(',');
    let (sensor, time, temperature) = (fields.next()?, fields.next()?, fields.next()?);
    if sensor.is_empty() || fields.next().is_some() {
        return None;
    }
    Some(Reading {
        sensor: sensor.to_owned(),
        time: millis(time)?,
        temperature: finite(temperature)?,
    })
}

/// A time or duration: digits only, below 10^18.
pub(crate) fn millis(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|&time| digits && time < 1_000_000_000_000_000_000)
}

/// A decimal number; Rust's parser would also take words such as `inf` and `nan`.
fn finite(text: &str) -> Option<f64> {
    let numeric = text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    text.parse()
        .ok()
        .filter(|value: &f64| numeric && value.is_finite())
}
