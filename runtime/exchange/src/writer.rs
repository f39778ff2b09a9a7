//! The producing side of an edge: scatter buffers, flushing, and back pressure.

use crate::channel::{SendOutcome, Sender};
use crate::partition::Partitioner;
use crate::spread::Spread;
use hurtig_core::time::Time;
use hurtig_core::types::TypeInfo;
use hurtig_core::{Batch, Event};
use std::time::Duration;

/// When buffers are handed over before they are full.
#[derive(Clone, Copy, Debug)]
pub struct FlushPolicy {
    /// Records of a full buffer (`pipeline.batch-size`).
    pub batch_size: usize,
    /// Bytes of a full buffer (`pipeline.batch-bytes`).
    pub batch_bytes: usize,
    /// Longest wait under load (`execution.buffer-timeout.interval`); zero flushes behind every
    /// input batch, `None` never flushes by time.
    pub timeout: Option<Duration>,
    /// Shortest pause between two flushes of a channel because its task went idle.
    pub idle_pause: Duration,
}

impl Default for FlushPolicy {
    fn default() -> Self {
        Self {
            batch_size: 4_096,
            batch_bytes: 256 << 10,
            timeout: Some(Duration::from_millis(10)),
            idle_pause: Duration::from_micros(500),
        }
    }
}

/// Records of a batch whose sizes nobody knows, because they own memory elsewhere.
const UNKNOWN: usize = 1_024;

impl FlushPolicy {
    /// How many records a batch may have before anybody has looked at how large they are.
    pub fn unseen<T>(&self) -> usize {
        if std::mem::needs_drop::<T>() {
            self.batch_size.min(UNKNOWN)
        } else {
            self.batch_size
        }
    }
}

/// One channel of an edge with the records that wait to fill a batch.
#[derive(Debug)]
struct Lane<T> {
    sender: Sender<T>,
    buffer: Batch<T>,
    /// When the oldest waiting record came.
    since: Time,
    /// When it was last handed over because its task went idle.
    idled: Time,
}

/// Spreads a producer's output over the channels of one edge.
///
/// Nothing here blocks: a call that finds no room leaves what it could not place where it was and
/// says so; the task's signal rings when there is room again.
#[derive(Debug)]
pub struct EdgeWriter<T> {
    lanes: Vec<Lane<T>>,
    partitioner: Partitioner<T>,
    types: TypeInfo<T>,
    policy: FlushPolicy,
    /// Records at which a buffer is full, from the batch size and the sampled size of records.
    limit: usize,
    targets: Vec<u16>,
    /// Which records of the batch at hand are still to go, if records can be copied.
    spread: Spread,
    /// An event that some channels have not received, because buffers before it had no room.
    pending: Option<Event>,
    /// Lane from which `pending` goes on.
    pending_from: usize,
    /// The batch at hand has its hash column.
    prepared: bool,
    records_out: u64,
    bytes_out: u64,
}

impl<T: Clone> EdgeWriter<T> {
    /// A writer over the channels in the order of the consuming subtasks.
    ///
    /// # Panics
    /// Without any channel.
    pub fn new(
        senders: Vec<Sender<T>>,
        partitioner: Partitioner<T>,
        types: TypeInfo<T>,
        policy: FlushPolicy,
    ) -> Self {
        assert!(!senders.is_empty(), "an edge leads somewhere");
        let lanes = senders
            .into_iter()
            .map(|sender| Lane {
                sender,
                buffer: Batch::new(),
                since: Time::ZERO,
                idled: Time::ZERO,
            })
            .collect();
        Self {
            lanes,
            partitioner,
            types,
            limit: policy.unseen::<T>(),
            policy,
            targets: Vec::new(),
            spread: Spread::default(),
            pending: None,
            pending_from: 0,
            prepared: false,
            records_out: 0,
            bytes_out: 0,
        }
    }

    /// Takes records from the front of `batch`, as many as find room. True when all did.
    pub fn write(&mut self, batch: &mut Batch<T>, now: Time) -> bool {
        if self.pending.is_some() && !self.continue_event() {
            return false;
        }
        if batch.is_empty() {
            return true;
        }
        let first = !std::mem::replace(&mut self.prepared, true);
        let split = !first || self.split_unhashed(batch);
        if !split {
            self.partitioner.prepare(batch);
        }
        let placed = match self.partitioner.single_target(self.lanes.len()) {
            Some(lane) => self.write_to_one(lane, batch, now),
            None if matches!(self.partitioner, Partitioner::Broadcast) => self.write_to_all(batch, now),
            // Without anything to drop, a clone is a copy: records can be picked in any order.
            None if !std::mem::needs_drop::<T>() => self.scatter_copies(split, batch, now),
            None => self.scatter(batch, now),
        };
        self.prepared = !placed;
        placed
    }

    /// Lists the places of two lanes' records straight from the records, when they are to travel without their
    /// hashes and can be copied. False when it takes a column of hashes.
    fn split_unhashed(&mut self, batch: &mut Batch<T>) -> bool {
        if self.lanes.len() != 2 || std::mem::needs_drop::<T>() {
            return false;
        }
        let split = self.partitioner.split(batch.records(), &mut self.spread);
        if split {
            // The hashes of another key, if any.
            batch.clear_hashes();
        }
        split
    }

    /// Hands every lane its records; a lane without room does not hold the others up. When they are not `split`
    /// yet, they are.
    fn scatter_copies(&mut self, split: bool, batch: &mut Batch<T>, now: Time) -> bool {
        let lanes = self.lanes.len();
        if !split {
            match self.partitioner.first_of_second(lanes) {
                Some(from) => self.spread.split_by_hash(batch.hashes(), from),
                None => {
                    self.partitioner.route(batch, lanes, &mut self.targets);
                    self.spread.assign(&self.targets, lanes);
                }
            }
        }
        let mut columns = batch.columns();
        if self.partitioner.leaves_hashes() {
            columns.hashes = &[];
        }
        let mut placed = true;
        for lane in 0..lanes {
            while self.spread.has(lane) {
                let room = self.make_room(lane);
                if room == 0 {
                    placed = false;
                    break;
                }
                self.note_first(lane, now);
                let places = self.spread.take(lane, room);
                self.records_out += places.len() as u64;
                self.lanes[lane]
                    .buffer
                    .append_picked(&columns, places, self.limit);
            }
        }
        if placed {
            batch.clear();
        }
        placed
    }

    fn write_to_one(&mut self, lane: usize, batch: &mut Batch<T>, now: Time) -> bool {
        while !batch.is_empty() {
            let room = self.make_room(lane);
            if room == 0 {
                return false;
            }
            self.note_first(lane, now);
            self.records_out += room.min(batch.len()) as u64;
            self.lanes[lane].buffer.append(batch, room);
            if self.lanes[lane].buffer.len() >= self.limit {
                self.flush_lane(lane);
            }
        }
        true
    }

    fn write_to_all(&mut self, batch: &mut Batch<T>, now: Time) -> bool {
        while !batch.is_empty() {
            let rooms = (0..self.lanes.len())
                .map(|lane| self.make_room(lane))
                .collect::<Vec<_>>();
            let n = rooms.into_iter().min().unwrap_or(0).min(batch.len());
            if n == 0 {
                return false;
            }
            let mut part = Batch::new();
            part.append(batch, n);
            for lane in 1..self.lanes.len() {
                self.note_first(lane, now);
                self.lanes[lane].buffer.append(&mut part.clone(), n);
            }
            self.note_first(0, now);
            self.lanes[0].buffer.append(&mut part, n);
            self.records_out += n as u64;
        }
        true
    }

    fn scatter(&mut self, batch: &mut Batch<T>, now: Time) -> bool {
        let mut targets = std::mem::take(&mut self.targets);
        if targets.len() != batch.len() {
            self.partitioner.route(batch, self.lanes.len(), &mut targets);
        }
        let mut done = 0;
        while done < targets.len() {
            let n = self.placeable(&targets[done..]);
            if n == 0 {
                break;
            }
            self.place(&targets[done..done + n], batch, now);
            done += n;
        }
        // What finds no room keeps its channels: choosing anew would favour the first ones.
        targets.drain(..done);
        self.targets = targets;
        batch.reset_if_empty();
        batch.is_empty()
    }

    /// How many of the next records find room in their buffers, after flushing full ones.
    fn placeable(&mut self, targets: &[u16]) -> usize {
        let mut least = usize::MAX;
        for lane in 0..self.lanes.len() {
            least = least.min(self.make_room(lane));
        }
        if least >= targets.len() {
            return targets.len();
        }
        let mut rooms: Vec<usize> = self
            .lanes
            .iter()
            .map(|l| self.limit.saturating_sub(l.buffer.len()))
            .collect();
        for (i, &target) in targets.iter().enumerate() {
            let room = &mut rooms[usize::from(target)];
            if *room == 0 {
                return i;
            }
            *room -= 1;
        }
        targets.len()
    }

    fn place(&mut self, targets: &[u16], batch: &mut Batch<T>, now: Time) {
        for lane in 0..self.lanes.len() {
            self.note_first(lane, now);
        }
        self.records_out += targets.len() as u64;
        let common = batch
            .common_time()
            .filter(|&time| self.all_at(time, targets.len()));
        let drained = batch.drain_columns(targets.len());
        let (times, hashes) = (drained.times, drained.hashes);
        let lanes = &mut self.lanes[..];
        match (common, hashes.is_empty()) {
            (Some(_), false) => {
                for ((record, &target), &hash) in drained.records.zip(targets).zip(hashes) {
                    lanes[usize::from(target)]
                        .buffer
                        .push_at_common_time(record, hash);
                }
            }
            (_, true) => {
                for (i, (record, &target)) in drained.records.zip(targets).enumerate() {
                    lanes[usize::from(target)].buffer.push(record, times.get(i));
                }
            }
            (None, false) => {
                for (i, ((record, &target), &hash)) in drained.records.zip(targets).zip(hashes).enumerate() {
                    lanes[usize::from(target)]
                        .buffer
                        .push_hashed(record, times.get(i), hash);
                }
            }
        }
    }

    /// Whether every buffer can take records of one event time without a column of times.
    fn all_at(&mut self, time: i64, records: usize) -> bool {
        let share = records / self.lanes.len() * 5 / 4 + 8;
        self.lanes.iter_mut().fold(true, |all, lane| {
            lane.buffer.reserve_at_common_time(time, share) & all
        })
    }

    fn note_first(&mut self, lane: usize, now: Time) {
        let lane = &mut self.lanes[lane];
        if lane.buffer.is_empty() {
            lane.since = now;
        }
    }

    /// Room in a lane's buffer; flushes it first when it is full.
    fn make_room(&mut self, lane: usize) -> usize {
        if self.lanes[lane].buffer.len() >= self.limit {
            self.flush_lane(lane);
        }
        self.limit.saturating_sub(self.lanes[lane].buffer.len())
    }

    /// Hands a lane's buffer over; true when the buffer is empty afterwards.
    fn flush_lane(&mut self, index: usize) -> bool {
        let lane = &mut self.lanes[index];
        if lane.buffer.is_empty() {
            return true;
        }
        if !lane.sender.has_room() {
            return false;
        }
        let mut batch = lane.buffer.take();
        let bytes = self.types.bytes_held_by(batch.records());
        self.limit = fitting_limit(self.policy, bytes, batch.len());
        // The next batch is about as large as this one: reserve once instead of growing.
        lane.buffer = Batch::with_capacity(batch.len().next_power_of_two().clamp(16, self.limit.max(16)));
        self.bytes_out += bytes as u64;
        match lane.sender.try_send(batch, bytes) {
            SendOutcome::Sent | SendOutcome::Gone => true,
            SendOutcome::Full(batch) => {
                // There was room: it cannot be encoded, and the task is about to fail with the reason.
                lane.buffer = batch;
                false
            }
        }
    }

    /// Sends an event behind everything written so far. True when every channel has it; otherwise
    /// it is kept and goes first at the next call.
    ///
    /// # Panics
    /// When an earlier event is still waiting.
    pub fn send_event(&mut self, event: Event) -> bool {
        assert!(self.pending.is_none(), "one event at a time");
        self.pending = Some(event);
        self.pending_from = 0;
        self.continue_event()
    }

    /// Goes on with an event that found no room. True when none is waiting.
    pub fn continue_event(&mut self) -> bool {
        let Some(event) = self.pending else { return true };
        while self.pending_from < self.lanes.len() {
            if !self.flush_lane(self.pending_from) {
                return false;
            }
            self.lanes[self.pending_from].sender.send_event(event);
            self.pending_from += 1;
        }
        self.pending = None;
        true
    }

    /// Hands over buffers whose oldest record has waited for the buffer timeout.
    pub fn flush_due(&mut self, now: Time) {
        let Some(timeout) = self.policy.timeout else {
            return;
        };
        for lane in 0..self.lanes.len() {
            let waiting = &self.lanes[lane];
            if !waiting.buffer.is_empty() && now.since(waiting.since) >= timeout {
                self.flush_lane(lane);
            }
        }
    }

    /// The task is about to go idle: hands over what waits, at most once in the idle pause a
    /// channel. Returns when to call again for what could not go yet.
    ///
    /// Full buffers that went in the pause do not count: what was left behind them would wait although
    /// there is nothing to wait for.
    pub fn flush_idle(&mut self, now: Time) -> Option<Time> {
        let mut again: Option<Time> = None;
        for lane in 0..self.lanes.len() {
            let waiting = &self.lanes[lane];
            if waiting.buffer.is_empty() {
                continue;
            }
            let allowed = waiting.idled.after(self.policy.idle_pause);
            if allowed <= now || waiting.idled == Time::ZERO {
                if self.flush_lane(lane) {
                    self.lanes[lane].idled = now;
                }
            } else {
                again = Some(again.map_or(allowed, |at| at.min(allowed)));
            }
        }
        again
    }

    /// Whether a batch written now would find room at least in part: no full buffer stands before
    /// a full channel, and no event waits.
    pub fn is_ready(&mut self) -> bool {
        self.continue_event() && (0..self.lanes.len()).all(|lane| self.make_room(lane) > 0)
    }

    /// Whether nothing waits in buffers.
    pub fn is_flushed(&self) -> bool {
        self.pending.is_none() && self.lanes.iter().all(|lane| lane.buffer.is_empty())
    }

    /// Records and estimated bytes handed on so far.
    pub fn totals(&self) -> (u64, u64) {
        (self.records_out, self.bytes_out)
    }
}

/// Records of a full buffer, given that `count` records held `bytes`.
fn fitting_limit(policy: FlushPolicy, bytes: usize, count: usize) -> usize {
    let each = (bytes / count.max(1)).max(1);
    (policy.batch_bytes / each).clamp(1, policy.batch_size)
}
