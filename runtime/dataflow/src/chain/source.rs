//! The head of a source task: a reader and the watermarks of its splits.

use super::link::{AnyLink, Link, typed};
use super::{Head, NodeStats, Turn, Turned};
use crate::operator::{Budget, OpenContext, Services};
use crate::operators::splits::SplitWatermarks;
use crate::operators::watermark::WatermarkStrategy;
use crate::source::{SourceReader, SourceStatus, Split};
use hurtig_core::accumulators::AccumulatorValues;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use hurtig_core::{Barrier, Event, Result};
use hurtig_state::OperatorSnapshot;
use std::collections::VecDeque;
use std::task::Poll;
use std::time::Duration;

/// Records a reader may emit in one call.
const READ_FUEL: u32 = 4_096;

/// A source reader as the head of a chain.
pub struct SourceHead<T> {
    reader: Box<dyn SourceReader<T>>,
    watermarks: SplitWatermarks<T>,
    services: Services,
    asked: bool,
    request: bool,
    /// The answer to the request, until the reader has it.
    arrived: Option<Option<Split>>,
    events: VecDeque<Event>,
    /// Whether consumers take what follows for backlog.
    backlog: bool,
    /// What they are to be told of it.
    told_backlog: Option<bool>,
    /// Checkpoints whose barriers are to be sent before anything else.
    barriers: VecDeque<Barrier>,
    /// The last of them that was sent.
    passed: Option<Barrier>,
    taken: VecDeque<(CheckpointId, OperatorSnapshot)>,
    wait_until: Option<Time>,
    /// When watermarks were last asked for.
    polled: Time,
    finished: bool,
    records_out: u64,
    watermark: i64,
}

impl<T: Send + 'static> SourceHead<T> {
    /// The head that polls `reader`.
    pub fn new(
        reader: Box<dyn SourceReader<T>>,
        strategy: WatermarkStrategy<T>,
        interval: Duration,
        services: Services,
    ) -> Self {
        Self {
            reader,
            watermarks: SplitWatermarks::new(strategy, interval)
                .with_metrics(services.cx().metrics().clone()),
            services,
            asked: false,
            request: false,
            arrived: None,
            events: VecDeque::new(),
            backlog: false,
            told_backlog: None,
            barriers: VecDeque::new(),
            passed: None,
            taken: VecDeque::new(),
            wait_until: None,
            polled: Time::ZERO,
            finished: false,
            records_out: 0,
            watermark: i64::MIN,
        }
    }

    fn poll_watermark(&mut self, now: Time) {
        let update = self.watermarks.poll(now);
        if !update.is_none() {
            self.queue(update.events());
        }
        self.polled = now;
    }

    fn queue(&mut self, events: impl Iterator<Item = Event>) {
        for event in events {
            if let Event::Watermark(wm) = event {
                self.watermark = wm;
            }
            self.events.push_back(event);
        }
    }

    /// The next event that stands before what is read next.
    fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| {
            let backlog = self.told_backlog.take()?;
            let turned = std::mem::replace(&mut self.backlog, backlog) != backlog;
            self.services.set_backlog(backlog);
            turned.then_some(Event::Backlog(backlog))
        })
    }

    fn finish(&mut self) {
        self.finished = true;
        self.told_backlog = None;
        self.services.set_backlog(false);
        if std::mem::take(&mut self.backlog) {
            self.events.push_back(Event::Backlog(false));
        }
        let last = self.watermarks.finish();
        self.queue(last.events());
        self.events.push_back(Event::EndOfInput);
    }

    /// Keeps what the reader remembers now.
    fn remember(&mut self, checkpoint: CheckpointId) -> Result<()> {
        let mut snapshot = self.services.begin_snapshot();
        self.reader.snapshot(&mut snapshot)?;
        self.taken.push_back((checkpoint, snapshot));
        Ok(())
    }

    fn ask_for_split(&mut self) {
        if !self.asked && self.reader.wants_split() {
            self.asked = true;
            self.request = true;
        }
    }

    /// Gives the reader the split that came, unless a barrier is to pass first: the split came behind it, and the
    /// enumerator's part of that checkpoint has it.
    fn hand_over(&mut self) -> Result<()> {
        if !self.barriers.is_empty() {
            return Ok(());
        }
        if let Some(split) = self.arrived.take() {
            self.asked = false;
            self.reader.add_split(split)?;
            self.ask_for_split();
        }
        Ok(())
    }

    fn read(&mut self, link: &mut Link<T>, turn: &mut Turn<'_, '_>) -> Result<Turned> {
        let mut budget = Budget::new(READ_FUEL);
        // Where records decide when a watermark is sent, a batch ends there.
        let limit = self.watermarks.room().map(|room| link.collector.shrink_to(room));
        let polled = self
            .reader
            .poll_batch(turn.task, &mut link.collector, &mut budget);
        if let Some(limit) = limit {
            link.collector.set_limit(limit);
        }
        self.reader.publish(self.services.accumulators());
        let read = link.collector.len();
        self.records_out += read as u64;
        if read > 0 {
            self.watermarks
                .on_batch(self.reader.current_split(), link.collector.batch(), turn.now);
        }
        self.ask_for_split();
        let status = match polled {
            Poll::Pending => return Ok(self.after_reading(read, turn.now)),
            Poll::Ready(status) => status?,
        };
        match status {
            SourceStatus::More => {}
            SourceStatus::WaitUntil(at) => {
                self.wait_until = Some(at);
                return Ok(self.after_reading(read, turn.now));
            }
            SourceStatus::SplitFinished => self.watermarks.split_finished(self.reader.current_split()),
            SourceStatus::Finished => {
                self.finish();
                return Ok(Turned::Worked);
            }
        }
        self.poll_watermark(turn.now);
        Ok(Turned::Worked)
    }

    fn after_reading(&mut self, read: usize, now: Time) -> Turned {
        self.poll_watermark(now);
        if read > 0 || !self.events.is_empty() {
            Turned::Worked
        } else {
            Turned::Starved
        }
    }
}

impl<T: Send + 'static> Head for SourceHead<T> {
    fn open(&mut self, restored: Option<&OperatorSnapshot>) -> Result<()> {
        self.reader
            .open(&mut OpenContext::new(&self.services, restored))?;
        self.ask_for_split();
        Ok(())
    }

    fn pull(&mut self, output: &mut dyn AnyLink, turn: &mut Turn<'_, '_>) -> Result<Turned> {
        if !output.is_empty() {
            return Ok(Turned::Starved);
        }
        let link = typed::<T>(output);
        if let Some(barrier) = self.barriers.pop_front() {
            self.remember(barrier.checkpoint)?;
            self.passed = Some(barrier);
            link.event = Some(Event::Barrier(barrier));
            self.hand_over()?;
            return Ok(Turned::Worked);
        }
        if let Some(event) = self.next_event() {
            link.event = Some(event);
            return Ok(Turned::Worked);
        }
        if self.finished {
            return Ok(Turned::Starved);
        }
        if self.wait_until.is_some_and(|at| turn.now < at) {
            self.poll_watermark(turn.now);
            return Ok(if self.events.is_empty() {
                Turned::Starved
            } else {
                Turned::Worked
            });
        }
        self.wait_until = None;
        self.read(link, turn)
    }

    fn wake_at(&self) -> (Option<Time>, i64) {
        if self.finished {
            return (None, i64::MAX);
        }
        let next_watermark = self.watermarks.next_poll(self.polled);
        (
            self.wait_until.into_iter().chain(next_watermark).min(),
            self.services.wake_at(),
        )
    }

    fn add_split(&mut self, split: Option<Split>) -> Result<()> {
        self.arrived = Some(split);
        self.hand_over()
    }

    fn take_split_request(&mut self) -> bool {
        std::mem::take(&mut self.request)
    }

    fn begin_in_backlog(&mut self, inputs: &[bool]) {
        self.set_backlog(inputs.contains(&true));
    }

    fn set_backlog(&mut self, backlog: bool) {
        if !self.finished {
            self.told_backlog = Some(backlog);
        }
    }

    fn set_back_pressured(&mut self, now: Time, back_pressured: bool) {
        self.watermarks.set_back_pressured(back_pressured, now);
    }

    fn passed(&self) -> Option<Barrier> {
        self.barriers.back().copied().or(self.passed)
    }

    fn trigger(&mut self, barrier: Barrier) -> bool {
        // Behind the end of input no barrier can follow.
        if self.finished && self.events.is_empty() {
            return false;
        }
        self.barriers.push_back(barrier);
        true
    }

    fn drain(&mut self, checkpoint: CheckpointId) -> Result<()> {
        // Splits that come later are still with the enumerator, as the savepoint has it.
        self.remember(checkpoint)?;
        if !self.finished {
            self.finish();
        }
        Ok(())
    }

    fn take_snapshot(&mut self, checkpoint: CheckpointId) -> Option<OperatorSnapshot> {
        let at = self.taken.iter().position(|(id, _)| *id == checkpoint)?;
        self.taken.drain(..=at).next_back().map(|(_, snapshot)| snapshot)
    }

    fn cut_at_end(&mut self, checkpoint: CheckpointId) -> Result<()> {
        if self.taken.iter().any(|(taken, _)| *taken == checkpoint) {
            return Ok(());
        }
        self.remember(checkpoint)
    }

    fn finish_at_once(&mut self, _now: Time) {
        self.finished = true;
    }

    fn abort(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.barriers.retain(|barrier| barrier.checkpoint != checkpoint);
        self.taken.retain(|(id, _)| *id != checkpoint);
        self.hand_over()
    }

    fn close(&mut self) -> Result<()> {
        self.reader.close()
    }

    fn accumulators(&self) -> AccumulatorValues {
        self.services.accumulators().values()
    }

    fn stats(&self) -> Option<NodeStats> {
        self.watermarks.publish(self.services.cx().now());
        Some(NodeStats {
            operator: self.services.info().operator.clone(),
            records_in: 0,
            records_out: self.records_out,
            watermark: self.watermark,
            input_watermark: i64::MIN,
            backlog: self.backlog,
        })
    }
}
