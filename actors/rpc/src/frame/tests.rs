use super::*;
use crate::fence::{ClusterId, Stamp};
use hurtig_core::ids::JobId;
use proptest::prelude::*;
use std::num::NonZeroU64;
use uuid::Uuid;

fn stamps() -> impl Strategy<Value = Option<Stamp>> {
    let number = (1u64..).prop_map(|number| NonZeroU64::new(number).unwrap());
    (any::<u128>(), any::<u64>(), number, 0..3).prop_map(|(id, incarnation, number, kind)| match kind {
        0 => None,
        1 => Some(Stamp::cluster(
            ClusterId(Uuid::from_u128(id)),
            incarnation,
            number,
        )),
        _ => Some(Stamp::job(JobId::from_u128(id), number)),
    })
}

/// Frames of every kind that keep the rules of theirs.
fn frames() -> impl Strategy<Value = Frame> {
    let body = prop::collection::vec(any::<u8>(), 1..200);
    let numbers = (
        any::<u64>(),
        any::<u64>(),
        1u32..,
        any::<u128>(),
        any::<u64>(),
        1u16..,
    );
    let names = ("[a-z0-9./_-]{1,64}", "[a-z]{1,64}");
    let shape = (0usize..13, 0usize..3, any::<bool>());
    (body, numbers, names, stamps(), shape).prop_map(|(body, numbers, names, stamp, (kind, lane, more))| {
        let kind = Kind::ALL[kind];
        let (sequence, id, timeout_ms, trace, span, version) = numbers;
        let mut header = Header::new(if kind.is_handshake() { 0 } else { version }, kind, 0);
        header.sequence = sequence;
        header.id = if kind.has_id() { id } else { 0 };
        if kind.has_lane() {
            header.lane = Lane::ALL[lane];
        }
        if kind == Kind::Ask {
            header.timeout_ms = timeout_ms;
        }
        if kind.has_names() {
            header.stamp = stamp;
            header.trace = TraceContext { trace, span };
            (header.endpoint, header.message) = names;
        }
        header.more = more && (kind.may_continue() || kind == Kind::Chunk);
        let body = match (kind.has_body(), header.more) {
            (false, _) => vec![],
            (true, true) => body.repeat(MAX_FRAME_BODY)[..MAX_FRAME_BODY].to_vec(),
            (true, false) => body,
        };
        if kind != Kind::Chunk {
            header.total = u32::try_from(body.len()).unwrap() + u32::from(header.more);
        }
        Frame { header, body }
    })
}

fn bytes_of(frames: &[Frame]) -> Vec<u8> {
    let mut out = Vec::new();
    frames
        .iter()
        .for_each(|frame| encode_frame(&frame.header, &frame.body, &mut out));
    out
}

/// Everything that comes of bytes which arrive in pieces of these lengths.
fn feed(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Frame>, FrameError> {
    let (mut decoder, mut frames, mut rest) = (FrameDecoder::new(), Vec::new(), bytes);
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let (piece, behind) =
            rest.split_at(cuts.next().map_or(rest.len(), |cut| (*cut).clamp(1, rest.len())));
        rest = behind;
        decoder.push(piece);
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
        assert!(decoder.waiting() < HEADER_LEN + 2 * MAX_NAME + MAX_FRAME_BODY);
    }
    Ok(frames)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut(
        sent in prop::collection::vec(frames(), 1..5),
        cuts in prop::collection::vec(1usize..70_000, 1..5),
    ) {
        prop_assert_eq!(feed(&bytes_of(&sent), &cuts), Ok(sent));
    }

    /// A checksum covers every bit, so no changed frame passes, whatever the bit says.
    #[test]
    fn a_changed_bit_is_found(frame in frames(), place in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = bytes_of(std::slice::from_ref(&frame));
        bytes[place.index(frame_len(&frame))] ^= 1u8 << bit;
        // A length that grew makes the decoder wait for bytes that would not come.
        let passed = feed(&bytes, &[]).map(|frames| frames.len());
        prop_assert!(passed.is_err() || passed == Ok(0), "{:?}", passed);
    }

    #[test]
    fn a_truncated_frame_is_waited_for(frame in frames(), place in any::<prop::sample::Index>()) {
        let bytes = bytes_of(std::slice::from_ref(&frame));
        prop_assert_eq!(feed(&bytes[..place.index(bytes.len())], &[7]), Ok(vec![]));
    }

    #[test]
    fn random_bytes_are_no_frame_and_no_panic(
        noise in prop::collection::vec(any::<u8>(), 0..400),
        begins_well in any::<bool>(),
    ) {
        let bytes = if begins_well { [&MAGIC[..], &noise].concat() } else { noise };
        prop_assert!(feed(&bytes, &[3]).map_or(true, |frames| frames.is_empty()));
    }

    /// With checksums made right again, so that the checks behind them are reached.
    #[test]
    fn whatever_a_header_says_it_keeps_the_rules_or_is_refused(
        frame in frames(),
        changes in prop::collection::vec((4usize..CHECKED_LEN, any::<u8>()), 1..4),
    ) {
        let mut bytes = bytes_of(std::slice::from_ref(&frame));
        changes.iter().for_each(|(at, to)| bytes[*at] = *to);
        repair(&mut bytes);
        if let Ok(frames) = feed(&bytes, &[]) {
            prop_assert_eq!(bytes_of(&frames), &bytes[..bytes_of(&frames).len()]);
        }
    }
}

fn frame_len(frame: &Frame) -> usize {
    HEADER_LEN + frame.header.endpoint.len() + frame.header.message.len() + frame.body.len()
}

/// Writes the checksums that the bytes should have, where they are long enough.
fn repair(bytes: &mut [u8]) {
    let names_end = HEADER_LEN + usize::from(bytes[9]) + usize::from(bytes[10]);
    let Some(names) = bytes.get(HEADER_LEN..names_end) else {
        return;
    };
    let head = encode::header_checksum(&bytes[..CHECKED_LEN], names);
    bytes[96..104].copy_from_slice(&head.to_le_bytes());
    let length = u32::from_le_bytes(bytes[12..16].try_into().unwrap());
    let body_end = names_end + usize::try_from(length).unwrap();
    let Some(body) = bytes.get(names_end..body_end) else {
        return;
    };
    let sum = xxhash_rust::xxh3::xxh3_64_with_seed(body, head);
    bytes[104..112].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn the_bytes_are_those_of_the_page() {
    let mut header = Header::new(1, Kind::Ask, 0x0102);
    header.lane = Lane::Bulk;
    header.sequence = 3;
    header.total = 2;
    header.timeout_ms = 10_000;
    let number = NonZeroU64::new(7).unwrap();
    header.stamp = Some(Stamp::cluster(ClusterId(Uuid::from_u128(0xAB)), 5, number));
    header.trace = TraceContext { trace: 1, span: 2 };
    (header.endpoint, header.message) = ("rm".to_owned(), "reg".to_owned());
    let body = vec![0x91, 0xC0];
    let bytes = bytes_of(&[Frame { header, body }]);
    let expected = "48525043 0100 04 02 00 02 03 01 02000000 0300000000000000 0201000000000000 02000000 10270000 \
                    000000000000000000000000000000ab 0500000000000000 0700000000000000 \
                    00000000000000000000000000000001 0200000000000000";
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&bytes[..CHECKED_LEN]), expected.replace(' ', ""));
    assert_eq!(&bytes[HEADER_LEN..], b"rmreg\x91\xC0");
}

#[test]
fn errors_are_said_again_and_hold_no_bytes() {
    let mut decoder = FrameDecoder::new();
    decoder.push(b"GET / HTTP/1.1");
    assert_eq!(decoder.next_frame(), Err(FrameError::Magic));
    decoder.push(b"HRPC");
    assert_eq!(decoder.next_frame(), Err(FrameError::Magic));
}

#[test]
fn a_body_that_is_too_long_is_refused_before_it_comes() {
    let frame = Frame {
        header: Header::new(1, Kind::Ping, 1),
        body: vec![],
    };
    let mut bytes = bytes_of(&[frame]);
    bytes[12..16].copy_from_slice(&65_537u32.to_le_bytes());
    repair(&mut bytes);
    assert_eq!(feed(&bytes, &[]), Err(FrameError::TooLong(65_537)));
}
