//! Side outputs: typed streams beside an operator's main output.

use super::Collector;
use hurtig_core::Event;
use hurtig_core::time::Time;
use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;

/// Names a side output and its type. Tags with the same name are the same output.
pub struct OutputTag<T> {
    name: Arc<str>,
    record: PhantomData<fn() -> T>,
}

impl<T> OutputTag<T> {
    /// A tag; the name must be unique within the operator.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            record: PhantomData,
        }
    }

    /// The tag's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<T> Clone for OutputTag<T> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            record: PhantomData,
        }
    }
}

impl<T> std::fmt::Debug for OutputTag<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OutputTag({})", self.name)
    }
}

/// The erased collector of one side output; the chain owns its way out.
pub trait SideSink: Send {
    /// The tag's name.
    fn name(&self) -> &str;
    /// The `Collector<T>` behind it.
    fn collector(&mut self) -> &mut dyn Any;
    /// Whether the operator should stop because this output is full.
    fn full(&self) -> bool;
    /// Moves what was collected on; true when nothing is left and no event waits.
    fn drain(&mut self, now: Time) -> bool {
        let _ = now;
        true
    }
    /// Sends an event behind everything collected. Only legal after [`SideSink::drain`] was true.
    fn send_event(&mut self, event: Event) {
        let _ = event;
    }
    /// Hands over buffers that have waited for the buffer timeout.
    fn flush_due(&mut self, now: Time) {
        let _ = now;
    }
    /// The task goes idle: hands over what waits; returns when to call again.
    fn flush_idle(&mut self, now: Time) -> Option<Time> {
        let _ = now;
        None
    }
    /// Whether nothing waits in buffers.
    fn is_flushed(&self) -> bool {
        true
    }
}

/// The side outputs of one operator that somebody consumes.
#[derive(Default)]
pub struct SideOutputs {
    sinks: RefCell<Vec<Box<dyn SideSink>>>,
}

impl std::fmt::Debug for SideOutputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SideOutputs({})", self.sinks.borrow().len())
    }
}

impl SideOutputs {
    /// The outputs behind these sinks.
    pub fn new(sinks: Vec<Box<dyn SideSink>>) -> Self {
        Self {
            sinks: RefCell::new(sinks),
        }
    }

    /// Emits a record; it is dropped when nobody consumes the output.
    ///
    /// # Panics
    /// When the output of that name was declared with another type.
    pub fn push<T: 'static>(&self, tag: &OutputTag<T>, record: T, time: i64) {
        let mut sinks = self.sinks.borrow_mut();
        let Some(sink) = sinks.iter_mut().find(|sink| sink.name() == &*tag.name) else {
            return;
        };
        match sink.collector().downcast_mut::<Collector<T>>() {
            Some(collector) => collector.push_at(record, time),
            None => panic!(
                "side output '{}' was declared with another type than {}",
                tag.name,
                std::any::type_name::<T>()
            ),
        }
    }

    /// Whether any output is full.
    pub fn full(&self) -> bool {
        self.sinks.borrow().iter().any(|sink| sink.full())
    }

    /// The sinks, for the chain.
    pub fn sinks(&self) -> std::cell::RefMut<'_, Vec<Box<dyn SideSink>>> {
        self.sinks.borrow_mut()
    }
}
