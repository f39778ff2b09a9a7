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
use hurtig_storage::{BlobStore, Fill, Result, StorageError};
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetOptions, MultipartId, PutMode, PutMultipartOptions, PutOptions,
};
use std::sync::Arc;
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

/// Creates an object of bytes that come one after the other, as [`BlobStore::put_filled`].
pub(crate) fn put_filled(store: &ObjectBlobs, path: &str, fill: &mut Fill<'_>) -> Result<bool> {
    let key = store.key(path)?;
    let mut growing = Growing {
        store,
        path,
        upload: Arc::new(Upload::of(key)),
        held: Vec::new(),
        begun: None,
    };
    let filled = fill(&mut |piece| growing.take(piece));
    match filled {
        Ok(true) => growing.finish().map(|()| true),
        unwanted => {
            growing.give_up();
            unwanted
        }
    }
}

fn upload(store: &ObjectBlobs, path: &str, (key, bytes): (Path, &[u8])) -> Result<()> {
    let upload = Upload::of(key);
    let part = store.limits.part_bytes;
    if bytes.len() as u64 <= part.saturating_mul(2) {
        let (objects, bytes) = (store.objects.clone(), Bytes::copy_from_slice(bytes));
        return store.run(
            ("write", path),
            2,
            async move { upload.whole(&*objects, bytes).await },
        );
    }
    not_taken(store, path)?;
    let (objects, bytes) = (store.objects.clone(), Bytes::copy_from_slice(bytes));
    let requests = 4 + bytes.len() as u64 / part;
    let part = usize::try_from(part).unwrap_or(usize::MAX);
    store.run(("write", path), requests, async move {
        upload.in_parts(&*objects, bytes, part).await
    })
}

/// Refuses a path that is taken. That would be found at the end as well, when all was sent.
fn not_taken(store: &ObjectBlobs, path: &str) -> Result<()> {
    match store.exists(path)? {
        false => Ok(()),
        true => Err(StorageError::AlreadyExists {
            path: path.to_owned(),
        }),
    }
}

/// An object of which more is to come. A short one is written at once in the end.
struct Growing<'a> {
    store: &'a ObjectBlobs,
    path: &'a str,
    upload: Arc<Upload>,
    held: Vec<u8>,
    begun: Option<Begun>,
}

/// An upload in parts, and those that were sent.
struct Begun {
    id: MultipartId,
    parts: Vec<PartId>,
}

impl Growing<'_> {
    fn take(&mut self, piece: &[u8]) -> Result<()> {
        self.held.extend_from_slice(piece);
        let part = usize::try_from(self.store.limits.part_bytes).unwrap_or(usize::MAX);
        let enough = part.saturating_mul(CONCURRENT);
        while self.held.len() >= enough {
            let later = self.held.split_off(enough);
            let now = std::mem::replace(&mut self.held, later);
            self.send(now)?;
        }
        Ok(())
    }

    /// Sends whole parts, or what is left.
    fn send(&mut self, bytes: Vec<u8>) -> Result<()> {
        let (store, objects, upload) = (self.store, self.store.objects.clone(), self.upload.clone());
        let part = usize::try_from(store.limits.part_bytes).unwrap_or(usize::MAX);
        let begun = match &mut self.begun {
            Some(begun) => begun,
            none => {
                not_taken(store, self.path)?;
                let (objects, upload) = (objects.clone(), upload.clone());
                let id = store.run(
                    ("write", self.path),
                    1,
                    async move { upload.begin(&*objects).await },
                )?;
                none.insert(Begun {
                    id,
                    parts: Vec::new(),
                })
            }
        };
        let (id, first) = (begun.id.clone(), begun.parts.len());
        let requests = 1 + (bytes.len() / part) as u64;
        let sent = store.run(("write", self.path), requests, async move {
            upload.send(&*objects, &id, (first, bytes.into(), part)).await
        })?;
        begun.parts.extend(sent);
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        if self.begun.is_none() {
            return put_new(self.store, self.path, &self.held);
        }
        let finished = self.finish_parts();
        if finished.is_err() {
            self.give_up();
        }
        finished
    }

    fn finish_parts(&mut self) -> Result<()> {
        let rest = std::mem::take(&mut self.held);
        if !rest.is_empty() {
            self.send(rest)?;
        }
        let Some(Begun { id, parts }) = &self.begun else {
            return Ok(());
        };
        let (id, parts) = (id.clone(), parts.clone());
        let (objects, upload) = (self.store.objects.clone(), self.upload.clone());
        reached(Step::FileWritten);
        self.store.run(("write", self.path), 4, async move {
            match objects.complete_multipart(&upload.key, &id, parts).await {
                Ok(_) => Ok(()),
                Err(error) => upload.outcome(&*objects, &id, error).await,
            }
        })?;
        reached(Step::FilePublished);
        Ok(())
    }

    /// Removes the parts that were sent. What cannot be removed now is left to the bucket's rule for such.
    fn give_up(self) {
        if let Some(Begun { id, .. }) = self.begun {
            let (objects, upload) = (self.store.objects.clone(), self.upload);
            let _ = self.store.run(("delete", self.path), 1, async move {
                objects.abort_multipart(&upload.key, &id).await
            });
        }
    }
}

/// One write.
struct Upload {
    key: Path,
    writer: String,
}

impl Upload {
    fn of(key: Path) -> Self {
        let writer = format!("{:016x}{:016x}", random_number(), random_number());
        Self { key, writer }
    }

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
        let id = self.begin(objects).await?;
        let sent = async {
            let parts = self.send(objects, &id, (0, bytes, part)).await?;
            objects.complete_multipart(&self.key, &id, parts).await.map(drop)
        };
        match sent.await {
            Ok(()) => Ok(()),
            Err(error) => self.outcome(objects, &id, error).await,
        }
    }

    async fn begin(&self, objects: &dyn Objects) -> object_store::Result<MultipartId> {
        let options = PutMultipartOptions {
            attributes: self.attributes(),
            ..PutMultipartOptions::default()
        };
        objects.create_multipart_opts(&self.key, options).await
    }

    /// Sends bytes in parts, of which the first has this index.
    async fn send(
        &self,
        objects: &dyn Objects,
        id: &MultipartId,
        (first, bytes, part): (usize, Bytes, usize),
    ) -> object_store::Result<Vec<PartId>> {
        let starts = (0..bytes.len()).step_by(part).enumerate();
        let parts = starts.map(|(at, start)| (first + at, bytes.slice(start..bytes.len().min(start + part))));
        let sent =
            stream::iter(parts).map(|(index, part)| objects.put_part(&self.key, id, index, part.into()));
        sent.buffered(CONCURRENT).try_collect().await
    }

    /// What a failure has led to: the object may be there, and then all is well. Else nothing is left of it.
    async fn outcome(
        &self,
        objects: &dyn Objects,
        id: &MultipartId,
        error: Error,
    ) -> object_store::Result<()> {
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
        let _ = objects.abort_multipart(&self.key, id).await;
        match (outcome, error) {
            (Ok(Some(false)), error) => Err(self.taken(error)),
            (_, Error::NotFound { path, source }) => Err(Error::Generic {
                store: "the upload",
                source: format!("the store has lost the parts of '{path}': {source}").into(),
            }),
            (_, error) => Err(error),
        }
    }
}
