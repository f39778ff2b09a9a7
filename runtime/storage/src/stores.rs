//! [`BlobStores`]: which stores a process can open, by the scheme of their location.
//!
//! A store of another kind than a directory lives in a crate of its own, which brings an [`OpenStore`];
//! who builds the program decides which ones there are, and hands them on as a value.

use crate::error::{Result, StorageError};
use crate::path::scheme_of;
use crate::store::{BlobStore, LocalStore};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Opens the stores of one scheme.
pub trait OpenStore: Send + Sync {
    /// Opens the store at a location. Nothing is read, so that a place that cannot be reached is no error
    /// yet; [`BlobStore::check`] finds out.
    ///
    /// # Errors
    /// [`StorageError::BadLocation`] for a location that cannot be, or settings that it lacks.
    fn open(&self, location: &str) -> Result<Arc<dyn BlobStore>>;
}

/// The stores that can be opened: directories, and what was added.
#[derive(Clone, Default)]
pub struct BlobStores {
    schemes: BTreeMap<String, Arc<dyn OpenStore>>,
}

impl BlobStores {
    /// Directories only.
    pub fn local() -> Self {
        Self::default()
    }

    /// The same with stores whose locations begin with `scheme`, as `s3` in `s3://bucket/folder`.
    #[must_use]
    pub fn with(mut self, scheme: &str, opener: Arc<dyn OpenStore>) -> Self {
        self.schemes.insert(scheme.to_owned(), opener);
        self
    }

    /// Opens the store at a plain path, a `file:///` URL, or a URL of a scheme that was added.
    ///
    /// # Errors
    /// [`StorageError::BadLocation`] for what names no store.
    pub fn open(&self, location: &str) -> Result<Arc<dyn BlobStore>> {
        let Some(scheme) = scheme_of(location).filter(|scheme| *scheme != "file") else {
            return Ok(Arc::new(LocalStore::open(location)?));
        };
        match self.schemes.get(scheme) {
            Some(opener) => opener.open(location),
            None => Err(self.unknown(location, scheme)),
        }
    }

    fn unknown(&self, location: &str, scheme: &str) -> StorageError {
        let known = self.schemes.keys().map(|known| format!(", '{known}'"));
        let without = match scheme {
            "s3" => "; this program was built without the feature 's3' of the crate 'hurtig'",
            _ => "",
        };
        StorageError::BadLocation {
            location: location.to_owned(),
            problem: format!(
                "there is no scheme '{scheme}', only 'file'{}{without}",
                known.collect::<String>()
            ),
        }
    }
}

impl fmt::Debug for BlobStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.schemes.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    struct Opener;

    impl OpenStore for Opener {
        fn open(&self, _: &str) -> Result<Arc<dyn BlobStore>> {
            Ok(Arc::new(MemoryStore::new()))
        }
    }

    #[test]
    fn the_scheme_says_who_opens() {
        let stores = BlobStores::local().with("mem", Arc::new(Opener));
        assert_eq!(stores.open("mem://x/y").unwrap().location(), None);
        for (location, path) in [("/a/b", "/a/b"), ("file:///a", "/a"), ("/a/mem:", "/a/mem:")] {
            assert_eq!(stores.open(location).unwrap().location().unwrap(), path);
        }
        let refused = |location| stores.open(location).err().unwrap().to_string();
        let error = refused("gs://bucket/x");
        assert!(
            error.contains("'gs://bucket/x'") && error.contains("only 'file', 'mem'"),
            "{error}"
        );
        let error = refused("s3://bucket/x");
        assert!(error.contains("without the feature 's3'"), "{error}");
    }
}
