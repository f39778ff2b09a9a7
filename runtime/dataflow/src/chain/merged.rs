//! Events of all channels on their way to becoming the task's.

use super::capture::{Capture, InFlightPart};
use super::cut::Arrival;
use super::replay::{InFlightRestore, Replay};
use crate::operators::align::BarrierAligner;
use crate::operators::backlog::BacklogMerger;
use crate::operators::merge::WatermarkMerger;
use hurtig_core::element::WatermarkStatus;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::{MIN_WATERMARK, Time};
use hurtig_core::{Barrier, Event};
use hurtig_exchange::{BarrierMode, ChannelState};
use std::collections::VecDeque;
use std::time::Duration;

/// Never, as a time to look at barriers.
pub(crate) const NEVER: Time = Time::from_nanos(u64::MAX);
/// How often a barrier is looked at that may overtake and cannot yet.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Events of all channels, merged and aligned.
#[derive(Debug)]
pub(crate) struct MergedEvents {
    merger: WatermarkMerger,
    backlog: BacklogMerger,
    aligner: BarrierAligner,
    ready: VecDeque<Event>,
    end_sent: bool,
    /// The last barrier that was found among, or put before, what came in.
    passed: Option<Barrier>,
    /// When the barriers of the last checkpoint came and were let through.
    arrival: Arrival,
    /// What time it was when the gates were last looked at.
    now: Time,
    /// What the last barrier that overtook has overtaken.
    capture: Option<Capture>,
    /// The last checkpoint of which a part was to be captured, and was not.
    lost: Option<CheckpointId>,
    /// What was in flight when a checkpoint was taken is read first.
    replay: Option<Replay>,
    /// Where the mergers have the channels of the second gate.
    second: usize,
    /// Which of the task's own channels begin in backlog.
    begin_in_backlog: Vec<bool>,
}

/// A channel of a task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input {
    /// Number of the first channel of its gate among all; 0 for those of the first gate.
    pub(crate) first: usize,
    /// Number in its gate.
    pub(crate) at: usize,
}

impl Input {
    /// Number among all channels.
    pub(crate) fn number(self) -> usize {
        self.first + self.at
    }
}

impl MergedEvents {
    /// The events of channels that take part in checkpoints in these ways, `first` of them of the first gate.
    pub(crate) fn new(modes: &[BarrierMode], first: usize) -> Self {
        let overtakable = modes.iter().map(|mode| *mode == BarrierMode::Overtakes);
        Self {
            merger: WatermarkMerger::new(modes.len()),
            backlog: BacklogMerger::new(vec![false; modes.len()]),
            aligner: BarrierAligner::of(overtakable).at_least_once(modes.contains(&BarrierMode::Passes)),
            ready: VecDeque::new(),
            end_sent: false,
            passed: None,
            arrival: Arrival::default(),
            now: Time::ZERO,
            capture: None,
            lost: None,
            replay: None,
            second: first,
            begin_in_backlog: vec![false; modes.len()],
        }
    }

    /// Says of each channel whether it begins in backlog: before anything is read.
    pub(crate) fn begin_in_backlog(&mut self, channels: &[bool]) {
        debug_assert_eq!(
            channels.len(),
            self.begin_in_backlog.len(),
            "one for each channel"
        );
        self.begin_in_backlog = channels.to_vec();
        let backlog = self.backlog.replace(0..channels.len(), channels);
        self.ready.extend(backlog.map(Event::Backlog));
    }

    pub(crate) fn take(&mut self, input: Input, event: Event) {
        let merged = input.at + if input.first == 0 { 0 } else { self.second };
        let update = match event {
            Event::Watermark(wm) => self.merger.watermark(merged, wm),
            Event::Status(status) => self.merger.status(merged, status),
            Event::Barrier(barrier) => {
                self.lose_before(barrier.checkpoint);
                let passed = self.aligner.barrier(input.number(), barrier);
                self.pass(passed);
                return;
            }
            Event::Backlog(backlog) => {
                let turned = self.backlog.set(merged, backlog);
                self.ready.extend(turned.map(Event::Backlog));
                return;
            }
            Event::EndOfInput => {
                let passed = self.aligner.end(input.number());
                self.pass(passed);
                let turned = self.backlog.end(merged);
                self.ready.extend(turned.map(Event::Backlog));
                self.merger.end(merged)
            }
        };
        self.ready.extend(update.events());
        // Not when event time ends, which may be before: a barrier or records may come behind its end.
        if event == Event::EndOfInput && self.aligner.all_ended() && !self.end_sent {
            self.end_sent = true;
            self.ready.push_back(Event::EndOfInput);
        }
    }

    fn pass(&mut self, passed: Option<Barrier>) {
        if let Some(barrier) = passed {
            self.arrival.aligned(barrier.checkpoint, self.now);
            self.passed = passed;
            self.ready.push_back(Event::Barrier(barrier));
        }
    }

    /// Whether a channel has delivered a barrier that others still owe.
    #[inline]
    pub(crate) fn is_blocked(&self, input: usize) -> bool {
        self.aligner.is_blocked(input)
    }

    /// Begins a checkpoint at a task whose producers have all finished: its barrier goes before the end of
    /// input. False when that has gone.
    pub(crate) fn trigger(&mut self, barrier: Barrier) -> bool {
        self.lose_before(barrier.checkpoint);
        let passed = self.aligner.expect(barrier);
        if !self.end_sent {
            return true;
        }
        let end = self.ready.iter().position(|event| *event == Event::EndOfInput);
        if let (Some(at), Some(barrier)) = (end, passed) {
            self.arrival.aligned(barrier.checkpoint, self.now);
            self.passed = passed;
            self.ready.insert(at, Event::Barrier(barrier));
        }
        end.is_some()
    }

    /// Gives a checkpoint up.
    pub(crate) fn abort(&mut self, checkpoint: CheckpointId) {
        self.aligner.abort(checkpoint);
        self.capture = self
            .capture
            .take()
            .filter(|capture| capture.checkpoint() > checkpoint);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    // Barriers that overtake.

    /// The last barrier that the task has to send on.
    pub(crate) fn passed(&self) -> Option<Barrier> {
        self.passed
    }

    /// A barrier is known to come. False when it leads to nothing.
    pub(crate) fn announced(&mut self, barrier: Barrier) -> bool {
        self.lose_before(barrier.checkpoint);
        self.aligner.announced(barrier)
    }

    /// The gates are about to be looked at.
    #[inline]
    pub(crate) fn is_now(&mut self, now: Time) {
        self.now = now;
    }

    /// When the barriers of the last checkpoint came and were let through.
    pub(crate) fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// A barrier came. A newer checkpoint is taken then: an older one, of which a part is missing, never completes.
    fn lose_before(&mut self, checkpoint: CheckpointId) {
        self.arrival.came(checkpoint, self.now);
        if let Some(older) = self.capture.take_if(|capture| capture.checkpoint() < checkpoint) {
            self.lost = Some(older.checkpoint());
        }
    }

    /// Lets a barrier overtake if it may and can. What it has overtaken is to be captured then.
    pub(crate) fn overtake(&mut self, now: Time) -> bool {
        if self.replay.is_some() {
            return false;
        }
        let Some((barrier, overtaken)) = self.aligner.overtake(now) else {
            return false;
        };
        let inputs = overtaken.into_iter().enumerate();
        let inputs = inputs.map(|(input, overtaken)| (self.state_of(input), overtaken));
        self.capture = Some(Capture::new(barrier.checkpoint, self.merger.current(), inputs));
        self.pass(Some(barrier));
        true
    }

    /// A channel from which nothing is captured yet.
    fn state_of(&self, input: usize) -> ChannelState {
        let (watermark, idle) = self.merger.input(input);
        ChannelState {
            watermark,
            idle,
            backlog: self.backlog.input(input),
            elements: Vec::new(),
        }
    }

    /// When to look again whether a barrier may overtake.
    pub(crate) fn look_again(&self, now: Time) -> Time {
        let from = self.aligner.aligning().and_then(|barrier| barrier.overtakes);
        match from {
            None => NEVER,
            Some(from) if from > now => from,
            Some(_) => now.after(LOOK_EVERY),
        }
    }

    /// What is being captured, if anything is.
    #[inline]
    pub(crate) fn capture(&mut self) -> Option<&mut Capture> {
        self.capture.as_mut()
    }

    /// What a barrier that has passed has overtaken.
    pub(crate) fn take_in_flight(&mut self, checkpoint: CheckpointId) -> InFlightPart {
        match self
            .capture
            .take_if(|capture| capture.checkpoint() == checkpoint && capture.is_complete())
        {
            Some(capture) => InFlightPart::Here(capture.into_in_flight()),
            None if self.lost == Some(checkpoint) => InFlightPart::Coming,
            None if self
                .capture
                .as_ref()
                .is_some_and(|capture| capture.checkpoint() == checkpoint) =>
            {
                InFlightPart::Coming
            }
            None => InFlightPart::Nothing,
        }
    }

    // Replaying.

    /// The gates read channels as they were captured before they read their own.
    pub(crate) fn replay(&mut self, restored: &InFlightRestore) {
        let channels = [self.second, self.merger.inputs() - self.second];
        let inputs = [0, 1].map(|gate: u8| {
            let captured = restored.channels.iter().filter(|channel| channel.input == gate);
            captured
                .map(|channel| &channel.state)
                .collect::<Vec<&ChannelState>>()
        });
        let replay = Replay::new(channels, inputs.each_ref().map(Vec::len), restored.same_channels);
        // A gate of which nothing was captured begins with its own channels.
        let own = [0..self.second, self.second..self.begin_in_backlog.len()];
        let own = own.map(|own| &self.begin_in_backlog[own]);
        let gates = inputs.into_iter().zip(own).map(|(captured, own)| {
            let captured_state = |state: &ChannelState| (state.watermark, state.idle, state.backlog);
            match captured.len() {
                0 => own
                    .iter()
                    .map(|backlog| (restored.watermark, false, *backlog))
                    .collect(),
                _ => captured.into_iter().map(captured_state).collect::<Vec<_>>(),
            }
        });
        let gates: Vec<_> = gates.collect();
        self.second = gates[0].len();
        let inputs: Vec<(i64, bool, bool)> = gates.concat();
        let event_time = inputs.iter().map(|(watermark, idle, _)| (*watermark, *idle));
        self.merger = WatermarkMerger::going_on(restored.watermark, event_time);
        self.backlog = BacklogMerger::new(inputs.iter().map(|(_, _, backlog)| *backlog).collect());
        // What the own channels begin with counts when they are read.
        self.ready.retain(|event| !matches!(event, Event::Backlog(_)));
        if self.backlog.is_backlog() {
            self.ready.push_back(Event::Backlog(true));
        }
        if restored.watermark > MIN_WATERMARK {
            self.ready.push_back(Event::Watermark(restored.watermark));
        }
        if self.merger.is_idle() {
            self.ready.push_back(Event::Status(WatermarkStatus::Idle));
        }
        self.replay = Some(replay).filter(|replay| !replay.is_over());
    }

    /// A gate has nothing captured left: its channels begin where the captured ones have ended. Their producers
    /// take them for active, and began in backlog as the task was told.
    pub(crate) fn replayed(&mut self, gate: usize) {
        let Some(replay) = &mut self.replay else { return };
        let Some(captured) = replay.end(gate) else { return };
        let begin = if gate == 0 { 0 } else { self.second };
        let result = self.merger.current();
        let watermark = |at| match replay.same_channels {
            true => self.merger.input(begin + at).0,
            false => result,
        };
        let own: Vec<i64> = (0..replay.channels[gate]).map(watermark).collect();
        if gate == 0 {
            self.second = own.len();
        }
        let update = self.merger.replace(begin..begin + captured, &own);
        let first = if gate == 0 { 0 } else { replay.channels[0] };
        let own = &self.begin_in_backlog[first..first + replay.channels[gate]];
        let turned = self.backlog.replace(begin..begin + captured, own);
        self.ready.extend(turned.map(Event::Backlog));
        self.ready.extend(update.events());
        self.replay.take_if(|replay| replay.is_over());
    }
}
