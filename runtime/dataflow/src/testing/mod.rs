//! Instruments for testing operators and functions: ours and the users'.
//!
//! - [`Harness`] and [`TwoInputHarness`] run one operator with the test holding both clocks: push
//!   records and watermarks, move processing time, look at every output, snapshot, restore.
//! - [`for_keyed_process_function`] and its like make one around a function.
//! - [`SourceHarness`] runs the readers of a source and deals out its splits.
//! - [`torture()`] runs an operator through every way in which the engine may call it and demands
//!   the same output from all.
//!
//! ```
//! use hurtig_dataflow::operators::Map;
//! use hurtig_dataflow::testing::{Harness, Script, torture};
//! use std::sync::Arc;
//!
//! let double = || Map::new(Arc::new(|n: i64| 2 * n));
//! let mut harness: Harness<i64, i64> = Harness::new(double)?;
//! harness.push(21, 1_000)?;
//! assert_eq!(harness.records(), [(42, 1_000)]);
//!
//! torture(double, &Script::new().records([(1, 10), (2, 20), (3, 30)]).watermark(25));
//! # Ok::<(), hurtig_core::Error>(())
//! ```

mod compare;
mod functions;
mod harness;
mod instance;
mod mode;
mod output;
mod run;
mod script;
mod source;
mod torture;
mod two_input;
mod violation;

pub use functions::{
    for_broadcast_process_function, for_co_process_function, for_keyed_broadcast_process_function,
    for_keyed_co_process_function, for_keyed_process_function, for_process_function,
};
pub use harness::{Harness, TwoInputHarness};
pub use output::Emitted;
pub use script::{Script, Step};
pub use source::{SourceHarness, SourceSnapshot};
pub use torture::{Torture, TortureReport, torture, torture_two_input};
pub use two_input::{Either, Joined};
pub use violation::{TortureFailure, Violation};
