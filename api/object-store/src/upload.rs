//! Writes, which happen once, whatever becomes of their answers.
//!
//! A write is conditional: it fails where an object is. A condition that fails does not say whose object that is: when
//! the answer to a write was lost and it was repeated, it is its own. So each write leaves a number of its own with the
//! object, by which it is known again.

use crate::blobs::{CONCURRENT, ObjectBlobs, Objects};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use hurtig_core::ids::random_number;
use hurtig_core::steps::{Step, reached};
use hurtig_storage::{BlobStore, Result, StorageError};
use object_store::path::Path;
use object_store::{Attribute, Attributes, Error, GetOptions, PutMode, PutMultipartOptions, PutOptions};
use std::time::Duration;

/// What the number of a write is called.
const WRITER: &str = "hurtig-writer";

/// How often a write of unknown outcome is made again, beside the repetitions of its requests.
const ATTEMPTS: u32 = 5;

/// The pause before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(100);

/// Creates an object, as [`BlobStore::put_new`].
pub(crate) fn put_new(store: &ObjectBlobs, path: &str, bytes: &[u8]) -> Result<()> {
    let key = store.key(path)?;
    reached(Step::FileWritten);
    upload(store, path, (key, bytes))?;
    reached(Step::FilePublished);
    Ok(())
}

fn upload(store: &ObjectBlobs, path: &str, (key, bytes): (Path, &[u8])) -> Result<()> {
    let writer = format!("{:016x}{:016x}", random_number(), random_number());
    let upload = Upload { key, writer };
    let part = store.limits.part_bytes;
    if bytes.len() as u64 <= part.saturating_mul(2) {
        let (objects, bytes) = (store.objects.clone(), Bytes::copy_from_slice(bytes));
        return store.run(
            ("write", path),
            2,
            async move { upload.whole(&*objects, bytes).await },
        );
    }
    // It would be found at the end as well, when all was sent.
    if store.exists(path)? {
        return Err(StorageError::AlreadyExists {
            path: path.to_owned(),
        });
    }
    let (objects, bytes) = (store.objects.clone(), Bytes::copy_from_slice(bytes));
    let requests = 4 + bytes.len() as u64 / part;
    let part = usize::try_from(part).unwrap_or(usize::MAX);
    store.run(("write", path), requests, async move {
        upload.in_parts(&*objects, bytes, part).await
    })
}

/// One write.
struct Upload {
    key: Path,
    writer: String,
}

impl Upload {
    fn attributes(&self) -> Attributes {
        let name = Attribute::Metadata(WRITER.into());
        Attributes::from_iter([(name, self.writer.clone())])
    }

    async fn whole(&self, objects: &dyn Objects, bytes: Bytes) -> object_store::Result<()> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            let options = PutOptions {
                mode: PutMode::Create,
                attributes: self.attributes(),
                ..PutOptions::default()
            };
            let error = match objects.put_opts(&self.key, bytes.clone().into(), options).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let again = match &error {
                Error::AlreadyExists { .. } => match self.is_there(objects).await? {
                    Some(true) => return Ok(()),
                    Some(false) => false,
                    // Two wrote at the same time, and the other one was given up.
                    None => true,
                },
                // A server that refuses a long body may close the connection before its answer is read.
                Error::Generic { .. } => match self.is_there(objects).await {
                    Ok(Some(true)) => return Ok(()),
                    Ok(Some(false)) => return Err(self.taken(error)),
                    Ok(None) | Err(_) => true,
                },
                _ => false,
            };
            if !again || attempt >= ATTEMPTS {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(())
    }

    /// There is an object of another write, which is what led to this.
    fn taken(&self, error: Error) -> Error {
        Error::AlreadyExists {
            path: self.key.to_string(),
            source: Box::new(error),
        }
    }

    /// Whether there is an object, and then whether it is this write's.
    async fn is_there(&self, objects: &dyn Objects) -> object_store::Result<Option<bool>> {
        let head = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        match objects.get_opts(&self.key, head).await {
            Ok(found) => {
                let writer = found.attributes.get(&Attribute::Metadata(WRITER.into()));
                Ok(Some(writer.is_some_and(|writer| **writer == *self.writer)))
            }
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn in_parts(&self, objects: &dyn Objects, bytes: Bytes, part: usize) -> object_store::Result<()> {
        let options = PutMultipartOptions {
            attributes: self.attributes(),
            ..PutMultipartOptions::default()
        };
        let id = objects.create_multipart_opts(&self.key, options).await?;
        let sent = self.send_parts(objects, &id, (bytes, part)).await;
        let error = match sent {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let outcome = match &error {
            // The parts are gone when they have become an object.
            Error::AlreadyExists { .. }
            | Error::Precondition { .. }
            | Error::NotFound { .. }
            | Error::Generic { .. } => self.is_there(objects).await,
            _ => Ok(None),
        };
        if matches!(outcome, Ok(Some(true))) {
            return Ok(());
        }
        // What cannot be removed now is left to the bucket's rule for such.
        let _ = objects.abort_multipart(&self.key, &id).await;
        match (outcome, error) {
            (Ok(Some(false)), error) => Err(self.taken(error)),
            (_, Error::NotFound { path, source }) => Err(Error::Generic {
                store: "the upload",
                source: format!("the store has lost the parts of '{path}': {source}").into(),
            }),
            (_, error) => Err(error),
        }
    }

    async fn send_parts(
        &self,
        objects: &dyn Objects,
        id: &String,
        (bytes, part): (Bytes, usize),
    ) -> object_store::Result<()> {
        let starts = (0..bytes.len()).step_by(part).enumerate();
        let parts = starts.map(|(index, start)| (index, bytes.slice(start..bytes.len().min(start + part))));
        let sent =
            stream::iter(parts).map(|(index, part)| objects.put_part(&self.key, id, index, part.into()));
        let parts = sent.buffered(CONCURRENT).try_collect().await?;
        objects.complete_multipart(&self.key, id, parts).await.map(drop)
    }
}
