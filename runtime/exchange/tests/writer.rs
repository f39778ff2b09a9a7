//! The writer of an edge against a naive model: whatever consumers do, every record arrives once,
//! in order, with its columns, where its key belongs, and behind the events that were before it.
#![allow(clippy::unwrap_used, reason = "a test stops where its helpers find nothing")]

use hurtig_core::key::group_selector;
use hurtig_core::time::Time;
use hurtig_core::types::TypeInfo;
use hurtig_core::{Batch, Element, Event};
use hurtig_exchange::{
    ChannelOptions, EdgeWriter, FlushPolicy, HashRecords, Partitioner, Receiver, Signal, channel,
};
use proptest::prelude::*;
use std::sync::{Arc, mpsc};
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

/// Number and key.
type Record = (u32, u64);
const RECORD_BYTES: usize = size_of::<Record>();
const GROUPS: u32 = 37;

/// SplitMix64's finaliser, from its published constants.
fn splitmix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct ByKey {
    cheap: bool,
}

impl HashRecords<Record> for ByKey {
    fn hash_all(&self, records: &[Record], hashes: &mut Vec<u64>) {
        hashes.extend(records.iter().map(|record| splitmix(record.1)));
    }

    fn cheap(&self) -> bool {
        self.cheap
    }

    fn split(
        &self,
        records: &[Record],
        bound: u32,
        (zeros, ones): (&mut [u32], &mut [u32]),
    ) -> Option<usize> {
        assert!(zeros.len() >= records.len() && ones.len() >= records.len());
        let mut second = 0;
        for (place, record) in records.iter().enumerate() {
            if group_selector(splitmix(record.1)) >= bound {
                ones[second] = place as u32;
                second += 1;
            } else {
                zeros[place - second] = place as u32;
            }
        }
        self.cheap.then_some(second)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Forward,
    Hash,
    /// With hashes that nobody hands over.
    CheapHash,
    Rebalance,
    Shuffle,
    Broadcast,
    Global,
    Custom,
}

impl Kind {
    fn partitioner(self, channels: usize) -> Partitioner<Record> {
        match self {
            Kind::Forward => Partitioner::Forward,
            Kind::Hash | Kind::CheapHash => {
                let cheap = self == Kind::CheapHash;
                Partitioner::hash(Arc::new(ByKey { cheap }), GROUPS, channels as u32)
            }
            Kind::Rebalance => Partitioner::Rebalance { next: 0 },
            Kind::Shuffle => Partitioner::Shuffle { state: 7 },
            Kind::Broadcast => Partitioner::Broadcast,
            Kind::Global => Partitioner::Global,
            Kind::Custom => Partitioner::Custom(Arc::new(|record, n| record.1 as usize + n)),
        }
    }

    /// The only channel that may receive the record, where there is one.
    fn target(self, key: u64, channels: usize) -> Option<usize> {
        match self {
            Kind::Forward | Kind::Global => Some(0),
            Kind::Hash | Kind::CheapHash => {
                let group = (((splitmix(key) >> 16) & 0xffff_ffff) * u64::from(GROUPS)) >> 32;
                Some((group * channels as u64 / u64::from(GROUPS)) as usize)
            }
            Kind::Custom => Some(key as usize % channels),
            Kind::Rebalance | Kind::Shuffle | Kind::Broadcast => None,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Records, of one time or of several; with a hash column of somebody else's, or without.
    Write(usize, bool, bool),
    Take(usize, usize),
    Watermark,
    Idle,
    Due,
    Advance(u64),
}

fn records() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1..40usize, 1 => 40..900usize]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (records(), any::<bool>(), any::<bool>()).prop_map(|(n, one, hashed)| Step::Write(n, one, hashed)),
        4 => (0..5usize, 1..4usize).prop_map(|(channel, n)| Step::Take(channel, n)),
        2 => Just(Step::Watermark),
        1 => Just(Step::Idle),
        1 => Just(Step::Due),
        1 => (1..3_000u64).prop_map(Step::Advance),
    ]
}

#[derive(Clone, Debug)]
struct Setup {
    kind: Kind,
    channels: usize,
    bounds: ChannelOptions,
    batch_size: usize,
    batch_bytes: usize,
}

fn setup() -> impl Strategy<Value = Setup> {
    let kinds = [
        Kind::Forward,
        Kind::Hash,
        Kind::CheapHash,
        Kind::Rebalance,
        Kind::Shuffle,
        Kind::Broadcast,
        Kind::Global,
        Kind::Custom,
    ];
    let bounds = (1..4usize, prop_oneof![1..400usize, 1..20_000usize]);
    (
        prop::sample::select(kinds.to_vec()),
        prop_oneof![Just(2), 1..=5usize],
        bounds,
        prop_oneof![1..24usize, 60..400usize],
        prop_oneof![200..4_000usize, Just(256 << 10)],
    )
        .prop_map(
            |(kind, channels, (max_batches, max_bytes), batch_size, batch_bytes)| Setup {
                kind,
                channels: if kind == Kind::Forward { 1 } else { channels },
                bounds: ChannelOptions::bounded(max_batches, max_bytes),
                batch_size,
                batch_bytes,
            },
        )
}

/// A writer with the model of what it has been given.
struct Subject {
    setup: Setup,
    writer: EdgeWriter<Record>,
    receivers: Vec<Receiver<Record>>,
    /// Key, time, and the watermark before it, of each record by number.
    given: Vec<(u64, i64, i64)>,
    got: Vec<Vec<u32>>,
    watermarks: Vec<i64>,
    ends: Vec<usize>,
    watermark: i64,
    now: u64,
}

impl Subject {
    fn new(setup: Setup) -> Self {
        let ends = (0..setup.channels).map(|_| channel(setup.bounds, Signal::new(), Signal::new()));
        let (senders, receivers): (Vec<_>, Vec<_>) = ends.unzip();
        let policy = FlushPolicy {
            batch_size: setup.batch_size,
            batch_bytes: setup.batch_bytes,
            ..FlushPolicy::default()
        };
        let writer = EdgeWriter::new(
            senders,
            setup.kind.partitioner(setup.channels),
            TypeInfo::of(),
            policy,
        );
        Self {
            writer,
            receivers,
            given: Vec::new(),
            got: vec![Vec::new(); setup.channels],
            watermarks: vec![i64::MIN; setup.channels],
            ends: vec![0; setup.channels],
            watermark: i64::MIN,
            now: 1,
            setup,
        }
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.now * 1_000)
    }

    fn take(&mut self, at: usize) -> bool {
        let (batches, bytes) = self.receivers[at].backlog();
        assert!(batches <= self.setup.bounds.max_batches, "{batches} batches wait");
        let most = self.setup.bounds.max_bytes - 1 + self.setup.batch_size * RECORD_BYTES;
        assert!(bytes <= most, "{bytes} bytes wait, {most} may");
        match self.receivers[at].try_recv() {
            None => return false,
            Some(Element::Event(Event::Watermark(wm))) => self.watermarks[at] = wm,
            Some(Element::Event(Event::EndOfInput)) => self.ends[at] += 1,
            Some(Element::Event(other)) => panic!("nobody sent {other:?}"),
            Some(Element::Batch(mut batch)) => self.check(at, &mut batch),
        }
        true
    }

    fn check(&mut self, at: usize, batch: &mut Batch<Record>) {
        assert_eq!(self.ends[at], 0, "records behind the end");
        assert!((1..=self.setup.batch_size).contains(&batch.len()));
        let hashes = batch.hashes().to_vec();
        // A batch that goes to the only channel is moved, with all that it has.
        let hashed = match self.setup.kind {
            Kind::Hash => true,
            Kind::CheapHash => self.setup.channels == 1,
            _ => false,
        };
        assert_eq!(hashes.len(), if hashed { batch.len() } else { 0 });
        for i in 0..batch.len() {
            let (number, key) = batch.records()[i];
            let (given_key, time, watermark) = self.given[number as usize];
            assert_eq!((key, batch.time(i)), (given_key, time));
            assert_eq!(
                self.watermarks[at], watermark,
                "overtook an event, or was overtaken"
            );
            assert!(hashes.get(i).is_none_or(|&hash| hash == splitmix(key)));
            let target = self.setup.kind.target(key, self.setup.channels);
            assert!(target.is_none_or(|target| target == at));
            assert!(
                self.got[at].last().is_none_or(|&last| last < number),
                "out of order"
            );
            self.got[at].push(number);
        }
    }

    /// Takes one element from each channel; whether there was any.
    fn take_any(&mut self) -> bool {
        (0..self.setup.channels).fold(false, |any, at| self.take(at) | any)
    }

    fn write(&mut self, n: usize, one_time: bool, hashed: bool) {
        let mut batch = Batch::new();
        for i in 0..n {
            let number = self.given.len() as u32;
            let key = splitmix(u64::from(number)) % 50;
            let time = if one_time { n as i64 } else { (i * 7 % 5) as i64 };
            self.given.push((key, time, self.watermark));
            if hashed {
                batch.push_hashed((number, key), time, 99);
            } else {
                batch.push((number, key), time);
            }
        }
        let mut left = batch.len();
        while !self.writer.write(&mut batch, self.now()) {
            assert!(batch.len() <= left, "the batch grew");
            assert!(self.take_any(), "no room although nothing waits");
            left = batch.len();
        }
        assert!(batch.is_empty() && batch.hashes().is_empty());
    }

    fn event(&mut self, event: Event) {
        let mut sent = self.writer.send_event(event);
        while !sent {
            assert!(self.take_any(), "no room although nothing waits");
            sent = self.writer.continue_event();
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Write(n, one_time, hashed) => self.write(n, one_time, hashed),
            Step::Take(at, n) => {
                for _ in 0..n {
                    self.take(at % self.setup.channels);
                }
            }
            Step::Watermark => {
                self.watermark = self.watermark.max(0) + 1;
                self.event(Event::Watermark(self.watermark));
            }
            Step::Idle => {
                let again = self.writer.flush_idle(self.now());
                assert!(again.is_none_or(|at| at > self.now()));
            }
            Step::Due => self.writer.flush_due(self.now()),
            Step::Advance(micros) => self.now += micros,
        }
    }

    fn finish(&mut self) {
        self.event(Event::EndOfInput);
        while self.take_any() {}
        assert!(self.writer.is_flushed());
        assert!(self.ends.iter().all(|&ends| ends == 1), "one end a channel");
        assert!(self.watermarks.iter().all(|&wm| wm == self.watermark));
        let all: Vec<u32> = (0..self.given.len() as u32).collect();
        if self.setup.kind == Kind::Broadcast {
            assert!(self.got.iter().all(|got| *got == all));
        } else {
            let mut got = self.got.concat();
            got.sort_unstable();
            assert_eq!(got, all);
        }
        if self.setup.kind == Kind::Rebalance {
            let counts = self.got.iter().map(Vec::len);
            let (least, most) = (counts.clone().min().unwrap(), counts.max().unwrap());
            assert!(most - least <= 1, "{least} and {most} records");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn every_record_arrives_once_in_order_where_it_belongs(
        setup in setup(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut subject = Subject::new(setup);
        steps.iter().for_each(|step| subject.run(step));
        subject.finish();
    }
}

fn blob_edge(bounds: ChannelOptions) -> (EdgeWriter<Vec<u8>>, Receiver<Vec<u8>>) {
    let (sender, receiver) = channel(bounds, Signal::new(), Signal::new());
    let policy = FlushPolicy::default();
    (
        EdgeWriter::new(vec![sender], Partitioner::Forward, TypeInfo::of(), policy),
        receiver,
    )
}

fn received<T>(receiver: &Receiver<T>) -> Vec<usize> {
    let batches = std::iter::from_fn(|| receiver.try_recv());
    batches
        .map(|element| match element {
            Element::Batch(batch) => batch.len(),
            Element::Event(_) => 0,
        })
        .collect()
}

#[test]
fn batches_of_big_records_shrink_to_the_bytes_of_a_batch() {
    let wide = ChannelOptions::bounded(1_000, usize::MAX);
    let (mut writer, receiver) = blob_edge(wide);
    let mut batch = Batch::from_records(vec![vec![0; 64 << 10]; 2_048]);
    assert!(writer.write(&mut batch, Time::from_nanos(1)));
    writer.flush_idle(Time::from_nanos(1 << 40));
    let sizes = received(&receiver);
    assert_eq!(sizes.iter().sum::<usize>(), 2_048);
    // The first batch is how the writer learns; then 4 records of 64 KiB, less what a vector costs.
    assert!(sizes[1..].iter().all(|&n| (1..=4).contains(&n)), "{sizes:?}");
}

#[test]
fn what_full_batches_leave_behind_does_not_wait_for_the_pause() {
    let (mut writer, receiver) = blob_edge(ChannelOptions::default());
    let at = |micros: u64| Time::from_nanos(micros * 1_000);
    let write = |writer: &mut EdgeWriter<Vec<u8>>, records, micros| {
        assert!(writer.write(&mut Batch::from_records(vec![vec![1]; records]), at(micros)));
    };
    write(&mut writer, 1, 100);
    assert_eq!(writer.flush_idle(at(100)), None);
    write(&mut writer, 4_097, 1_000);
    assert_eq!(writer.flush_idle(at(1_001)), None);
    assert_eq!(received(&receiver), [1, 4_096, 1]);
}

#[test]
fn an_idle_flush_happens_once_in_the_pause_and_the_timeout_counts_from_the_oldest() {
    let (mut writer, receiver) = blob_edge(ChannelOptions::default());
    let at = |micros: u64| Time::from_nanos(micros * 1_000);
    let write = |writer: &mut EdgeWriter<Vec<u8>>, micros| {
        assert!(writer.write(&mut Batch::from_records(vec![vec![1]]), at(micros)));
    };
    write(&mut writer, 100);
    assert_eq!(writer.flush_idle(at(100)), None);
    assert_eq!(received(&receiver), [1]);
    write(&mut writer, 200);
    assert_eq!(writer.flush_idle(at(200)), Some(at(600)));
    assert_eq!(writer.flush_idle(at(599)), Some(at(600)));
    assert!(received(&receiver).is_empty());
    assert_eq!(writer.flush_idle(at(600)), None);
    assert_eq!(received(&receiver), [1]);
    write(&mut writer, 1_000);
    write(&mut writer, 10_999);
    writer.flush_due(at(10_999));
    assert!(received(&receiver).is_empty());
    writer.flush_due(at(11_000));
    assert_eq!(received(&receiver), [2]);
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Repeats `step` until it says that all is done; sleeps as a task does: listens, looks once
/// more, and then waits for the bell alone.
fn turn_until_done(signal: &Signal, mut step: impl FnMut() -> (bool, bool)) {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut listening = false;
    loop {
        match step() {
            (_, true) => return,
            (true, false) => listening = false,
            (false, false) if listening => {
                std::thread::park();
                listening = false;
            }
            (false, false) => {
                signal.listen(&waker);
                listening = true;
            }
        }
    }
}

fn produce(mut writer: EdgeWriter<u32>, signal: &Signal, records: u32) {
    let (mut next, mut batch, mut ended) = (0, Batch::new(), false);
    let now = Time::from_nanos(1);
    turn_until_done(signal, || {
        if batch.is_empty() && next < records {
            let size = 1 + next % 13;
            batch = Batch::from_records((next..records.min(next + size)).collect());
            next = records.min(next + size);
        }
        let before = batch.len();
        let placed = writer.write(&mut batch, now);
        if placed && next == records {
            if !ended {
                ended = true;
                writer.send_event(Event::EndOfInput);
            }
            return (false, writer.is_flushed());
        }
        (placed || batch.len() < before, false)
    });
}

fn consume(receivers: &[Receiver<u32>], signal: &Signal) -> u64 {
    let (mut sum, mut open) = (0, receivers.len());
    turn_until_done(signal, || {
        let mut worked = false;
        for receiver in receivers {
            match receiver.try_recv() {
                Some(Element::Batch(mut batch)) => {
                    sum += batch.records().iter().map(|&r| u64::from(r)).sum::<u64>();
                    worked = true;
                }
                Some(Element::Event(_)) => {
                    open -= 1;
                    worked = true;
                }
                None => {}
            }
        }
        (worked, open == 0)
    });
    sum
}

/// Either side sleeps on its signal alone, so that a bell that does not ring leaves it asleep.
#[test]
fn no_wake_up_is_lost_between_two_threads() {
    const RECORDS: u32 = 100_000;
    let tiny = ChannelOptions::bounded(1, 1 << 20);
    let (done, finished) = mpsc::sync_channel(4);
    let (producer, consumer) = (Signal::new(), Signal::new());
    let ends = (0..3).map(|_| channel(tiny, producer.clone(), consumer.clone()));
    let (senders, receivers): (Vec<_>, Vec<_>) = ends.unzip();
    let policy = FlushPolicy {
        batch_size: 5,
        ..FlushPolicy::default()
    };
    let writer = EdgeWriter::new(senders, Partitioner::Shuffle { state: 3 }, TypeInfo::of(), policy);
    std::thread::spawn(move || produce(writer, &producer, RECORDS));
    std::thread::spawn(move || done.send(consume(&receivers, &consumer)));
    let sum = finished.recv_timeout(Duration::from_secs(60));
    let expected = u64::from(RECORDS) * u64::from(RECORDS - 1) / 2;
    assert_eq!(sum, Ok(expected), "a side sleeps although it could go on");
}
