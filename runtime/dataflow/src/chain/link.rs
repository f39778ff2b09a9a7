//! What stands between two neighbours of a chain.

use crate::operator::Collector;
use hurtig_core::Event;
use hurtig_exchange::FlushPolicy;
use std::any::Any;

/// Records in a link occupy at most this, without what they own elsewhere.
const LINK_BYTES: usize = 64 << 10;

/// Records on their way to the next node, and at most one event behind them.
#[derive(Debug)]
pub struct Link<T> {
    pub(crate) collector: Collector<T>,
    pub(crate) event: Option<Event>,
}

impl<T> Link<T> {
    /// An empty link that is full at `batch_size` records.
    pub fn new(batch_size: usize) -> Self {
        Self {
            collector: Collector::with_limit(batch_size),
            event: None,
        }
    }

    /// An empty link for batches of this policy. Large records make smaller batches, which stay in a core's cache
    /// from one operator to the next.
    pub fn fitting(policy: &FlushPolicy) -> Self {
        let records = policy.batch_bytes.min(LINK_BYTES) / size_of::<T>().max(1);
        Self::new(policy.unseen::<T>().min(records).max(1))
    }
}

/// A link whose record type its two neighbours know.
pub trait AnyLink: Send {
    /// The `Link<T>` itself.
    fn as_any(&mut self) -> &mut dyn Any;
    /// Whether a producer may append: not full, and no event that later records would overtake.
    fn is_open(&self) -> bool;
    /// Whether nothing waits.
    fn is_empty(&self) -> bool;
    /// Puts the end of input into an empty link.
    fn end(&mut self);
}

impl<T: Send + 'static> AnyLink for Link<T> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn is_open(&self) -> bool {
        self.event.is_none() && !self.collector.full()
    }

    fn is_empty(&self) -> bool {
        self.event.is_none() && self.collector.is_empty()
    }

    fn end(&mut self) {
        debug_assert!(self.is_empty(), "what is in a link goes before the end");
        self.event = Some(Event::EndOfInput);
    }
}

/// The typed link behind `link`.
///
/// # Panics
/// When the types differ: the chain was assembled wrongly.
pub(crate) fn typed<T: 'static>(link: &mut dyn AnyLink) -> &mut Link<T> {
    match link.as_any().downcast_mut() {
        Some(link) => link,
        None => panic!(
            "a chain link does not carry {}: the chain was assembled wrongly",
            std::any::type_name::<T>()
        ),
    }
}
