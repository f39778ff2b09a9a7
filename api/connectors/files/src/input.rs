//! Opening a file at a position, through its decompressor.

use hurtig_core::{Error, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// How a file's bytes are packed, by its suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// `.gz` and `.zst`, in any case; everything else is plain.
    pub(crate) fn of(path: &Path) -> Self {
        let suffix = path
            .extension()
            .and_then(|s| s.to_str())
            .map(str::to_ascii_lowercase);
        match suffix.as_deref() {
            Some("gz") => Compression::Gzip,
            Some("zst") => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// A file being read from its start, or from where a seek put it.
pub(crate) struct Input {
    pub(crate) bytes: Box<dyn Read + Send>,
    /// Where it stands; behind it the reader has to drop bytes itself to reach a position.
    pub(crate) position: u64,
}

/// Opens `path` and moves to `position`, if the file can be moved in.
pub(crate) fn open(path: &str, position: u64) -> Result<Input> {
    let failed = |e: std::io::Error| Error::external(format!("cannot read input file '{path}'"), e);
    let mut file = File::open(path).map_err(failed)?;
    let bytes: Box<dyn Read + Send> = match Compression::of(Path::new(path)) {
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(file).map_err(failed)?),
        Compression::None => {
            let seekable = position > 0 && file.metadata().map_err(failed)?.is_file();
            if seekable {
                file.seek(SeekFrom::Start(position)).map_err(failed)?;
                return Ok(Input {
                    bytes: Box::new(file),
                    position,
                });
            }
            Box::new(file)
        }
    };
    Ok(Input { bytes, position: 0 })
}

/// What to say when reading `path` fails at `position`.
pub(crate) fn read_failed(path: &str, position: u64, e: std::io::Error) -> Error {
    let doing = match Compression::of(Path::new(path)) {
        Compression::None => "read",
        Compression::Gzip | Compression::Zstd => "decompress",
    };
    Error::external(
        format!("cannot {doing} input file '{path}' behind byte {position}"),
        e,
    )
}
