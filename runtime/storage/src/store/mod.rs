//! [`BlobStore`]: immutable objects by path, and the places that hold them.

pub mod conformance;
mod local;
#[cfg(test)]
mod local_tests;
mod memory;
#[cfg(test)]
mod tests;

pub use local::LocalStore;
pub use memory::MemoryStore;

use crate::error::Result;
use std::ops::Range;

/// Hands bytes to what it is given, and says whether an object of them is wanted.
pub type Fill<'a> = dyn FnMut(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> + 'a;

/// Where checkpoint files lie: whole objects by relative path, written once and never changed.
///
/// Every call blocks until it is done, so callers use threads that may block. A *folder* is the part
/// of paths before a slash; the empty folder is the whole store. Paths are checked by
/// [`check_path`](crate::path::check_path), and a bad one is refused with `BadPath`.
///
/// A store from outside implements this trait and passes [`conformance::check`].
pub trait BlobStore: Send + Sync {
    /// Where it is, as [`BlobStores::open`](crate::BlobStores::open) takes it; `None` for one that cannot be
    /// opened a second time.
    fn location(&self) -> Option<String> {
        None
    }

    /// Whether checkpoints can be kept there at all, as far as that can be told without writing: what is wrong is
    /// said before a job runs. A folder that does not exist yet is no reason.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Creates an object. It is whole and durable when this returns; readers never see a part.
    ///
    /// # Errors
    /// `AlreadyExists` when the path is taken; what is there stays as it is. After `Io` the object
    /// may exist or not: the caller deletes it, or reads it back.
    fn put_new(&self, path: &str, bytes: &[u8]) -> Result<()>;

    /// Creates an object of the bytes that `fill` hands to what it is given, as [`Self::put_new`] does; none, and nothing
    /// is left, when it answers that it is not wanted. Says whether it was.
    ///
    /// *Cost*: as long as this is not overridden, all bytes are held in memory.
    ///
    /// # Errors
    /// Those of [`Self::put_new`] and of `fill`.
    fn put_filled(&self, path: &str, fill: &mut Fill<'_>) -> Result<bool> {
        let mut bytes = Vec::new();
        let wanted = fill(&mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        if wanted {
            self.put_new(path, &bytes)?;
        }
        Ok(wanted)
    }

    /// All bytes of an object.
    ///
    /// # Errors
    /// `NotFound`, or `Io`.
    fn get(&self, path: &str) -> Result<Vec<u8>>;

    /// The bytes of `range` that the object has: fewer than asked for when it ends before.
    ///
    /// *Cost*: allocates for bytes that exist, whatever the range says.
    ///
    /// # Errors
    /// `NotFound`, or `Io`.
    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>>;

    /// Whether there is an object.
    ///
    /// # Errors
    /// `Io` when the store cannot tell.
    fn exists(&self, path: &str) -> Result<bool>;

    /// Paths of all objects in a folder and the folders in it, sorted by bytes. A folder that does not
    /// exist has none.
    ///
    /// # Errors
    /// `Io` when a part of it cannot be listed; never a part of the list.
    fn list(&self, folder: &str) -> Result<Vec<String>>;

    /// Deletes an object; it is no error when there is none.
    ///
    /// # Errors
    /// `Io` when it may still be there.
    fn delete(&self, path: &str) -> Result<()>;

    /// [`Self::delete`] for each of several objects, many at once where each would take a request. In no order.
    ///
    /// # Errors
    /// `Io` when some may still be there.
    fn delete_each(&self, paths: &[String]) -> Result<()> {
        paths.iter().try_for_each(|path| self.delete(path))
    }

    /// Deletes all objects of a folder, unfinished ones too, and the folder where there are such.
    ///
    /// # Errors
    /// `Io` when something may still be there.
    fn delete_all(&self, folder: &str) -> Result<()>;

    /// Removes what writers that died left unfinished in a folder, and says how many files that were.
    /// Only for a folder that nobody writes to: the file of a living writer is unfinished too.
    ///
    /// # Errors
    /// `Io` when something may still be there.
    fn sweep(&self, folder: &str) -> Result<usize>;
}
