//! Lines of the Common and the Combined Log Format.
//!
//! ```text
//! host ident user [dd/Mon/yyyy:HH:MM:SS +zzzz] "METHOD target PROTO" status bytes
//!     ["referer" "agent"]
//! ```
//! One space between fields. A quoted field ends at the first quote without a backslash before it.
//! Lines with control characters are malformed.

use hurtig::prelude::*;
use serde::{Deserialize, Serialize};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hit {
    /// Event time in milliseconds.
    pub(crate) time: i64,
    pub(crate) client: Str,
    /// The request's target up to `?`.
    pub(crate) path: Str,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
}

/// The request that a line describes; `None` when the line is malformed.
pub(crate) fn parse(line: &str) -> Option<Hit> {
    if line.bytes().any(|b| b.is_ascii_control()) {
        return None;
    }
    let (client, rest) = word(line)?;
    let (_ident, rest) = word(rest)?;
    let (_user, rest) = word(rest)?;
    let (date, rest) = rest.strip_prefix('[')?.split_once("] ")?;
    let (request, rest) = quoted(rest)?;
    let (status, rest) = rest.strip_prefix(' ')?.split_once(' ')?;
    let (bytes, rest) = match rest.split_once(' ') {
        Some((bytes, rest)) => (bytes, Some(rest)),
        None => (rest, None),
    };
    if let Some(combined) = rest {
        let (_referer, rest) = quoted(combined)?;
        let (_agent, rest) = quoted(rest.strip_prefix(' ')?)?;
        rest.is_empty().then_some(())?;
    }
    Some(Hit {
        time: instant(date)?,
        client: Str::from(client),
        path: Str::from(path(request)?),
        status: number(status, 3, 3).filter(|status| (100..=599).contains(status))? as u16,
        bytes: if bytes == "-" { 0 } else { number(bytes, 1, 15)? },
    })
}

/// A field that is not empty, up to the next space.
fn word(text: &str) -> Option<(&str, &str)> {
    text.split_once(' ').filter(|(field, _)| !field.is_empty())
}

/// The text of a field in double quotes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut escaped = false;
    for (i, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some((&inner[..i], &inner[i + 1..])),
            _ => {}
        }
    }
    None
}

/// The path in `METHOD target PROTO`.
fn path(request: &str) -> Option<&str> {
    let mut parts = request.split(' ');
    let (method, target, protocol) = (parts.next()?, parts.next()?, parts.next()?);
    let method_fits = !method.is_empty()
        && method
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b"-_".contains(&b));
    if parts.next().is_some() || !method_fits || !is_protocol(protocol) {
        return None;
    }
    let path = target.split('?').next()?;
    (!path.is_empty()).then_some(path)
}

/// `HTTP/1` or `HTTP/1.1`
fn is_protocol(text: &str) -> bool {
    match text.strip_prefix("HTTP/").map(str::as_bytes) {
        Some([major]) => major.is_ascii_digit(),
        Some([major, b'.', minor]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    }
}

/// A number of `min` to `max` digits.
fn number(text: &str, min: usize, max: usize) -> Option<u64> {
    let digits = (min..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Milliseconds since 1970 of `dd/Mon/yyyy:HH:MM:SS +zzzz`.
fn instant(date: &str) -> Option<i64> {
    let (local, zone) = date.split_once(' ')?;
    let mut parts = local.split(['/', ':']);
    let mut next = || parts.next();
    let (day, month, year) = (next()?, next()?, next()?);
    let (hour, minute, second) = (next()?, next()?, next()?);
    if local.len() != 20 || &local[2..3] != "/" || &local[6..7] != "/" || next().is_some() {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == month)?;
    let date = jiff::civil::Date::new(
        number(year, 4, 4)?.try_into().ok()?,
        i8::try_from(month + 1).ok()?,
        number(day, 2, 2)?.try_into().ok()?,
    );
    let below = |text, limit| {
        number(text, 2, 2)
            .filter(|n| *n < limit)
            .and_then(|n| i8::try_from(n).ok())
    };
    let time = date
        .ok()?
        .at(below(hour, 24)?, below(minute, 60)?, below(second, 60)?, 0);
    let utc = time
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?
        .timestamp()
        .as_millisecond()
        - offset(zone)?;
    (0..253_402_300_800_000).contains(&utc).then_some(utc)
}

/// Milliseconds east of UTC of `+hhmm`.
fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = zone.get(1..)?;
    number(digits, 4, 4)?;
    let (hours, minutes) = (number(&digits[..2], 2, 2)?, number(&digits[2..], 2, 2)?);
    let minutes = (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)?;
    Some(sign * i64::try_from(minutes).ok()? * 60_000)
}
