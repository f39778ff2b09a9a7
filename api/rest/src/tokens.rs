//! Tokens of callers, from a file that is read again when it changes.
//!
//! Only hashes of tokens are kept, and no token is ever printed: an error names its line.

use crate::access::Role;
use crate::config::RestConfigError;
use hurtig_core::time::{Clock, Time};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::{File, Metadata};
use std::hint::black_box;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bytes of the file.
const MAX_FILE: u64 = 1 << 20;
/// Characters that a token must have: what is shorter can be guessed.
const MIN_TOKEN: usize = 32;
/// Characters that a token may have.
const MAX_TOKEN: usize = 1_024;
/// How often it is looked whether the file has changed.
const LOOK: Duration = Duration::from_secs(1);
/// What others than the owner and its group must not be allowed, and its group not to write.
const TOO_OPEN: u32 = 0o027;

type Hash = [u8; 32];

/// Who has proven to be whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) role: Role,
}

struct Entry {
    hash: Hash,
    caller: Caller,
}

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

struct Known {
    entries: Vec<Entry>,
    /// `None`: what is there could not be used, which was said.
    stamp: Option<Stamp>,
    looked: Time,
}

/// The tokens of a file.
pub(crate) struct Tokens {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// # Errors
    /// When the file cannot be read, may be read by others, or has a line that is none.
    pub(crate) fn open(path: PathBuf, clock: Arc<dyn Clock>) -> Result<Self, RestConfigError> {
        let (stamp, entries) = read(&path)?;
        let known = Known {
            entries,
            stamp: Some(stamp),
            looked: clock.now(),
        };
        Ok(Self {
            path,
            clock,
            known: Mutex::new(known),
        })
    }

    /// Whose token that is.
    pub(crate) fn caller(&self, token: &str) -> Option<Caller> {
        let presented: Hash = Sha256::digest(token.as_bytes()).into();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.look(&mut known);
        let mut found = None;
        // All are compared, so that it takes as long wherever the token stands.
        for entry in &known.entries {
            if same(&entry.hash, &presented) {
                found = Some(entry.caller.clone());
            }
        }
        found
    }

    /// Reads the file again if it has changed. What cannot be used changes nothing: a slip of an editor must not lock everybody out.
    fn look(&self, known: &mut Known) {
        let now = self.clock.now();
        if now.since(known.looked) < LOOK {
            return;
        }
        known.looked = now;
        let stamp = std::fs::metadata(&self.path)
            .ok()
            .map(|metadata| Stamp::of(&metadata));
        if stamp == known.stamp {
            return;
        }
        match read(&self.path) {
            Ok((stamp, entries)) => {
                tracing::info!(count = entries.len(), "the tokens of callers were read again");
                (known.stamp, known.entries) = (Some(stamp), entries);
            }
            Err(error) => {
                if known.stamp.take().is_some() {
                    tracing::error!(%error, "the tokens of callers stay as they were");
                }
            }
        }
    }
}

/// Takes as long wherever they differ.
fn same(one: &Hash, other: &Hash) -> bool {
    let differences = (0..one.len()).fold(0, |all, at| all | (one[at] ^ other[at]));
    black_box(differences) == 0
}

fn read(path: &PathBuf) -> Result<(Stamp, Vec<Entry>), RestConfigError> {
    let name = path.display().to_string();
    let failed = |source: io::Error| RestConfigError::TokenFile {
        file: name.clone(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.mode() & TOO_OPEN != 0 {
        return Err(RestConfigError::OpenTokenFile { file: name });
    }
    let mut text = String::new();
    let read = file
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if read as u64 > MAX_FILE {
        let limit = MAX_FILE;
        return Err(RestConfigError::LongTokenFile { file: name, limit });
    }
    let mut entries: Vec<Entry> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let wrong = |problem: &'static str| RestConfigError::Token {
            file: name.clone(),
            line: at + 1,
            problem,
        };
        let Some(entry) = entry(line).map_err(wrong)? else {
            continue;
        };
        if entries.iter().any(|known| known.hash == entry.hash) {
            return Err(wrong("this token stands on an earlier line"));
        }
        entries.push(entry);
    }
    match entries.is_empty() {
        true => Err(RestConfigError::NoTokens { file: name }),
        false => Ok((Stamp::of(&metadata), entries)),
    }
}

/// A line of the file; `None` for one that says nothing.
fn entry(line: &str) -> Result<Option<Entry>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let [role, name, token] = words[..] else {
        return Err("a line has three words: a role, a name and a token");
    };
    let role = Role::parse(role).ok_or("the first word must be `viewer`, `operator` or `admin`")?;
    let hash = match token.strip_prefix("sha256:") {
        Some(digits) => hash(digits).ok_or("after `sha256:` there must be 64 hexadecimal digits")?,
        None if !(MIN_TOKEN..=MAX_TOKEN).contains(&token.len())
            || !token.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            return Err(
                "a token has 32 to 1024 visible characters of ASCII, as `openssl rand -hex 32` writes",
            );
        }
        None => Sha256::digest(token.as_bytes()).into(),
    };
    let name = name.to_owned();
    Ok(Some(Entry {
        hash,
        caller: Caller { name, role },
    }))
}

fn hash(digits: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::time::ManualClock;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    const VIEWER: &str = "viewer-token-with-at-least-32-characters";
    const ADMIN: &str = "admin-token-with-at-least-32-characters";
    /// `printf %s hashed-token-with-at-least-32-characters | sha256sum`
    const HASHED: &str = "0b6f5c4e6a4b8b3d";

    fn write(path: &Path, text: &str, mode: u32) {
        // As editors do it: another file in its place.
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(mode)).unwrap();
        fs::rename(&new, path).unwrap();
    }

    fn refused(text: &str, mode: u32) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        write(&path, text, mode);
        let error = Tokens::open(path, ManualClock::new()).unwrap_err().to_string();
        assert!(!error.contains(VIEWER) && !error.contains("short"), "{error}");
        error
    }

    #[test]
    fn tokens_are_known_by_their_hashes_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, clock) = (dir.path().join("tokens"), ManualClock::new());
        let hashed: String = Sha256::digest(HASHED)
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let text = format!("# who\n\nviewer board {VIEWER}\n  operator ops sha256:{hashed}\n");
        write(&path, &text, 0o640);
        let tokens = Tokens::open(path.clone(), clock.clone()).unwrap();
        let role = |token: &str| tokens.caller(token).map(|caller| (caller.name, caller.role));
        assert_eq!(role(VIEWER), Some(("board".to_owned(), Role::Viewer)));
        assert_eq!(role(HASHED), Some(("ops".to_owned(), Role::Operator)));
        for wrong in [
            "",
            "x",
            &VIEWER[1..],
            &VIEWER.to_uppercase(),
            &hashed,
            &format!("sha256:{hashed}"),
        ] {
            assert!(role(wrong).is_none(), "{wrong}");
        }
        assert!(!format!("{tokens:?}").contains(VIEWER));
        // Another file counts within a second; a broken one does not count.
        write(&path, &format!("admin root {ADMIN}"), 0o600);
        assert!(role(ADMIN).is_none() && role(VIEWER).is_some());
        clock.advance(LOOK);
        assert!(role(ADMIN).is_some() && role(VIEWER).is_none());
        for broken in ["admin root", "", "admin root short"] {
            write(&path, broken, 0o600);
            clock.advance(LOOK);
            assert!(role(ADMIN).is_some(), "{broken}");
        }
        fs::remove_file(&path).unwrap();
        clock.advance(LOOK);
        assert!(role(ADMIN).is_some());
        write(&path, &format!("viewer board {VIEWER}"), 0o600);
        clock.advance(LOOK);
        assert!(role(ADMIN).is_none() && role(VIEWER).is_some());
    }

    #[test]
    fn files_that_cannot_be_trusted_are_refused_with_the_line() {
        let good = format!("viewer board {VIEWER}");
        for mode in [0o644, 0o620, 0o604, 0o777] {
            assert!(refused(&good, mode).contains("chmod 600"), "{mode:o}");
        }
        assert!(refused("# nothing", 0o600).contains("no token"));
        // A token behind the limit would not be known, and nobody would learn why.
        let long = format!("{good}\n{}\nadmin root {ADMIN}\n", "#".repeat(1 << 20));
        assert!(refused(&long, 0o600).contains("1048576 bytes"));
        let at_2 = |line: &str| {
            let said = refused(&format!("{good}\n{line}"), 0o600);
            assert!(said.contains("tokens:2:"), "{said}");
            said
        };
        assert!(at_2("viewer board").contains("three words"));
        assert!(at_2(&format!("root me {ADMIN}")).contains("`operator`"));
        assert!(at_2("viewer me short").contains("openssl"));
        assert!(at_2("viewer me sha256:12").contains("64"));
        assert!(at_2(&good).contains("earlier line"));
    }
}
