//! Dataflow: what runs inside a task.
//!
//! Holds the operator contract, the chain that runs operators batch by batch, timers, windows, and
//! the graphs that describe a job. Promises that everything here is sans-I/O and replayable:
//! no threads, no clocks but the injected one, no actor. Channels come from `hurtig-exchange`.

pub mod broadcast;
pub mod chain;
pub mod function;
pub mod graph;
pub mod key;
pub mod operator;
pub mod operators;
pub mod program;
pub mod rich;
pub mod sink;
pub mod source;
pub mod testing;
pub mod timers;
pub mod windows;
pub mod write_ahead;
