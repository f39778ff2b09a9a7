//! Who needs which blob, and how one that nobody needs is deleted.

use super::codec::Stored;
use super::error::Failure;
use super::model::{BlobReference, BlobState, Digest};
use super::tokens::{LeaderToken, Token};
use super::{Records, Write, Written, encode_new, unchanged};
use crate::kv::{Change, Guard, Listing, Revision};
use hurtig_core::ids::JobId;
use std::collections::{BTreeMap, BTreeSet};

/// What was known of a blob before it was stored. It must still hold when somebody refers to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reclaim {
    digest: Digest,
    seen: Option<Stored<BlobState>>,
}

/// Which blobs are needed.
#[derive(Clone, Debug, Default)]
pub struct BlobsInUse {
    /// By somebody.
    pub named: BTreeSet<Digest>,
    /// Those that are being deleted, or were lately.
    pub states: BTreeMap<Digest, BlobState>,
}

/// A blob whose file may be deleted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condemned {
    /// Which one.
    pub digest: Digest,
    revision: Revision,
}

/// Who needs what a job record names.
pub(super) fn job_owner(job: JobId) -> String {
    format!("job-{job}")
}

/// Who needs what a result names.
pub(super) fn result_owner(job: JobId) -> String {
    format!("result-{job}")
}

/// Who needs what an end names that has begun.
pub(super) fn ending_owner(job: JobId) -> String {
    format!("ending-{job}")
}

impl Reclaim {
    /// Which blob.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl Records {
    /// A write whose record names blobs that have been stored since `stored`: it takes effect only if none of them was condemned since, and
    /// they have an owner from then on.
    pub(super) fn refer_from<'a, 'b>(
        &self,
        mut write: Write<'a>,
        stored: impl IntoIterator<Item = &'b Reclaim>,
        owner: &str,
        since_ms: i64,
    ) -> Result<Write<'a>, Failure> {
        for Reclaim { digest, seen } in stored {
            let state = self.keys.blob_state(*digest);
            let key = self.keys.blob_references(*digest).join(owner);
            write = write.when(unchanged(&state, seen.as_ref()));
            if seen.is_some() {
                write = write.delete(state);
            }
            let reference = encode_new(&key, &BlobReference { since_ms })?;
            write.changes.push(Change::Put(key, reference, None));
        }
        Ok(write)
    }

    /// Why a write was refused, if it was because one of these blobs is being deleted, or was since.
    pub(super) fn not_stored<'a>(
        &self,
        stored: impl IntoIterator<Item = &'a Reclaim>,
        seen: &Listing,
    ) -> Option<Failure> {
        stored.into_iter().find_map(|reclaim| {
            let there = seen.get(&self.keys.blob_state(reclaim.digest));
            let before = reclaim.seen.as_ref().map(|seen| seen.modified);
            let as_before = there.map(|entry| entry.modified) == before;
            (!as_before).then(|| Failure::Condemned(reclaim.digest.to_string()))
        })
    }

    /// All blobs that a record names or that have an owner, and the states of blobs that are not simply there.
    ///
    /// # Errors
    /// When one record cannot be read: then nobody knows what is needed.
    pub async fn blobs_in_use(&self) -> Result<BlobsInUse, Failure> {
        let mut named = self.referenced_blobs().await?;
        for view in self.jobs().await?.values() {
            named.extend(view.record.iter().flat_map(|record| record.value.blobs()));
            let ends = view.ending.iter().chain(&view.result);
            named.extend(ends.filter_map(|end| end.value.archive));
        }
        named.extend(self.artifacts().await?.values().map(|artifact| artifact.digest));
        let mut states = BTreeMap::new();
        let above = self.keys.blobs();
        for entry in &self.store.list(&above).await?.entries {
            let below = entry
                .key
                .as_str()
                .strip_prefix(above.as_str())
                .unwrap_or_default();
            let mut parts = below.split('/').skip(1);
            if let (Some(Ok(digest)), Some("state")) = (parts.next().map(str::parse), parts.next()) {
                states.insert(digest, Stored::<BlobState>::read(entry)?.value);
            }
        }
        Ok(BlobsInUse { named, states })
    }

    /// Called before a blob is stored, even if its file is there already.
    ///
    /// # Errors
    /// [`Failure::Condemned`] while it is being deleted: try again soon.
    pub async fn before_storing(&self, digest: Digest) -> Result<Reclaim, Failure> {
        let seen = self.read::<BlobState>(&self.keys.blob_state(digest)).await?;
        match seen.as_ref().map(|stored| stored.value) {
            Some(BlobState::Condemned { .. }) => Err(Failure::Condemned(digest.to_string())),
            Some(BlobState::Deleted { .. }) | None => Ok(Reclaim { digest, seen }),
        }
    }

    /// Notes that `owner` needs a blob that has been stored since `reclaim`.
    ///
    /// # Errors
    /// [`Failure::Condemned`] when it was being deleted meanwhile: begin again.
    pub async fn refer_to_blob(
        &self,
        token: &dyn Token,
        reclaim: &Reclaim,
        owner: &str,
        since_ms: i64,
    ) -> Result<(), Failure> {
        let state = self.keys.blob_state(reclaim.digest);
        let key = self.keys.blob_references(reclaim.digest).join(owner);
        let there = self.read::<BlobReference>(&key).await?;
        let write = Write::under(token).replace(&key, there.as_ref(), &BlobReference { since_ms })?;
        let write = write.when(unchanged(&state, reclaim.seen.as_ref()));
        let write = if reclaim.seen.is_some() {
            write.delete(state.clone())
        } else {
            write
        };
        match self.write(write).await? {
            Written::At(_) => Ok(()),
            Written::Refused(seen) => {
                let as_before = seen.get(&state).map(|entry| entry.modified)
                    == reclaim.seen.as_ref().map(|seen| seen.modified);
                Err(if as_before {
                    Failure::Changed(key)
                } else {
                    Failure::Condemned(reclaim.digest.to_string())
                })
            }
        }
    }

    /// Notes that `owner` does not need a blob any more.
    ///
    /// # Errors
    /// When the token's holder may not write.
    pub async fn release_blob(&self, token: &dyn Token, digest: Digest, owner: &str) -> Result<(), Failure> {
        let key = self.keys.blob_references(digest).join(owner);
        let Some(there) = self.read::<BlobReference>(&key).await? else {
            return Ok(());
        };
        let write = Write::under(token)
            .when(unchanged(&key, Some(&there)))
            .delete(key);
        self.write_unraced(write).await.map(drop)
    }

    /// Blobs that somebody refers to.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn referenced_blobs(&self) -> Result<BTreeSet<Digest>, Failure> {
        let above = self.keys.blobs();
        let listing = self.store.list(&above).await?;
        let digest_of = |key: &crate::kv::Key| {
            let mut parts = key.as_str().strip_prefix(above.as_str())?.split('/').skip(1);
            let digest = parts.next()?.parse().ok()?;
            (parts.next() == Some("refs")).then_some(digest)
        };
        Ok(listing
            .entries
            .iter()
            .filter_map(|entry| digest_of(&entry.key))
            .collect())
    }

    /// Condemns a blob that nobody refers to: from here on nobody can. `None` when somebody does, or it is deleted.
    /// One that is condemned already is condemned again: its former collector may have died.
    ///
    /// # Errors
    /// When the leader may not write.
    pub async fn condemn_blob(
        &self,
        leader: &LeaderToken,
        digest: Digest,
        at_ms: i64,
    ) -> Result<Option<Condemned>, Failure> {
        let key = self.keys.blob_state(digest);
        let seen = self.read::<BlobState>(&key).await?;
        if matches!(&seen, Some(stored) if matches!(stored.value, BlobState::Deleted { .. })) {
            return Ok(None);
        }
        let condemned = BlobState::Condemned { at_ms };
        let write = Write::under(leader)
            .when(Guard::NoneBelow(self.keys.blob_references(digest)))
            .replace(&key, seen.as_ref(), &condemned)?;
        Ok(match self.write(write).await? {
            Written::At(revision) => Some(Condemned { digest, revision }),
            Written::Refused(_) => None,
        })
    }

    /// Checks once more, in a transaction of its own, that a condemned blob may be deleted. `None` when it may not; then it is
    /// condemned no more.
    ///
    /// # Errors
    /// When the leader may not write.
    pub async fn recheck_blob(
        &self,
        leader: &LeaderToken,
        condemned: Condemned,
    ) -> Result<Option<Condemned>, Failure> {
        let Condemned { digest, revision } = condemned;
        let key = self.keys.blob_state(digest);
        let Some(seen) = self
            .read::<BlobState>(&key)
            .await?
            .filter(|seen| seen.modified == revision)
        else {
            return Ok(None);
        };
        let write = Write::under(leader)
            .when(Guard::NoneBelow(self.keys.blob_references(digest)))
            .replace(&key, Some(&seen), &seen.value.clone())?;
        if let Written::At(revision) = self.write(write).await? {
            return Ok(Some(Condemned { digest, revision }));
        }
        let pardon = Write::under(leader)
            .when(unchanged(&key, Some(&seen)))
            .delete(key);
        self.write_unraced(pardon).await.map(|_| None)
    }

    /// Notes that the file of a condemned blob is deleted. Who had taken it for present is refused for as long as this is
    /// kept.
    ///
    /// # Errors
    /// When the leader may not write.
    pub async fn blob_deleted(
        &self,
        leader: &LeaderToken,
        condemned: Condemned,
        at_ms: i64,
    ) -> Result<(), Failure> {
        let key = self.keys.blob_state(condemned.digest);
        let seen = self.read::<BlobState>(&key).await?;
        let Some(seen) = seen.filter(|seen| seen.modified == condemned.revision) else {
            return Err(Failure::Changed(key));
        };
        let write = Write::under(leader).replace(&key, Some(&seen), &BlobState::Deleted { at_ms })?;
        self.write_unraced(write).await.map(drop)
    }

    /// Forgets that a blob was deleted, if that was before `before_ms`; whether it was.
    ///
    /// # Errors
    /// When the leader may not write.
    pub async fn forget_deleted_blob(
        &self,
        leader: &LeaderToken,
        digest: Digest,
        before_ms: i64,
    ) -> Result<bool, Failure> {
        let key = self.keys.blob_state(digest);
        let old = |state: BlobState| matches!(state, BlobState::Deleted { at_ms } if at_ms < before_ms);
        let Some(seen) = self.read::<BlobState>(&key).await?.filter(|seen| old(seen.value)) else {
            return Ok(false);
        };
        let write = Write::under(leader)
            .when(unchanged(&key, Some(&seen)))
            .delete(key);
        self.write_unraced(write).await.map(|_| true)
    }
}
