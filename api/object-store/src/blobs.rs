//! [`ObjectBlobs`]: a folder of a bucket as a store of checkpoints.

use crate::problem::problem;
use crate::worker::Worker;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use hurtig_storage::path::{check_folder, check_path};
use hurtig_storage::{BlobStore, Fill, Result, StorageError};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How many requests one call has under way.
pub(crate) const CONCURRENT: usize = 4;

/// What an object store must be able to do.
pub trait Objects: ObjectStore + MultipartStore {}

impl<S: ObjectStore + MultipartStore> Objects for S {}

/// A folder of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The bucket.
    pub bucket: String,
    /// The folder in it; empty for all of the bucket.
    pub prefix: String,
}

impl Place {
    /// The place that `s3://bucket/prefix` names.
    ///
    /// # Errors
    /// [`StorageError::BadLocation`] for anything else.
    pub fn parse(location: &str) -> Result<Self> {
        let bad = |problem: &str| StorageError::BadLocation {
            location: location.to_owned(),
            problem: problem.to_owned(),
        };
        let rest = location
            .strip_prefix("s3://")
            .ok_or_else(|| bad("it does not begin with 's3://'"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        if bucket.is_empty() || bucket.contains(['@', ':', '?', '#', '%']) {
            return Err(bad(
                "a bucket's name follows the slashes, without a host, a port or keys",
            ));
        }
        check_folder(prefix).map_err(|error| bad(&error.to_string()))?;
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    /// As [`BlobStores::open`](hurtig_storage::BlobStores::open) takes it.
    pub fn location(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("s3://{}", self.bucket),
            prefix => format!("s3://{}/{prefix}", self.bucket),
        }
    }
}

/// What bounds requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Size of parts: no request carries much more.
    pub part_bytes: u64,
    /// Longest time of a request with its repetitions.
    pub timeout: Duration,
}

/// A folder of a bucket. Objects appear whole, so nothing is ever unfinished but uploads in parts whose writer was
/// killed: these cannot be listed here, and are for the bucket's own rule that removes them after a day.
#[derive(Clone, Debug)]
pub struct ObjectBlobs {
    pub(crate) worker: Arc<Worker>,
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) place: Arc<Place>,
    pub(crate) limits: Limits,
}

impl ObjectBlobs {
    /// The store in a place of `objects`.
    pub fn new(worker: Arc<Worker>, objects: Arc<dyn Objects>, place: Place, limits: Limits) -> Self {
        Self {
            worker,
            objects,
            place: Arc::new(place),
            limits,
        }
    }

    /// Carries a request out, which may take `requests` times the deadline of one.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        (action, path): (&'static str, &str),
        requests: u64,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T> {
        let requests = u32::try_from(requests).unwrap_or(u32::MAX).max(1);
        let limit = self.limits.timeout.saturating_mul(requests);
        match self.worker.run(limit, request) {
            Ok(answer) => answer.map_err(|error| problem(&self.place, action, path, error)),
            Err(source) => Err(StorageError::Io {
                action,
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// An object's key.
    pub(crate) fn key(&self, path: &str) -> Result<Path> {
        check_path(path)?;
        self.parse(path)
    }

    fn parse(&self, path: &str) -> Result<Path> {
        let key = match (self.place.prefix.as_str(), path) {
            ("", path) => path.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, path) => format!("{prefix}/{path}"),
        };
        Path::parse(key).map_err(|_| StorageError::BadPath {
            path: path.to_owned(),
            problem: "object stores cannot hold it",
        })
    }

    /// What a folder has, as keys; without the folder itself, for it may be an object's name too.
    fn list_keys(&self, folder: &str) -> Result<Vec<Path>> {
        check_folder(folder)?;
        let (objects, key) = (self.objects.clone(), self.parse(folder)?);
        self.run(("list", folder), LIST_REQUESTS, async move {
            let found = objects.list(Some(&key));
            found.map_ok(|object| object.location).try_collect().await
        })
    }

    /// The path of a key; `None` for one that is not ours.
    fn path(&self, key: &Path) -> Option<String> {
        let path = match self.place.prefix.as_str() {
            "" => key.as_ref(),
            prefix => key.as_ref().strip_prefix(prefix)?.strip_prefix('/')?,
        };
        check_path(path).ok().map(|()| path.to_owned())
    }

    /// Deletes objects, a thousand in a request where the store can. Errors name `path`.
    fn delete_keys(&self, path: &str, keys: Vec<Path>) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let objects = self.objects.clone();
        let requests = keys.len() as u64;
        self.run(("delete", path), requests, async move {
            let keys = stream::iter(keys.into_iter().map(Ok)).boxed();
            let mut deleted = objects.delete_stream(keys);
            while let Some(deleted) = deleted.next().await {
                match deleted {
                    Ok(_) | Err(Error::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }

    fn head(&self, path: &str) -> Result<ObjectMeta> {
        let (objects, key) = (self.objects.clone(), self.key(path)?);
        self.run(("look for", path), 1, async move { objects.head(&key).await })
    }

    /// A range that the object has, in parts.
    fn fetch(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let (objects, key) = (self.objects.clone(), self.key(path)?);
        let part = self.limits.part_bytes;
        let length = range.end.saturating_sub(range.start);
        let starts = (range.start..range.end).step_by(usize::try_from(part).unwrap_or(usize::MAX));
        let parts: Vec<Range<u64>> = starts.map(|start| start..(start + part).min(range.end)).collect();
        self.run(("read", path), parts.len() as u64, async move {
            let fetched = stream::iter(parts).map(|part| {
                let (objects, key) = (objects.clone(), key.clone());
                async move { objects.get_range(&key, part).await }
            });
            let mut fetched = fetched.buffered(CONCURRENT);
            let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
            while let Some(part) = fetched.try_next().await? {
                bytes.extend_from_slice(&part);
            }
            Ok(bytes)
        })
    }
}

/// How many times the deadline of one a list may take: each answer has a thousand names.
const LIST_REQUESTS: u64 = 10;

/// The beginning of an object, and how long all of it is.
async fn begin(objects: &dyn Objects, key: &Path, most: u64) -> object_store::Result<(Option<Bytes>, u64)> {
    let found = objects.get_opts(key, GetOptions::default()).await?;
    let size = found.meta.size;
    if size > most {
        return Ok((None, size));
    }
    found.bytes().await.map(|bytes| (Some(bytes), size))
}

async fn some_range(objects: &dyn Objects, key: &Path, range: Range<u64>) -> object_store::Result<Bytes> {
    let options = GetOptions {
        range: Some(GetRange::Bounded(range)),
        ..GetOptions::default()
    };
    objects.get_opts(key, options).await?.bytes().await
}

impl BlobStore for ObjectBlobs {
    fn location(&self) -> Option<String> {
        Some(self.place.location())
    }

    fn check(&self) -> Result<()> {
        let (objects, key) = (self.objects.clone(), self.parse("")?);
        let location = self.place.location();
        let looked = self.run(("reach", &location), 1, async move {
            objects.list(Some(&key)).try_next().await.map(drop)
        });
        looked.map_err(|error| match error {
            StorageError::Io { source, .. } => StorageError::Refused {
                location,
                problem: format!(
                    "it cannot be reached: {source}; check `s3.endpoint`, the network, and that there are credentials: \
                     `s3.access-key` and `s3.secret-key`, or what Amazon's tools read"
                ),
            },
            error => error,
        })
    }

    fn put_new(&self, path: &str, bytes: &[u8]) -> Result<()> {
        crate::upload::put_new(self, path, bytes)
    }

    fn put_filled(&self, path: &str, fill: &mut Fill<'_>) -> Result<bool> {
        crate::upload::put_filled(self, path, fill)
    }

    fn get(&self, path: &str) -> Result<Vec<u8>> {
        let (objects, key) = (self.objects.clone(), self.key(path)?);
        let most = self.limits.part_bytes.saturating_mul(2);
        let whole = self.run(
            ("read", path),
            2,
            async move { begin(&*objects, &key, most).await },
        )?;
        match whole {
            (Some(bytes), _) => Ok(bytes.into()),
            (None, size) => self.fetch(path, 0..size),
        }
    }

    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let length = range.end.saturating_sub(range.start);
        if length > 0 && length <= self.limits.part_bytes && i64::try_from(range.end).is_ok() {
            let (objects, key, wanted) = (self.objects.clone(), self.key(path)?, range.clone());
            let read = self.run(("read", path), 1, async move {
                some_range(&*objects, &key, wanted).await
            });
            match read {
                Ok(bytes) => return Ok(bytes.into()),
                Err(error @ (StorageError::NotFound { .. } | StorageError::Refused { .. })) => {
                    return Err(error);
                }
                // Or it begins behind the end.
                Err(error) => match self.head(path)?.size {
                    size if size <= range.start => return Ok(Vec::new()),
                    _ => return Err(error),
                },
            }
        }
        let size = self.head(path)?.size;
        match range.start.min(size)..range.end.min(size) {
            range if range.is_empty() => Ok(Vec::new()),
            range => self.fetch(path, range),
        }
    }

    fn exists(&self, path: &str) -> Result<bool> {
        match self.head(path) {
            Ok(_) => Ok(true),
            Err(StorageError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let keys = self.list_keys(folder)?;
        let mut paths: Vec<String> = keys.iter().filter_map(|key| self.path(key)).collect();
        paths.sort_unstable();
        Ok(paths)
    }

    fn delete(&self, path: &str) -> Result<()> {
        let (objects, key) = (self.objects.clone(), self.key(path)?);
        let deleted = self.run(("delete", path), 1, async move {
            match objects.delete(&key).await {
                Err(Error::NotFound { .. }) => Ok(()),
                deleted => deleted,
            }
        });
        match deleted {
            Err(StorageError::NotFound { .. }) => Ok(()),
            deleted => deleted,
        }
    }

    fn delete_each(&self, paths: &[String]) -> Result<()> {
        let keys: Result<Vec<Path>> = paths.iter().map(|path| self.key(path)).collect();
        self.delete_keys(paths.first().map_or("", String::as_str), keys?)
    }

    fn delete_all(&self, folder: &str) -> Result<()> {
        let keys = self.list_keys(folder)?;
        self.delete_keys(folder, keys)
    }

    fn sweep(&self, folder: &str) -> Result<usize> {
        check_folder(folder).map(|()| 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_buckets_and_folders() {
        let place = |location: &str| Place::parse(location).unwrap();
        for (location, bucket, prefix) in [
            ("s3://b", "b", ""),
            ("s3://b/", "b", ""),
            ("s3://b/x/y/", "b", "x/y"),
        ] {
            let found = place(location);
            assert_eq!((found.bucket.as_str(), found.prefix.as_str()), (bucket, prefix));
            assert_eq!(place(&found.location()), found);
        }
        for bad in [
            "s3://",
            "s3:///x",
            "gs://b/x",
            "s3://b//x",
            "s3://b/../x",
            "s3://key:secret@b/x",
            "/b/x",
        ] {
            let error = Place::parse(bad).unwrap_err();
            assert!(
                matches!(error, StorageError::BadLocation { .. }),
                "{bad}: {error}"
            );
        }
    }
}
