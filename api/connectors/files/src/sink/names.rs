//! The names of parts, and finding them in a folder.

use super::output::{IN_PROGRESS, PENDING};
use hurtig_core::{Error, Result};
use std::fs;
use std::path::Path;

/// What is around `-<subtask>-<counter>` in the name of a part.
#[derive(Clone, Debug)]
pub(super) struct PartNames {
    pub(super) prefix: String,
    pub(super) suffix: String,
}

impl Default for PartNames {
    fn default() -> Self {
        Self {
            prefix: "part".to_owned(),
            suffix: String::new(),
        }
    }
}

/// How far a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No snapshot knows it.
    InProgress,
    /// A snapshot may count on it.
    Pending,
    Visible,
}

/// A part in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundPart {
    /// Its visible name, with the bucket before it.
    pub(super) name: String,
    /// The name that it has, likewise.
    pub(super) file: String,
    pub(super) subtask: u32,
    pub(super) counter: u64,
    pub(super) stage: Stage,
}

impl PartNames {
    pub(super) fn name(&self, subtask: u32, counter: u64) -> String {
        format!("{}-{subtask}-{counter}{}", self.prefix, self.suffix)
    }

    pub(super) fn validate(&self) -> Result<()> {
        let Self { prefix, suffix } = self;
        let plain = |text: &str| !text.contains(['/', '\0']);
        if prefix.is_empty() || prefix.starts_with('.') || !plain(prefix) {
            return Err(Error::user(format!(
                "part prefix {prefix:?} does not begin a visible file's name; use letters, digits, '-' and '_'"
            )));
        }
        if suffix.starts_with(|first: char| first.is_ascii_digit()) || !plain(suffix) {
            return Err(Error::user(format!(
                "part suffix {suffix:?} does not end a file's name behind a number; use something like \".json\""
            )));
        }
        Ok(())
    }

    /// Subtask and counter of a part's visible name.
    pub(super) fn parse(&self, name: &str) -> Option<(u32, u64)> {
        let numbers = name
            .strip_prefix(self.prefix.as_str())?
            .strip_suffix(self.suffix.as_str())?;
        let (subtask, counter) = numbers.strip_prefix('-')?.split_once('-')?;
        Some((subtask.parse().ok()?, counter.parse().ok()?))
    }

    fn found(&self, bucket: &str, file: &str) -> Option<FoundPart> {
        let hidden = file.strip_prefix('.');
        let ended = |ending| hidden.and_then(|name: &str| name.strip_suffix(ending));
        let (name, stage) = match (ended(IN_PROGRESS), ended(PENDING)) {
            (Some(name), _) => (name, Stage::InProgress),
            (_, Some(name)) => (name, Stage::Pending),
            _ => (file, Stage::Visible),
        };
        let (subtask, counter) = self.parse(name)?;
        Some(FoundPart {
            name: join(bucket, name),
            file: join(bucket, file),
            subtask,
            counter,
            stage,
        })
    }

    /// All parts in a folder, and in those below it if it has `buckets`.
    pub(super) fn find(&self, folder: &Path, buckets: bool) -> Result<Vec<FoundPart>> {
        let mut found = Vec::new();
        let mut left = vec![String::new()];
        while let Some(bucket) = left.pop() {
            for (name, is_folder) in entries(&folder.join(&bucket))? {
                if !is_folder {
                    found.extend(self.found(&bucket, &name));
                } else if buckets && !name.starts_with('.') {
                    left.push(join(&bucket, &name));
                }
            }
        }
        Ok(found)
    }
}

/// A bucket's path with a name behind it.
pub(super) fn join(bucket: &str, name: &str) -> String {
    if bucket.is_empty() {
        name.to_owned()
    } else {
        format!("{bucket}/{name}")
    }
}

/// The bucket in a part's name.
pub(super) fn bucket_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(bucket, _)| bucket)
}

/// Names in a folder, and whether each is a folder (a link to one is not).
pub(super) fn entries(folder: &Path) -> Result<Vec<(String, bool)>> {
    let list = || {
        let entries = fs::read_dir(folder)?;
        entries
            .map(|entry| {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                Ok((name, entry.file_type()?.is_dir()))
            })
            .collect::<std::io::Result<_>>()
    };
    let message = || format!("cannot read output folder '{}'", folder.display());
    list().map_err(|e| Error::external(message(), e))
}
