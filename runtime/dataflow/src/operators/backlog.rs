//! Backlog of many inputs: whether what a task reads is backlog.
//!
//! The brain behind every place where channels meet. A task is in backlog as long as any of its inputs is that has not
//! ended. Idleness has no part in it: an input that is idle and in backlog brings backlog when it comes back, and its
//! records may come before the news that it is active.

use std::ops::Range;

/// Merges what is known of the backlog of a fixed number of inputs.
///
/// Its methods return what has become of all inputs together, if that is another thing than before.
#[derive(Clone, Debug)]
pub struct BacklogMerger {
    inputs: Vec<bool>,
    /// How many of them are in backlog.
    count: usize,
}

impl BacklogMerger {
    /// A merger of inputs that begin in backlog or not.
    pub fn new(inputs: Vec<bool>) -> Self {
        let count = inputs.iter().filter(|backlog| **backlog).count();
        Self { inputs, count }
    }

    /// Whether any input is in backlog.
    pub fn is_backlog(&self) -> bool {
        self.count > 0
    }

    /// Whether this input is.
    pub fn input(&self, input: usize) -> bool {
        self.inputs[input]
    }

    /// `input` has announced that it is in backlog, or is not any more.
    pub fn set(&mut self, input: usize, backlog: bool) -> Option<bool> {
        self.replace(input..input + 1, &[backlog])
    }

    /// `input` has ended.
    pub fn end(&mut self, input: usize) -> Option<bool> {
        self.set(input, false)
    }

    /// Puts other inputs in the place of some.
    pub fn replace(&mut self, inputs: Range<usize>, by: &[bool]) -> Option<bool> {
        let before = self.is_backlog();
        let gone = self.inputs.splice(inputs, by.iter().copied());
        self.count -= gone.filter(|backlog| *backlog).count();
        self.count += by.iter().filter(|backlog| **backlog).count();
        (self.is_backlog() != before).then_some(!before)
    }
}

#[cfg(test)]
#[path = "backlog_tests.rs"]
mod tests;
