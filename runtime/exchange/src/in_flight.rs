//! What was on its way in a channel when a barrier overtook it.
//!
//! Kept as bytes, so that whoever stores it needs to know no record's type.

use crate::partition::HashRecords;
use hurtig_core::element::WatermarkStatus;
use hurtig_core::time::NO_TIMESTAMP;
use hurtig_core::types::TypeInfo;
use hurtig_core::{Batch, Error, Event, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How what waits in a channel is kept.
pub struct RecordCodec<T> {
    types: TypeInfo<T>,
    hasher: Option<Arc<dyn HashRecords<T>>>,
}

impl<T> RecordCodec<T> {
    /// Of records that have no key.
    pub fn new(types: TypeInfo<T>) -> Self {
        Self { types, hasher: None }
    }

    /// Of records that this hashes, if it is given: they are dealt by their keys at another parallelism.
    pub fn hashed_by(types: TypeInfo<T>, hasher: Option<Arc<dyn HashRecords<T>>>) -> Self {
        Self { types, hasher }
    }

    /// What is known of the records.
    pub fn types(&self) -> TypeInfo<T> {
        self.types
    }
}

impl<T> Clone for RecordCodec<T> {
    fn clone(&self) -> Self {
        Self {
            types: self.types,
            hasher: self.hasher.clone(),
        }
    }
}

/// One captured element. Ends of input are not captured: who has ended ends again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Captured {
    /// Records.
    Batch(KeptBatch),
    /// A watermark.
    Watermark(i64),
    /// The channel turned idle or active.
    Status(WatermarkStatus),
    /// What follows is backlog, or is not any more.
    Backlog(bool),
}

/// The records of a batch, encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBatch {
    count: u32,
    #[serde(with = "serde_bytes")]
    records: Vec<u8>,
    /// One event time for all records, or one for each.
    times: Vec<i64>,
    /// The hashes of their keys, if they have keys.
    hashes: Vec<u64>,
}

impl KeptBatch {
    /// The bytes of a batch, which stays as it is. Records with keys are kept with their hashes, also those that
    /// came without.
    ///
    /// # Errors
    /// When a record cannot be encoded.
    pub fn encode<T>(batch: &mut Batch<T>, codec: &RecordCodec<T>) -> Result<Self> {
        let count = batch.len();
        let times = match batch.common_time() {
            Some(time) => vec![time],
            None => (0..count).map(|i| batch.time(i)).collect(),
        };
        let mut hashes = batch.hashes().to_vec();
        if let Some(hasher) = codec.hasher.as_ref().filter(|_| hashes.is_empty()) {
            hasher.hash_all(batch.records(), &mut hashes);
        }
        let mut records = Vec::new();
        codec.types.encode(batch.records(), &mut records)?;
        Ok(Self {
            count: u32::try_from(count).map_err(|_| Error::internal("a batch of more than 2^32 records"))?,
            records,
            times,
            hashes,
        })
    }

    /// All records, or those for whose key's hash `keep` holds.
    ///
    /// # Errors
    /// When the bytes are not those of a batch of such records, or are to be chosen by hashes that they do not have.
    pub fn decode<T>(&self, types: &TypeInfo<T>, keep: Option<impl Fn(u64) -> bool>) -> Result<Batch<T>> {
        let records = types.decode(&self.records, self.count as usize)?;
        let (times, hashes) = (self.times.len(), self.hashes.len());
        if (times != 1 && times != records.len()) || (hashes != 0 && hashes != records.len()) {
            return Err(Error::internal(format!(
                "a captured batch of {} records has {times} times and {hashes} hashes",
                records.len()
            )));
        }
        if keep.is_some() && hashes < records.len() {
            return Err(Error::internal(
                "captured records without the hashes of their keys cannot be dealt to other subtasks",
            ));
        }
        let keep = |hash| keep.as_ref().is_none_or(|keep| keep(hash));
        let mut batch = Batch::new();
        for (i, record) in records.into_iter().enumerate() {
            let time = self.times.get(i).or(self.times.first());
            let time = time.copied().unwrap_or(NO_TIMESTAMP);
            match self.hashes.get(i) {
                None => batch.push(record, time),
                Some(&hash) if keep(hash) => batch.push_hashed(record, time, hash),
                Some(_) => {}
            }
        }
        Ok(batch)
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Captured {
    /// What is to be kept of a batch.
    pub(crate) fn batch<T>(batch: &mut Batch<T>, codec: &RecordCodec<T>) -> Result<Option<Self>> {
        Ok(Some(Self::Batch(KeptBatch::encode(batch, codec)?)))
    }

    /// What is to be kept of an event.
    pub(crate) fn event(event: Event) -> Option<Self> {
        match event {
            Event::Watermark(wm) => Some(Self::Watermark(wm)),
            Event::Status(status) => Some(Self::Status(status)),
            Event::Backlog(backlog) => Some(Self::Backlog(backlog)),
            Event::Barrier(_) | Event::EndOfInput => None,
        }
    }
}

/// What a checkpoint holds of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelState {
    /// The last watermark that its consumer had read.
    pub watermark: i64,
    /// Whether the channel was idle then.
    pub idle: bool,
    /// Whether it was in backlog then.
    #[serde(default)]
    pub backlog: bool,
    /// What was on its way.
    pub elements: Vec<Captured>,
}

/// What a checkpoint holds of a task's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The watermark of the task.
    pub watermark: i64,
    /// Its channels, in their order.
    pub channels: Vec<ChannelState>,
}
