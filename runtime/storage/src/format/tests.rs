//! Files that are sound byte by byte and wrong all the same, and codecs that are given noise.

use super::block::{self, BlockKind, End};
use super::codec::{compress, decompress};
use super::header;
use super::writer::FileWriter;
use super::*;
use crate::error::{Result, StorageError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const ALL: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

fn refusal<T: std::fmt::Debug>(result: Result<T>) -> (u64, String) {
    match result.unwrap_err() {
        StorageError::Corrupt {
            path,
            offset,
            problem,
        } => {
            assert_eq!(path, "f");
            (offset, problem)
        }
        other => panic!("{other:?}"),
    }
}

/// A header with other bytes and a checksum that is right.
fn header_with(change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut bytes = Vec::new();
    header::write(&mut bytes, FileKind::State, WriterVersion::current());
    bytes.truncate(16);
    change(&mut bytes);
    let sum = checksum(0, &bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn unknown_versions_and_kinds_are_refused_with_a_remedy() {
    for version in [0, 2, 255] {
        let bytes = header_with(|bytes| bytes[7] = version);
        let (offset, problem) = refusal(header::read("f", &bytes));
        assert_eq!(offset, 7);
        let remedy =
            format!("format version {version} where this build knows 1 only: a newer Hurtig wrote it");
        assert!(problem.starts_with(&remedy), "{problem}");
    }
    let (offset, problem) = refusal(header::read("f", &header_with(|bytes| bytes[8] = 5)));
    assert!(
        offset == 8 && problem.contains("a newer Hurtig may know it"),
        "{problem}"
    );
}

#[test]
fn what_readers_ignore_they_ignore() {
    let bytes = header_with(|bytes| bytes[9..].fill(0xff));
    let (kind, writer) = header::read("f", &bytes).unwrap();
    assert_eq!(
        (kind, writer.to_string()),
        (FileKind::State, "65535.65535.65535".into())
    );
}

/// A file of these blocks and this end, each with a checksum that is right.
fn forged(blocks: &[(BlockKind, &[u8])], change: impl Fn(&mut End)) -> Vec<u8> {
    let mut bytes = header_with(|_| ());
    let mut index_offset = None;
    for (kind, body) in blocks {
        if *kind == BlockKind::Index {
            index_offset.get_or_insert(bytes.len() as u64);
        }
        let offset = bytes.len() as u64;
        block::write(&mut bytes, offset, (*kind, Compression::None, body));
    }
    let mut end = End {
        blocks: blocks.len() as u64,
        index_offset: index_offset.unwrap_or(bytes.len() as u64),
        checksum: checksum(0, &bytes),
    };
    change(&mut end);
    let offset = bytes.len() as u64;
    block::write_end(&mut bytes, offset, end);
    bytes
}

#[test]
fn an_end_that_counts_wrong_is_refused() {
    let blocks = [(BlockKind::Data, &b"abc"[..]), (BlockKind::Index, b"d")];
    let sound = forged(&blocks, |_| ());
    let info = reader::verify("f", &sound).unwrap();
    assert_eq!((info.blocks, info.bytes), (2, sound.len() as u64));
    let changes: [fn(&mut End); 5] = [
        |end| end.blocks += 1,
        |end| end.blocks -= 1,
        |end| end.index_offset += 1,
        |end| end.index_offset = 0,
        |end| end.checksum ^= 1,
    ];
    for change in changes {
        let (offset, problem) = refusal(reader::verify("f", &forged(&blocks, change)));
        assert_eq!(offset, sound.len() as u64 - 44, "{problem}");
        assert!(problem.starts_with("the end expects"), "{problem}");
    }
}

#[test]
fn blocks_out_of_order_are_refused() {
    let (data, index) = ((BlockKind::Data, &b"abc"[..]), (BlockKind::Index, &b"d"[..]));
    let (offset, problem) = refusal(reader::verify("f", &forged(&[data, index, data], |_| ())));
    assert_eq!(
        (offset, &*problem),
        (24 + 23 + 21, "a data block behind the index")
    );
    // A second end within the file.
    let inner = [(BlockKind::End, &[0; 24][..]), data];
    let (offset, _) = refusal(reader::verify("f", &forged(&inner, |_| ())));
    assert_eq!(offset, 24);
    let (offset, problem) = refusal(reader::verify("f", &forged(&[(BlockKind::End, b"abc")], |_| ())));
    assert_eq!(
        (offset, &*problem),
        (24, "expected the end of the file, found End of 3 bytes")
    );
}

#[test]
fn a_length_that_no_block_has_is_refused_before_anything_is_allocated() {
    for (stored, raw) in [(u32::MAX, 1), (1, u32::MAX), (65_537, 65_537)] {
        let mut bytes = forged(&[(BlockKind::Data, b"abc")], |_| ());
        bytes[28..32].copy_from_slice(&stored.to_le_bytes());
        bytes[32..36].copy_from_slice(&raw.to_le_bytes());
        let (offset, problem) = refusal(reader::verify("f", &bytes));
        assert!(
            offset == 24 && problem.contains("more than the 65536 allowed"),
            "{problem}"
        );
    }
}

#[test]
fn blocks_are_full_but_the_last() {
    for length in [0_usize, 1, 65_535, 65_536, 65_537, 131_072, 200_000] {
        let data: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        for compression in ALL {
            let mut file = FileWriter::new(FileKind::Metadata, compression);
            for piece in data.chunks(777) {
                file.write(piece);
            }
            let image = file.finish();
            let info = reader::verify("f", &image.bytes).unwrap();
            assert_eq!(info.blocks as usize, length.div_ceil(65_536));
            assert_eq!(info.checksum, image.checksum);
            assert_eq!(
                reader::data_of("f", &image.bytes, FileKind::Metadata).unwrap(),
                data
            );
        }
    }
}

proptest! {
    #[test]
    fn codecs_give_back_what_they_took(
        raw in prop_oneof![vec(any::<u8>(), 0..500), (any::<u8>(), 0..65_537_usize).prop_map(|(b, n)| vec![b; n])],
        compression in select(ALL.to_vec()),
    ) {
        let mut stored = b"before".to_vec();
        let used = compress(compression, &raw, &mut stored);
        prop_assert!(stored.len() <= 6 + raw.len() && stored.starts_with(b"before"));
        let mut back = vec![1, 2, 3];
        decompress(used, &stored[6..], raw.len(), &mut back).unwrap();
        prop_assert_eq!(back, raw);
    }

    /// Noise under a checksum that is right: an error, or as many bytes as were promised.
    #[test]
    fn noise_is_no_reason_to_panic(
        stored in vec(any::<u8>(), 0..100),
        raw_bytes in 0..65_537_usize,
        compression in select(ALL.to_vec()),
    ) {
        let mut raw = Vec::new();
        if decompress(compression, &stored, raw_bytes, &mut raw).is_ok() {
            prop_assert_eq!(raw.len(), raw_bytes);
        }
    }

    #[test]
    fn a_changed_compressed_block_is_no_reason_to_panic(
        raw in vec(0..4_u8, 100..300),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        compression in select(vec![Compression::Lz4, Compression::Zstd]),
    ) {
        let mut stored = Vec::new();
        let used = compress(compression, &raw, &mut stored);
        let at = at.index(stored.len());
        stored[at] = byte;
        let mut back = Vec::new();
        if decompress(used, &stored, raw.len(), &mut back).is_ok() {
            prop_assert_eq!(back.len(), raw.len());
        }
    }

    #[test]
    fn any_bytes_are_a_file_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let mut file = header_with(|_| ());
        file.extend_from_slice(&bytes);
        let (offset, _) = refusal(reader::verify("f", &file));
        prop_assert!(offset <= file.len() as u64);
    }
}
