//! Windows: unbounded streams cut into stretches that can be counted, summed and processed.
//!
//! A keyed stream's elements are assigned to windows ([`WindowAssigner`]); a [`Trigger`] says when a
//! window fires; an [`Evictor`] may remove elements then; a function makes records of what is left.
//! [`WindowSpec`] puts these together and chooses the operator. Semantics are Flink's: results carry
//! the window's last timestamp, late elements within the allowed lateness fire at once, later ones
//! go to a side output or are dropped and counted.
//!
//! The operators promise to stop within their budget between any two results, and that a snapshot
//! taken there holds exactly what has not been emitted. They refuse to know clocks, threads and where
//! records come from.
//!
//! | Room | Holds |
//! |---|---|
//! | [`window`] | [`TimeWindow`], [`GlobalWindow`] |
//! | [`grid`], [`assigner`] | tumbling, sliding, cumulating, session and global windows |
//! | [`trigger`] | when windows fire |
//! | [`evictor`] | what is removed then |
//! | [`function`] | what comes out |
//! | [`fast`] | operators for aggregates under the default trigger |
//! | [`general`] | the operator for everything else |
//! | [`spec`] | the builder |

pub mod assigner;
pub mod evictor;
pub mod fast;
pub mod function;
pub mod general;
pub mod grid;
mod late;
mod snapshot;
pub mod spec;
pub mod trigger;
pub mod window;

pub use assigner::{
    AlignedWindows, CumulatingWindows, DynamicSessionWindows, GlobalWindows, Pattern, SessionWindows,
    SlidingWindows, TumblingWindows, WindowAssigner,
};
pub use evictor::{CountEvictor, DeltaEvictor, Evictor, TimeEvictor, Timestamped};
pub use function::{
    Elements, Incremental, IncrementalLogic, IncrementalThen, ProcessFn, ProcessWindowFunction, Reduce,
    WindowContext, WindowLogic,
};
pub use grid::{TimeGrid, WindowStagger};
pub use late::{Lateness, NUM_LATE_RECORDS_DROPPED};
pub use spec::{AllKeys, WindowSpec};
pub use trigger::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountTrigger, DefaultTrigger, DeltaTrigger,
    EndOfStreamTrigger, EventTimeTrigger, NeverTrigger, ProcessingTimeTrigger, PurgingTrigger, Trigger,
    TriggerContext, TriggerResult, WindowValue,
};
pub use window::{GlobalWindow, TimeWindow, Window};

use crate::key::KeySelector;
use hurtig_core::Batch;

/// Computes the hash column of a batch that has none.
fn ensure_hashes<In, S: KeySelector<In>>(selector: &S, input: &mut Batch<In>) {
    if input.hashes().is_empty() && !input.is_empty() {
        input.set_hashes(|records, hashes| selector.hash_all(records, hashes));
    }
}
