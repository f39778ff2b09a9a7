//! Counts by key in tumbling and sliding windows, over input in order of event time.
//!
//! Records are counted once, in the pane of one slide. Where a window is more than one pane, its
//! counts are merged when it fires, which is the cheapest way for counts.

use super::Loop;
use super::columns::Batches;
use super::counts::{Counts, squares};
use crate::work::Work;
use hurtig_core::key::hash_int;
use std::collections::VecDeque;

/// Size and slide of a window, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// How much time a window covers.
    pub size_ms: i64,
    /// How much later the next one begins; divides the size.
    pub slide_ms: i64,
}

/// Tumbling windows of one second.
pub(crate) const TUMBLING: Shape = Shape {
    size_ms: 1_000,
    slide_ms: 1_000,
};
/// Windows of ten seconds, one each second.
pub(crate) const SLIDING: Shape = Shape {
    size_ms: 10_000,
    slide_ms: 1_000,
};

/// The loops.
pub(crate) fn loops(work: Work, shape: Shape) -> Vec<Loop> {
    vec![
        Loop::new("fused", move || fused(work, shape)),
        Loop::new("batched", move || batched::<false>(work, shape)),
        Loop::new("batched+prefetch", move || batched::<true>(work, shape)),
    ]
}

/// The panes of the window that ends next. The last one is being filled.
struct Panes {
    shape: Shape,
    panes: VecDeque<Counts<u64>>,
    merged: Counts<u64>,
    /// Where the last pane ends.
    end: i64,
    results: u64,
}

impl Panes {
    fn new(shape: Shape) -> Self {
        Self {
            shape,
            panes: VecDeque::from([Counts::new()]),
            merged: Counts::new(),
            end: shape.slide_ms,
            results: 0,
        }
    }

    /// The pane that is being filled.
    fn current(&mut self) -> &mut Counts<u64> {
        let last = self.panes.len() - 1;
        &mut self.panes[last]
    }

    /// Fires the windows that end before `at` and makes room for records of that time.
    fn advance(&mut self, at: i64) {
        while at >= self.end {
            self.fire();
            self.end += self.shape.slide_ms;
        }
    }

    /// Fires the window that ends with the last pane and begins the next pane.
    fn fire(&mut self) {
        let window = if self.panes.len() == 1 {
            &self.panes[0]
        } else {
            self.merge();
            &self.merged
        };
        self.results = self.results.wrapping_add(squares(window.iter().map(|(_, n)| n)));
        let mut next = Counts::new();
        if self.panes.len() as i64 * self.shape.slide_ms == self.shape.size_ms {
            next = self.panes.pop_front().unwrap_or(next);
            next.clear();
        }
        self.panes.push_back(next);
    }

    fn merge(&mut self) {
        self.merged.clear();
        for pane in &self.panes {
            for (key, n) in pane.iter() {
                self.merged.add(key, hash_int(*key), n);
            }
        }
    }

    /// Fires every window that still holds records.
    fn finish(mut self) -> u64 {
        self.advance(self.end + self.shape.size_ms - self.shape.slide_ms);
        self.results
    }
}

fn fused(work: Work, shape: Shape) -> u64 {
    let mut panes = Panes::new(shape);
    for event in work.events(0, 1) {
        if event.at >= panes.end {
            panes.advance(event.at);
        }
        panes.current().add(&event.key, hash_int(event.key), 1);
    }
    panes.finish()
}

fn batched<const TOUCH: bool>(work: Work, shape: Shape) -> u64 {
    let mut panes = Panes::new(shape);
    let mut batches = Batches::new(work);
    while batches.fill() {
        let mut from = 0;
        while from < batches.times.len() {
            panes.advance(batches.times[from]);
            let run = batches.times[from..].partition_point(|at| *at < panes.end);
            let (keys, hashes) = (&batches.keys[from..from + run], &batches.hashes[from..from + run]);
            if TOUCH {
                panes.current().touch_batch(keys, hashes);
            }
            panes.current().add_batch(keys, hashes);
            from += run;
        }
    }
    panes.finish()
}
