//! Channels as they were captured, read again before anything new.

use super::merged::{Input, MergedEvents};
use hurtig_core::key::key_group;
use hurtig_core::types::TypeInfo;
use hurtig_core::{Batch, Event, Result};
use hurtig_exchange::{Captured, ChannelState};
use std::collections::VecDeque;
use std::ops::Range;

/// Records of which keys are replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedKeys {
    /// Those of these key groups.
    pub groups: Range<u16>,
    /// Of so many.
    pub max_parallelism: u32,
}

impl ReplayedKeys {
    fn has(&self, hash: u64) -> bool {
        let group = key_group(hash, self.max_parallelism).get();
        u16::try_from(group).is_ok_and(|group| self.groups.contains(&group))
    }
}

/// A channel that was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredChannel {
    /// Which input of the task it led to: 0 or 1.
    pub input: u8,
    /// What was captured.
    pub state: ChannelState,
    /// Which of its records are this task's; `None`: all.
    pub keep: Option<ReplayedKeys>,
}

/// What was in flight to a task when the checkpoint was taken that it begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlightRestore {
    /// The watermark that the task had.
    pub watermark: i64,
    /// At least one channel, in the order of inputs.
    pub channels: Vec<RestoredChannel>,
    /// They are the channels that the task has now, in their order.
    pub same_channels: bool,
}

/// What is known of a replay while it goes on.
#[derive(Debug)]
pub(crate) struct Replay {
    /// Own channels of each gate.
    pub(crate) channels: [usize; 2],
    /// Captured channels of each gate; none when it reads its own.
    captured: [usize; 2],
    pub(crate) same_channels: bool,
}

impl Replay {
    pub(crate) fn new(channels: [usize; 2], captured: [usize; 2], same_channels: bool) -> Self {
        Self {
            channels,
            captured,
            same_channels,
        }
    }

    /// A gate has nothing left of what was captured. How many channels it had; none if it had ended before.
    pub(crate) fn end(&mut self, gate: usize) -> Option<usize> {
        Some(std::mem::take(&mut self.captured[gate])).filter(|captured| *captured > 0)
    }

    /// Whether every gate reads its own channels.
    pub(crate) fn is_over(&self) -> bool {
        self.captured == [0, 0]
    }
}

/// The captured channels of one input of a task, read in turn.
#[derive(Debug)]
pub(crate) struct ReplayGate<T> {
    channels: Vec<Channel>,
    next: usize,
    types: TypeInfo<T>,
}

#[derive(Debug)]
struct Channel {
    elements: VecDeque<Captured>,
    keep: Option<ReplayedKeys>,
}

impl<T> ReplayGate<T> {
    /// The gate of an input; `None` when nothing was captured of it.
    pub(crate) fn new(restored: &mut InFlightRestore, input: u8, types: TypeInfo<T>) -> Option<Self> {
        let own = restored
            .channels
            .iter_mut()
            .filter(|channel| channel.input == input);
        let channel = |channel: &mut RestoredChannel| Channel {
            elements: std::mem::take(&mut channel.state.elements).into(),
            keep: channel.keep.take(),
        };
        let channels: Vec<Channel> = own.map(channel).collect();
        let next = 0;
        (!channels.is_empty()).then_some(Self {
            channels,
            next,
            types,
        })
    }

    /// The next batch, once the events before it are merged. Channels have their turns, one batch each.
    pub(crate) fn next_batch(&mut self, first: usize, merge: &mut MergedEvents) -> Result<Option<Batch<T>>> {
        for step in 0..self.channels.len() {
            let at = (self.next + step) % self.channels.len();
            let channel = &mut self.channels[at];
            while let Some(element) = channel.elements.pop_front() {
                let event = match element {
                    Captured::Batch(kept) => {
                        let keep = channel.keep.as_ref();
                        let keep = keep.map(|keys| |hash| keys.has(hash));
                        let batch = kept.decode(&self.types, keep)?;
                        if batch.is_empty() {
                            continue;
                        }
                        self.next = (at + 1) % self.channels.len();
                        return Ok(Some(batch));
                    }
                    Captured::Watermark(wm) => Event::Watermark(wm),
                    Captured::Status(status) => Event::Status(status),
                    Captured::Backlog(backlog) => Event::Backlog(backlog),
                };
                merge.take(Input { first, at }, event);
                if !merge.is_empty() {
                    self.next = at;
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// Whether nothing is left.
    pub(crate) fn is_over(&self) -> bool {
        self.channels.iter().all(|channel| channel.elements.is_empty())
    }
}
