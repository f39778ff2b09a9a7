//! Compression of single blocks.

use super::block::MAX_RAW_BYTES;
use serde::{Deserialize, Serialize};

/// Fast rather than small: a checkpoint must not cost what it protects.
const ZSTD_LEVEL: i32 = 1;

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4's block format: very fast.
    #[default]
    Lz4,
    /// Zstandard: smaller, slower.
    Zstd,
}

impl Compression {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    pub(crate) fn of_code(code: u8) -> Option<Self> {
        [Self::None, Self::Lz4, Self::Zstd]
            .into_iter()
            .find(|compression| compression.code() == code)
    }
}

/// Appends `raw` to `out`, compressed if that is shorter, and says how it was compressed.
pub(super) fn compress(compression: Compression, raw: &[u8], out: &mut Vec<u8>) -> Compression {
    let start = out.len();
    let most = match compression {
        Compression::None => 0,
        Compression::Lz4 => lz4_flex::block::get_maximum_output_size(raw.len()),
        Compression::Zstd => zstd::zstd_safe::compress_bound(raw.len()),
    };
    out.resize(start + most, 0);
    let room = &mut out[start..];
    let stored = match compression {
        Compression::None => None,
        Compression::Lz4 => lz4_flex::block::compress_into(raw, room).ok(),
        Compression::Zstd => zstd::bulk::compress_to_buffer(raw, room, ZSTD_LEVEL).ok(),
    };
    let shorter = stored.filter(|stored| *stored < raw.len());
    out.truncate(start + shorter.unwrap_or(0));
    if shorter.is_some() {
        return compression;
    }
    out.extend_from_slice(raw);
    Compression::None
}

/// Makes `raw` the `raw_bytes` that `stored` holds; the lengths were checked against
/// [`MAX_RAW_BYTES`].
///
/// # Errors
/// What is wrong, when `stored` holds anything else.
pub(super) fn decompress(
    compression: Compression,
    stored: &[u8],
    raw_bytes: usize,
    raw: &mut Vec<u8>,
) -> Result<(), String> {
    assert!(raw_bytes <= MAX_RAW_BYTES, "the caller checked the raw length");
    raw.clear();
    raw.resize(raw_bytes, 0);
    let got = match compression {
        Compression::None if stored.len() == raw_bytes => {
            raw.copy_from_slice(stored);
            raw_bytes
        }
        Compression::None => stored.len(),
        Compression::Lz4 => lz4_flex::block::decompress_into(stored, raw).map_err(|e| format!("LZ4: {e}"))?,
        Compression::Zstd => {
            zstd::bulk::decompress_to_buffer(stored, &mut raw[..]).map_err(|e| format!("Zstandard: {e}"))?
        }
    };
    if got == raw_bytes {
        return Ok(());
    }
    Err(format!(
        "the block holds {got} bytes where {raw_bytes} were expected"
    ))
}
