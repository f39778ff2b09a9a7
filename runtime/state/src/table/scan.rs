//! A snapshot of a table that goes on changing.
//!
//! A scan is the table as it was when the scan began. The table's user gives it time in small pieces, and in
//! each it encodes some more entries. Whoever changes or removes an entry that the scan has not reached
//! copies or encodes it first, its *before-image*; what is added is not part of the scan.
//! So each entry is encoded once, and a table without a scan pays one predictable branch a change.
//!
//! What was encoded is known by bucket: `hashbrown` moves entries between buckets only when it makes room or
//! gives memory back, and a segment is scanned to its end before it may do that, or before it is split.
//! That costs at most a segment's entries at once.

use super::GroupedTable;
use super::segment::{Slot, Slots};
use super::span::Span;
use crate::encoded::EncodedEntries;
use hurtig_core::error::{Error, Result};
use hurtig_core::key::StableKey;
use std::fmt;

/// Appends the entries of a key, as many as it says.
pub type EncodeEntries<K, V> = Box<dyn Fn(&K, &V, &mut Vec<u8>) -> Result<u64> + Send>;

/// How much a scan may do before it returns: entries, with long ones counting as several.
#[derive(Clone, Copy, Debug)]
pub struct ScanBudget {
    left: usize,
}

impl ScanBudget {
    /// As many bytes as cost as much as one more entry.
    const BYTES: usize = 128;

    /// A budget of `entries` short entries.
    pub fn new(entries: usize) -> Self {
        Self { left: entries }
    }

    /// No bound.
    pub fn unbounded() -> Self {
        Self { left: usize::MAX }
    }

    /// Whether nothing is left.
    pub fn is_spent(self) -> bool {
        self.left == 0
    }

    pub(crate) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(1 + bytes / Self::BYTES);
    }
}

/// The encoded entries of one key group in a segment.
struct Images {
    group: u16,
    entries: u64,
    bytes: Vec<u8>,
}

/// What a scan has of one segment.
struct Part<K, V> {
    /// Before-images that are still to be encoded.
    kept: Vec<Slot<K, V>>,
    /// Buckets below are encoded or were added since.
    next: usize,
    /// So are these, bit by bit; empty while there are none.
    encoded: Vec<u64>,
    /// By group; one or two in a large table.
    images: Vec<Images>,
    /// All of its entries are encoded.
    complete: bool,
}

impl<K, V> Default for Part<K, V> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            next: 0,
            encoded: Vec::new(),
            images: Vec::new(),
            complete: false,
        }
    }
}

impl<K, V> Part<K, V> {
    /// Notes that a bucket needs no image from now on. False when it had needed none before.
    fn note(&mut self, bucket: usize, buckets: usize) -> bool {
        if bucket < self.next {
            return false;
        }
        if self.encoded.is_empty() {
            self.encoded = vec![0; buckets.div_ceil(64)];
        }
        let (word, bit) = (&mut self.encoded[bucket / 64], 1 << (bucket % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// What is encoded of a group.
    fn images_of(&mut self, group: u16) -> &mut Images {
        let found = self.images.binary_search_by_key(&group, |images| images.group);
        let place = found.unwrap_or_else(|place| {
            let images = Images {
                group,
                entries: 0,
                bytes: Vec::new(),
            };
            self.images.insert(place, images);
            place
        });
        &mut self.images[place]
    }

    /// Whether a bucket above [`Self::next`] needs no image.
    fn is_noted(&self, bucket: usize) -> bool {
        self.encoded
            .get(bucket / 64)
            .is_some_and(|word| word & (1 << (bucket % 64)) != 0)
    }
}

pub(super) struct Scan<K, V> {
    encode: EncodeEntries<K, V>,
    /// How an entry is copied, if that is cheaper than to encode it at once.
    copy: Option<fn(&Slot<K, V>) -> Slot<K, V>>,
    /// By segment; segments beyond were made since and have no entries of the scan but encoded ones.
    parts: Vec<Part<K, V>>,
    /// The segments in key-group order, the next one last.
    order: Vec<u32>,
    done: EncodedEntries,
    /// Why an image could not be encoded where nobody could be told.
    error: Option<Error>,
}

impl<K, V> fmt::Debug for Scan<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Scan({} of {} segments left)",
            self.order.len(),
            self.parts.len()
        )
    }
}

impl<K: StableKey, V> Scan<K, V> {
    /// Copies or encodes an entry as it is, unless the scan has it. Call it before a change.
    #[inline]
    pub(super) fn keep(&mut self, span: &Span, at: usize, bucket: usize, slots: &Slots<K, V>) {
        if let Some(part) = self.parts.get_mut(at)
            && !part.complete
            && part.note(bucket, slots.num_buckets())
            && let Some(slot) = slots.get_bucket(bucket)
        {
            match self.copy {
                Some(copy) => part.kept.push(copy(slot)),
                None => {
                    self.image(span, at, slot);
                }
            }
        }
    }

    /// Reads what [`Self::keep`] will read.
    #[inline]
    pub(super) fn touch(&self, at: usize, bucket: usize) -> bool {
        self.parts.get(at).is_some_and(|part| part.is_noted(bucket))
    }

    /// Notes that a bucket holds an entry that the scan does not have.
    pub(super) fn added(&mut self, at: usize, bucket: usize, slots: &Slots<K, V>) {
        if let Some(part) = self.parts.get_mut(at)
            && !part.complete
        {
            part.note(bucket, slots.num_buckets());
        }
    }

    fn image(&mut self, span: &Span, at: usize, slot: &Slot<K, V>) -> usize {
        let group = span.group_of(slot.key.stable_hash());
        let images = self.parts[at].images_of(group);
        let from = images.bytes.len();
        match (self.encode)(&slot.key, &slot.value, &mut images.bytes) {
            Ok(entries) => {
                images.entries += entries;
                images.bytes.len() - from
            }
            Err(error) => {
                images.bytes.truncate(from);
                self.error.get_or_insert(error);
                0
            }
        }
    }

    /// Whether a segment has entries that may still have to be encoded.
    pub(super) fn is_pending(&self, at: usize) -> bool {
        self.parts.get(at).is_some_and(|part| !part.complete)
    }

    /// Goes through a segment until the budget is spent.
    pub(super) fn segment(&mut self, span: &Span, at: usize, slots: &Slots<K, V>, budget: &mut ScanBudget) {
        let buckets = slots.num_buckets();
        loop {
            if budget.is_spent() {
                return;
            }
            if let Some(slot) = self.parts[at].kept.pop() {
                let bytes = self.image(span, at, &slot);
                budget.spend(bytes);
                continue;
            }
            if self.parts[at].next == buckets {
                break;
            }
            let bucket = self.parts[at].next;
            self.parts[at].next += 1;
            if self.parts[at].is_noted(bucket) {
                continue;
            }
            if let Some(slot) = slots.get_bucket(bucket) {
                let bytes = self.image(span, at, slot);
                budget.spend(bytes);
            }
        }
        let part = &mut self.parts[at];
        part.complete = true;
        part.encoded = Vec::new();
        part.kept = Vec::new();
    }

    /// Moves complete segments to the end of what is done. False while one is not.
    fn collect(&mut self) -> bool {
        while let Some(&at) = self.order.last() {
            let part = &mut self.parts[at as usize];
            if !part.complete {
                return false;
            }
            for images in std::mem::take(&mut part.images) {
                if images.entries > 0 {
                    self.done.push(images.group, images.entries, &images.bytes);
                }
            }
            self.order.pop();
        }
        true
    }
}

impl<K: StableKey, V> GroupedTable<K, V> {
    /// Begins a scan of the table as it is now, whose entries `encode` makes. What is about to change is encoded at
    /// once.
    ///
    /// *Cost*: nothing an entry, a few bytes for each thousand.
    ///
    /// # Panics
    /// When another scan has not ended.
    pub fn begin_scan(&mut self, encode: EncodeEntries<K, V>) {
        self.begin(encode, None);
    }

    /// As [`Self::begin_scan`]; what is about to change is copied, and encoded in the scan's own time: for values
    /// whose copy costs less than their encoding.
    pub fn begin_scan_copying(&mut self, encode: EncodeEntries<K, V>)
    where
        K: Clone,
        V: Clone,
    {
        self.begin(encode, Some(Slot::clone));
    }

    fn begin(&mut self, encode: EncodeEntries<K, V>, copy: Option<fn(&Slot<K, V>) -> Slot<K, V>>) {
        assert!(self.scan.is_none(), "one scan at a time");
        self.settle();
        let mut order: Vec<u32> = self.directory.in_order().map(|at| at as u32).collect();
        order.reverse();
        let mut parts = Vec::new();
        parts.resize_with(self.segments.len(), Part::default);
        self.scan = Some(Box::new(Scan {
            encode,
            copy,
            parts,
            order,
            done: EncodedEntries::default(),
            error: None,
        }));
    }

    /// Whether a scan has begun and not been handed out.
    pub fn is_scanning(&self) -> bool {
        self.scan.is_some()
    }

    /// Goes on with the scan until the budget is spent. `None` while there is more to do, or when there is no
    /// scan.
    ///
    /// # Errors
    /// When an entry could not be encoded; the scan is over then.
    pub fn continue_scan(&mut self, budget: &mut ScanBudget) -> Result<Option<EncodedEntries>> {
        let Some(scan) = &mut self.scan else {
            return Ok(None);
        };
        while let Some(&at) = scan.order.last() {
            if scan.is_pending(at as usize) {
                scan.segment(&self.span, at as usize, &self.segments[at as usize], budget);
            }
            if !scan.collect() && budget.is_spent() {
                return Ok(None);
            }
        }
        let scan = self.scan.take();
        scan.map(|scan| scan.error.map_or(Ok(scan.done), Err)).transpose()
    }

    /// Copies an entry that is about to change, if a scan needs it.
    #[cold]
    #[inline(never)]
    pub(super) fn keep_image(&mut self, at: usize, bucket: usize) {
        if let Some(scan) = &mut self.scan {
            scan.keep(&self.span, at, bucket, &self.segments[at]);
        }
    }

    /// Encodes all of a segment, whose entries are about to move.
    pub(super) fn scan_segment(&mut self, at: usize) {
        if let Some(scan) = &mut self.scan
            && scan.is_pending(at)
        {
            scan.segment(&self.span, at, &self.segments[at], &mut ScanBudget::unbounded());
        }
    }

    /// Encodes everything, because all of it is about to change.
    pub(super) fn scan_all(&mut self) {
        if self.scan.is_some() {
            (0..self.segments.len()).for_each(|at| self.scan_segment(at));
        }
    }
}
