//! What stands between two neighbours of a chain.

use crate::operator::Collector;
use hurtig_core::Event;
use std::any::Any;

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
