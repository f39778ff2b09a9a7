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
use super::change::{Guess, NOWHERE, READ_AHEAD};
use super::noted::{Noted, WORD};
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
    /// Buckets below are noted.
    next: usize,
    /// By group; one or two in a large table.
    images: Vec<Images>,
}

impl<K, V> Default for Part<K, V> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            next: 0,
            images: Vec::new(),
        }
    }
}

impl<K, V> Part<K, V> {
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
}

pub(super) struct Scan<K, V> {
    encode: EncodeEntries<K, V>,
    /// How an entry is copied, if that is cheaper than to encode it at once.
    copy: Option<fn(&Slot<K, V>) -> Slot<K, V>>,
    /// The buckets whose entries are encoded or kept, or were added since.
    noted: Noted,
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
        if self.noted.note(at, bucket) {
            self.keep_new(span, at, bucket, slots);
        }
    }

    /// [`Self::keep`] for the entries at up to [`READ_AHEAD`] places.
    ///
    /// Those that have to be kept are found first, in a loop without a branch that depends on it.
    #[inline]
    pub(super) fn keep_each(&mut self, span: &Span, places: &[Guess], segments: &[Slots<K, V>]) {
        let (mut new, mut len) = ([Guess::default(); READ_AHEAD], 0);
        for &(at, bucket) in places {
            if bucket != NOWHERE {
                new[len] = (at, bucket);
                len += usize::from(self.noted.note(at as usize, bucket as usize));
            }
        }
        for &(at, bucket) in &new[..len] {
            self.keep_new(span, at as usize, bucket as usize, &segments[at as usize]);
        }
    }

    #[inline]
    fn keep_new(&mut self, span: &Span, at: usize, bucket: usize, slots: &Slots<K, V>) {
        let Some(slot) = slots.get_bucket(bucket) else {
            return;
        };
        match self.copy {
            Some(copy) => self.parts[at].kept.push(copy(slot)),
            None => {
                self.image(span, at, slot);
            }
        }
    }

    /// Reads what [`Self::keep`] will read.
    #[inline]
    pub(super) fn touch(&self, at: usize, bucket: usize) -> bool {
        self.noted.is_noted(at, bucket)
    }

    /// Notes that a bucket holds an entry that the scan does not have.
    pub(super) fn added(&mut self, at: usize, bucket: usize) {
        self.noted.note(at, bucket);
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
        self.noted.is_pending(at)
    }

    /// Goes through a segment until the budget is spent.
    pub(super) fn segment(&mut self, span: &Span, at: usize, slots: &Slots<K, V>, budget: &mut ScanBudget) {
        while !budget.is_spent() {
            if let Some(slot) = self.parts[at].kept.pop() {
                budget.spend(self.image(span, at, &slot));
            } else if self.parts[at].next < slots.num_buckets() {
                self.some_buckets(span, at, slots, budget);
            } else {
                self.noted.complete(at);
                self.parts[at].kept = Vec::new();
                return;
            }
        }
    }

    /// Encodes what is not noted of the next few buckets, until the budget is spent.
    fn some_buckets(&mut self, span: &Span, at: usize, slots: &Slots<K, V>, budget: &mut ScanBudget) {
        let first = self.parts[at].next;
        let mut left = self.noted.unnoted(at, first);
        while left != 0 && !budget.is_spent() {
            let bucket = first + left.trailing_zeros() as usize;
            left &= left - 1;
            self.noted.note(at, bucket);
            // There may be fewer buckets than bits.
            if let Some(slot) = slots.get_bucket(bucket) {
                budget.spend(self.image(span, at, slot));
            }
        }
        if left == 0 {
            self.parts[at].next += WORD;
        }
    }

    /// Moves complete segments to the end of what is done. False while one is not.
    fn collect(&mut self) -> bool {
        while let Some(&at) = self.order.last() {
            if self.noted.is_pending(at as usize) {
                return false;
            }
            for images in std::mem::take(&mut self.parts[at as usize].images) {
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
    /// *Cost*: nothing an entry but a bit of memory that comes zeroed.
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
            noted: Noted::new(self.segments.iter().map(Slots::num_buckets)),
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
