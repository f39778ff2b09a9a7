//! Durations and sizes as people write them: `10 s`, `500 ms`, `128 mb`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigValue;

/// Nanoseconds of each unit of time, the largest first; the first word is the one that is written.
const TIME_UNITS: [(u128, &[&str]); 7] = [
    (86_400_000_000_000, &["d", "day", "days"]),
    (3_600_000_000_000, &["h", "hour", "hours"]),
    (60_000_000_000, &["min", "m", "minute", "minutes"]),
    (1_000_000_000, &["s", "sec", "secs", "second", "seconds"]),
    (
        1_000_000,
        &["ms", "milli", "millis", "millisecond", "milliseconds"],
    ),
    (
        1_000,
        &["µs", "us", "micro", "micros", "microsecond", "microseconds"],
    ),
    (1, &["ns", "nano", "nanos", "nanosecond", "nanoseconds"]),
];

/// Bytes of each unit of size, the largest first; the first word is the one that is written.
const SIZE_UNITS: [(u64, &[&str]); 5] = [
    (1 << 40, &["tb", "t", "tib", "tebibytes"]),
    (1 << 30, &["gb", "g", "gib", "gibibytes"]),
    (1 << 20, &["mb", "m", "mib", "mebibytes"]),
    (1 << 10, &["kb", "k", "kib", "kibibytes"]),
    (1, &["b", "byte", "bytes"]),
];

/// Splits `10 s` into its number and its unit, which may be missing.
fn number_and_unit(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim().to_lowercase()))
}

/// Without a unit, milliseconds. The greatest unit is the day; fractions are written in a smaller unit.
impl ConfigValue for Duration {
    fn type_name() -> Cow<'static, str> {
        "duration".into()
    }

    fn expected() -> Cow<'static, str> {
        "a duration such as `10 s`, `500 ms` or `2 min`".into()
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = number_and_unit(text)?;
        let unit = if unit.is_empty() { "ms" } else { unit.as_str() };
        let (nanos, _) = TIME_UNITS.iter().find(|(_, words)| words.contains(&unit))?;
        let total = u128::from(number) * nanos;
        let seconds = u64::try_from(total / 1_000_000_000).ok()?;
        Some(Self::new(seconds, (total % 1_000_000_000) as u32))
    }

    fn text(&self) -> String {
        let nanos = self.as_nanos();
        if nanos == 0 {
            return "0 ms".to_owned();
        }
        let exact = TIME_UNITS.iter().find(|(unit, _)| nanos.is_multiple_of(*unit));
        let (unit, words) = exact.unwrap_or(&TIME_UNITS[6]);
        format!("{} {}", nanos / unit, words[0])
    }
}

/// A number of bytes. Units are powers of 1024: `1 kb` is 1024 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(u64);

impl ByteSize {
    /// This many bytes.
    #[must_use]
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// This many times 1024 bytes.
    #[must_use]
    pub const fn kb(kilobytes: u32) -> Self {
        Self((kilobytes as u64) << 10)
    }

    /// This many times 1024² bytes.
    #[must_use]
    pub const fn mb(megabytes: u32) -> Self {
        Self((megabytes as u64) << 20)
    }

    /// In bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// In bytes, as a length in memory; saturates where memory cannot be that large.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// Without a unit, bytes.
impl ConfigValue for ByteSize {
    fn type_name() -> Cow<'static, str> {
        "size".into()
    }

    fn expected() -> Cow<'static, str> {
        "a size such as `128 mb` or `64 kb`".into()
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = number_and_unit(text)?;
        let unit = if unit.is_empty() { "b" } else { unit.as_str() };
        let (bytes, _) = SIZE_UNITS.iter().find(|(_, words)| words.contains(&unit))?;
        number.checked_mul(*bytes).map(Self)
    }

    fn text(&self) -> String {
        let exact = SIZE_UNITS
            .iter()
            .find(|(unit, _)| self.0 != 0 && self.0.is_multiple_of(*unit));
        let (unit, words) = exact.unwrap_or(&SIZE_UNITS[4]);
        format!("{} {}", self.0 / unit, words[0])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [
            ("10 s", Duration::from_secs(10)),
            ("10s", Duration::from_secs(10)),
            (" 500 MS ", Duration::from_millis(500)),
            ("2 min", Duration::from_secs(120)),
            ("2 minutes", Duration::from_secs(120)),
            ("1 h", Duration::from_secs(3_600)),
            ("3 d", Duration::from_secs(259_200)),
            ("7 µs", Duration::from_micros(7)),
            ("42", Duration::from_millis(42)),
        ] {
            assert_eq!(Duration::parse(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "s",
            "ten s",
            "-1 s",
            "1.5 s",
            "10 parsecs",
            "99999999999999999999 s",
        ] {
            assert_eq!(Duration::parse(text), None, "{text}");
        }
        assert_eq!(Duration::from_millis(1_500).text(), "1500 ms");
        assert_eq!(Duration::from_secs(120).text(), "2 min");
        assert_eq!(Duration::ZERO.text(), "0 ms");
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("128 mb", ByteSize::mb(128)),
            ("128MB", ByteSize::mb(128)),
            ("64 kb", ByteSize::kb(64)),
            ("64k", ByteSize::kb(64)),
            ("1 gib", ByteSize::mb(1_024)),
            ("42", ByteSize::bytes(42)),
        ] {
            assert_eq!(ByteSize::parse(text), Some(expected), "{text}");
        }
        for text in ["", "mb", "-1 kb", "1.5 mb", "1 xb", "99999999999 tb"] {
            assert_eq!(ByteSize::parse(text), None, "{text}");
        }
        assert_eq!(ByteSize::mb(2).to_string(), "2 mb");
        assert_eq!(ByteSize::bytes(1_500).to_string(), "1500 b");
        assert_eq!(ByteSize::default().to_string(), "0 b");
    }

    proptest! {
        #[test]
        fn durations_round_trip(seconds in 0..=u64::from(u32::MAX), nanos in 0..1_000_000_000_u32) {
            let duration = Duration::new(seconds, nanos);
            prop_assert_eq!(Duration::parse(&duration.text()), Some(duration));
        }

        #[test]
        fn sizes_round_trip(bytes: u64) {
            let size = ByteSize::bytes(bytes);
            prop_assert_eq!(ByteSize::parse(&size.text()), Some(size));
        }
    }
}
