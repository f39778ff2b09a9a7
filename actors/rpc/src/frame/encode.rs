//! Frames into bytes.

use super::{CHECKED_LEN, HEADER_LEN, Header, MAGIC, MAX_FRAME_BODY};
use crate::fence::{Scope, Stamp};
use crate::message::is_name;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Writes a frame behind what is in `out`.
///
/// # Panics
/// When the header breaks a rule of its kind: a bug of the caller, who would make the peer end the connection.
pub fn encode_frame(header: &Header, body: &[u8], out: &mut Vec<u8>) {
    assert!(
        body.len() <= MAX_FRAME_BODY,
        "a body of {} bytes in one frame",
        body.len()
    );
    let names = [&header.endpoint, &header.message];
    assert!(
        names.iter().all(|name| name.is_empty() || is_name(name)),
        "names {names:?}"
    );
    let checked = header.check(body.len());
    assert!(checked.is_ok(), "{checked:?} in {header:?}");
    let start = out.len();
    fixed(header, body.len(), out);
    debug_assert_eq!(out.len() - start, CHECKED_LEN);
    let (fixed_end, names_start) = (start + CHECKED_LEN, start + HEADER_LEN);
    out.resize(names_start, 0);
    names
        .iter()
        .for_each(|name| out.extend_from_slice(name.as_bytes()));
    let head = header_checksum(&out[start..fixed_end], &out[names_start..]);
    out[fixed_end..fixed_end + 8].copy_from_slice(&head.to_le_bytes());
    out[fixed_end + 8..names_start].copy_from_slice(&xxh3_64_with_seed(body, head).to_le_bytes());
    out.extend_from_slice(body);
}

/// `xxh3(0, fixed part, names)`.
pub(super) fn header_checksum(fixed: &[u8], names: &[u8]) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(fixed);
    hasher.update(names);
    hasher.digest()
}

/// The bytes that the first checksum covers, without the names.
#[expect(
    clippy::cast_possible_truncation,
    reason = "lengths were checked: names 64, bodies 65,536"
)]
fn fixed(header: &Header, body: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&header.version.to_le_bytes());
    out.extend_from_slice(&[
        header.kind.number(),
        header.lane.number(),
        u8::from(header.more),
        header.endpoint.len() as u8,
        header.message.len() as u8,
        scope_number(header.stamp),
    ]);
    out.extend_from_slice(&(body as u32).to_le_bytes());
    out.extend_from_slice(&header.sequence.to_le_bytes());
    out.extend_from_slice(&header.id.to_le_bytes());
    out.extend_from_slice(&header.total.to_le_bytes());
    out.extend_from_slice(&header.timeout_ms.to_le_bytes());
    let (id, incarnation, number) = header.stamp.map_or((0, 0, 0), |Stamp { scope, token }| {
        (scope_id(scope), token.incarnation, token.number.get())
    });
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&incarnation.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&header.trace.trace.to_be_bytes());
    out.extend_from_slice(&header.trace.span.to_le_bytes());
}

fn scope_number(stamp: Option<Stamp>) -> u8 {
    match stamp.map(|stamp| stamp.scope) {
        None => 0,
        Some(Scope::Cluster(_)) => 1,
        Some(Scope::Job(_)) => 2,
    }
}

fn scope_id(scope: Scope) -> u128 {
    match scope {
        Scope::Cluster(id) => id.0.as_u128(),
        Scope::Job(id) => id.0.as_u128(),
    }
}
