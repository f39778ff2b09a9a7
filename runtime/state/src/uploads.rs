//! What checkpoints have kept of a store's files, so that later ones need not write them again.
//!
//! A checkpoint may name a file again that another one has written, if nobody deletes that file before the new one has
//! ended. When a checkpoint is complete, files that no complete one names are deleted. So a file is named again if the last
//! checkpoint that is known to be complete has named it, and each one since, whichever of them completes.

use std::collections::{BTreeMap, BTreeSet};

/// A file of a store that is kept with checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Where it is kept.
    pub path: String,
    /// A checksum of what is kept there.
    pub checksum: u64,
}

/// The files that checkpoints of one store have named, by the names that the store has for them.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    of: BTreeMap<u64, BTreeMap<String, Upload>>,
}

impl Uploads {
    /// Forgets what will not be named again: checkpoints before the last complete one, and those that were given up.
    pub(crate) fn forget(&mut self, completed: u64, given_up: &BTreeSet<u64>) {
        self.of
            .retain(|checkpoint, _| *checkpoint >= completed && !given_up.contains(checkpoint));
    }

    /// Where a file is kept that stays there, if `completed` is the last checkpoint that is known to be complete.
    pub(crate) fn find(&self, file: &str, completed: u64) -> Option<Upload> {
        let found = self.of.get(&completed)?.get(file)?;
        let since = self.of.range(completed..);
        let mut since = since.map(|(_, named)| named.get(file));
        since.all(|named| named == Some(found)).then(|| found.clone())
    }

    /// What a checkpoint has named. The store does not make a file of the same name again.
    pub(crate) fn named(&mut self, checkpoint: u64, files: BTreeMap<String, Upload>) {
        self.of.insert(checkpoint, files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(files: &[(&str, &str)]) -> BTreeMap<String, Upload> {
        let upload = |path: &str| Upload {
            path: path.to_owned(),
            checksum: 1,
        };
        let files = files.iter();
        files
            .map(|(name, path)| ((*name).to_owned(), upload(path)))
            .collect()
    }

    fn path(uploads: &Uploads, file: &str, completed: u64) -> Option<String> {
        uploads.find(file, completed).map(|upload| upload.path)
    }

    #[test]
    fn a_file_is_named_again_if_all_since_the_last_complete_checkpoint_have_named_it() {
        let mut uploads = Uploads::default();
        uploads.named(1, named(&[("a", "1-a"), ("b", "1-b")]));
        assert_eq!(path(&uploads, "a", 0), None, "nobody says that 1 is complete");
        assert_eq!(path(&uploads, "a", 1).as_deref(), Some("1-a"));
        // One that wrote everything anew: were it complete, what it does not name would be deleted.
        uploads.named(2, named(&[("a", "2-a"), ("b", "1-b")]));
        assert_eq!(path(&uploads, "a", 1), None);
        assert_eq!(path(&uploads, "b", 1).as_deref(), Some("1-b"));
        assert_eq!(path(&uploads, "a", 2).as_deref(), Some("2-a"));
        // One that names nothing at all.
        uploads.named(3, BTreeMap::new());
        assert_eq!(path(&uploads, "b", 1), None);
        assert_eq!(path(&uploads, "b", 3), None);
    }

    #[test]
    fn what_was_given_up_stands_in_nobodys_way() {
        let mut uploads = Uploads::default();
        uploads.named(1, named(&[("a", "1-a")]));
        uploads.named(2, named(&[("a", "2-a")]));
        uploads.forget(1, &BTreeSet::from([2]));
        assert_eq!(path(&uploads, "a", 1).as_deref(), Some("1-a"));
        uploads.named(3, named(&[("a", "1-a")]));
        uploads.forget(3, &BTreeSet::new());
        assert_eq!(uploads.of.len(), 1, "older ones are gone");
        assert_eq!(path(&uploads, "a", 3).as_deref(), Some("1-a"));
    }
}
