use super::*;
use crate::{
    BarrierMode, Captured, ChannelKind, ChannelOptions, EdgeWriter, FlushPolicy, Partitioner, Receiver,
    RecordCodec, SendOutcome, Sender, Signal, channel_in, channel_out,
};
use hurtig_core::ids::CheckpointId;
use hurtig_core::types::TypeInfo;
use hurtig_core::{Barrier, Batch, Element};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

type Record = (u64, String);

/// Two processes with a connection between them, and the tasks at its ends.
struct World {
    /// The producers' process, then the consumers'.
    sides: [Connection; 2],
    wires: [Vec<u8>; 2],
    producer: Signal,
    consumer: Signal,
    kind: ChannelKind,
}

const CONFIG: ConnectionConfig = ConnectionConfig {
    exclusive: 400,
    floating: 1_000,
    floating_per_channel: 600,
    max_frame: 100_000,
    quiet: Duration::from_secs(3),
};

fn id(channel: u32) -> ChannelId {
    ChannelId {
        edge: EdgeId(1),
        producer: 0,
        consumer: channel,
        generation: 5,
    }
}

fn batch(numbers: impl IntoIterator<Item = u64>) -> Batch<Record> {
    let record = |n: u64| (n, "x".repeat(n as usize % 5));
    Batch::from_records(numbers.into_iter().map(record).collect())
}

impl World {
    fn new() -> Self {
        Self {
            sides: [(), ()].map(|()| Connection::new(CONFIG)),
            wires: Default::default(),
            producer: Signal::new(),
            consumer: Signal::new(),
            kind: ChannelKind {
                options: ChannelOptions {
                    max_batches: 4,
                    max_bytes: 1_000,
                },
                barriers: BarrierMode::Overtakes,
            },
        }
    }

    fn codec() -> RecordCodec<Record> {
        RecordCodec::new(TypeInfo::of())
    }

    fn sender(&mut self, channel: u32) -> Sender<Record> {
        let signals = (self.producer.clone(), Signal::new());
        let (sender, outlet) = channel_out(self.kind, Self::codec(), signals.0, signals.1);
        self.sides[0].produce(id(channel), outlet);
        sender
    }

    fn receiver(&mut self, channel: u32) -> Receiver<Record> {
        let signals = (Signal::new(), self.consumer.clone());
        let (inlet, receiver) = channel_in(self.kind, Self::codec(), signals.0, signals.1);
        self.sides[1].consume(id(channel), inlet);
        receiver
    }

    /// One side writes what it may; half of its bytes arrive at once.
    fn write(&mut self, side: usize, enough: usize) {
        let at = enough + self.wires[side].len();
        self.sides[side].fill(&mut self.wires[side], at, Time::ZERO);
    }

    fn deliver(&mut self, side: usize, bytes: usize) -> Result<(), FrameError> {
        let bytes = bytes.min(self.wires[side].len());
        let bytes: Vec<u8> = self.wires[side].drain(..bytes).collect();
        self.sides[1 - side].receive(&bytes, Time::ZERO)
    }

    /// Until nothing moves.
    fn settle(&mut self) {
        loop {
            let before = self.wires.iter().map(Vec::len).sum::<usize>();
            (0..2).for_each(|side| self.write(side, usize::MAX / 2));
            if before == 0 && self.wires.iter().all(Vec::is_empty) {
                return;
            }
            (0..2).for_each(|side| self.deliver(side, usize::MAX).unwrap());
        }
    }
}

/// Numbers of the records that a receiver has.
fn numbers(receiver: &Receiver<Record>) -> Vec<u64> {
    let mut found = Vec::new();
    while let Some(element) = receiver.try_recv() {
        if let Element::Batch(mut batch) = element {
            found.extend(std::iter::from_fn(|| batch.pop_front()).map(|((n, _), _)| n));
        }
    }
    found
}

#[test]
fn records_and_events_cross_whichever_side_is_there_first() {
    for consumer_first in [false, true] {
        let mut world = World::new();
        let early = consumer_first.then(|| world.receiver(0));
        let sender = world.sender(0);
        sender.send_event(Event::Backlog(true));
        assert!(matches!(sender.try_send(batch(0..3), 0), SendOutcome::Sent));
        sender.send_event(Event::Watermark(7));
        world.settle();
        let receiver = early.unwrap_or_else(|| world.receiver(0));
        world.settle();
        sender.send_event(Event::EndOfInput);
        drop(sender);
        world.settle();
        assert!(matches!(
            receiver.try_recv(),
            Some(Element::Event(Event::Backlog(true)))
        ));
        let Some(Element::Batch(mut arrived)) = receiver.try_recv() else {
            panic!("no batch")
        };
        assert_eq!(arrived.records(), batch(0..3).records());
        assert!(matches!(
            receiver.try_recv(),
            Some(Element::Event(Event::Watermark(7)))
        ));
        assert!(matches!(
            receiver.try_recv(),
            Some(Element::Event(Event::EndOfInput))
        ));
        assert!(receiver.is_abandoned(), "nothing more comes");
        drop(receiver);
        world.settle();
        assert_eq!(world.sides[0].channels() + world.sides[1].channels(), 0);
        assert!(world.sides[1].unread.is_empty() && world.sides[1].early.is_empty());
    }
}

#[test]
fn a_channel_that_nobody_reads_holds_up_no_other() {
    let mut world = World::new();
    let (slow, fast) = (world.sender(0), world.sender(1));
    let (_unread, read) = (world.receiver(0), world.receiver(1));
    while matches!(slow.try_send(batch(0..5), 0), SendOutcome::Sent) {
        world.settle();
    }
    let (mut sent, mut got) = (0, 0);
    for n in 0..200 {
        sent += usize::from(matches!(fast.try_send(batch([n]), 0), SendOutcome::Sent));
        world.settle();
        got += numbers(&read).len();
    }
    assert_eq!((sent, got), (200, 200));
    assert!(!slow.has_room());
}

#[test]
fn a_barrier_that_may_overtake_comes_although_nothing_is_read() {
    let mut world = World::new();
    let (sender, receiver) = (world.sender(0), world.receiver(0));
    let mut sent = 0;
    while matches!(sender.try_send(batch([sent]), 0), SendOutcome::Sent) {
        sent += 1;
        world.settle();
    }
    let arrived = receiver.backlog().0 as u64;
    assert!(arrived < sent, "some wait at the producer: {arrived} of {sent}");
    sender.send_event(Event::Barrier(Barrier {
        checkpoint: CheckpointId(3),
        overtakes: Some(Time::ZERO),
    }));
    world.settle();
    let announcement = receiver.take_announcement().unwrap();
    assert_eq!(announcement.barrier.checkpoint, CheckpointId(3));
    assert_eq!(announcement.boundary, sent);
    let mut captured = Vec::new();
    let (upto, _) = receiver.capture(0, announcement.boundary, &mut captured).unwrap();
    assert_eq!((upto, captured.len() as u64), (sent, sent));
    assert!(
        captured
            .iter()
            .all(|kept| matches!(kept, Captured::Batch(batch) if batch.len() == 1))
    );
    // Without the barrier there was no credit for them; it is missing afterwards.
    assert!(matches!(sender.try_send(batch([99]), 0), SendOutcome::Sent));
    world.settle();
    assert_eq!(receiver.backlog().0 as u64, sent);
    assert_eq!(numbers(&receiver), (0..sent).collect::<Vec<_>>());
    world.settle();
    assert_eq!(numbers(&receiver), [99]);
}

#[test]
fn a_consumer_that_goes_lets_its_producer_go_on_into_nothing() {
    let mut world = World::new();
    let (sender, receiver) = (world.sender(0), world.receiver(0));
    assert!(matches!(sender.try_send(batch([1]), 0), SendOutcome::Sent));
    world.settle();
    assert!(matches!(sender.try_send(batch([2]), 0), SendOutcome::Sent));
    world.write(0, 1_000);
    drop(receiver);
    world.settle();
    assert!(matches!(sender.try_send(batch([3]), 0), SendOutcome::Gone));
    assert_eq!(world.sides[0].channels() + world.sides[1].channels(), 0);
    assert!(world.sides[1].unread.is_empty(), "its number is forgotten");
}

#[test]
fn a_producer_that_goes_without_an_end_leaves_an_abandoned_channel_behind_its_records() {
    let mut world = World::new();
    let (sender, receiver) = (world.sender(0), world.receiver(0));
    assert!(matches!(sender.try_send(batch([1]), 0), SendOutcome::Sent));
    drop(sender);
    world.settle();
    assert!(!receiver.is_abandoned());
    assert_eq!(numbers(&receiver), [1]);
    assert!(receiver.is_abandoned());
}

#[test]
fn a_connection_that_fails_fails_the_tasks_at_its_ends() {
    let mut world = World::new();
    let (_sender, _receiver) = (world.sender(0), world.receiver(0));
    world.settle();
    for side in &mut world.sides {
        side.fail(|| Error::internal("cut"));
        assert_eq!(side.channels(), 0);
    }
    for signal in [&world.producer, &world.consumer] {
        assert!(signal.take_failure().unwrap().to_string().contains("cut"));
        assert!(signal.take_failure().is_none());
    }
}

#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn what_is_taken_wakes_the_connection_to_grant_anew() {
    let mut world = World::new();
    let sender = world.sender(0);
    let signal = Signal::new();
    let (inlet, receiver) = channel_in(world.kind, World::codec(), signal.clone(), Signal::new());
    world.sides[1].consume(id(0), inlet);
    sender.try_send(batch(0..20), 0);
    sender.try_send(batch(20..40), 0);
    world.settle();
    let bell = Arc::new(Bell::default());
    signal.listen(&Waker::from(bell.clone()));
    assert!(!bell.0.load(Ordering::SeqCst));
    receiver.try_recv();
    assert!(bell.0.load(Ordering::SeqCst));
    let mut out = Vec::new();
    world.sides[1].fill(&mut out, 1_000, Time::ZERO);
    assert!(!out.is_empty(), "a grant");
}

#[test]
fn who_has_nothing_to_say_says_so() {
    let mut connection = Connection::new(CONFIG);
    let mut fill = |millis: u64| {
        let mut out = Vec::new();
        connection.fill(&mut out, 1_000, Time::from_nanos(millis * 1_000_000));
        out
    };
    assert!(fill(2_999).is_empty());
    let alive = fill(3_000);
    assert_eq!(alive.len(), crate::remote::HEADER_LEN);
    assert!(fill(5_999).is_empty() && !fill(6_000).is_empty());
    Connection::new(CONFIG).receive(&alive, Time::ZERO).unwrap();
}

#[test]
fn what_is_forgotten_ends_at_both_sides() {
    let mut world = World::new();
    let (sender, receiver) = (world.sender(0), world.receiver(0));
    world.settle();
    world.sides[0].forget(4);
    assert_eq!(world.sides[0].channels(), 1, "of another generation");
    world.sides[0].forget(5);
    world.settle();
    assert!(receiver.is_abandoned());
    assert!(matches!(sender.try_send(batch([3]), 0), SendOutcome::Gone));
    let (sender, receiver) = (world.sender(1), world.receiver(1));
    world.settle();
    world.sides[1].forget(5);
    world.settle();
    assert!(receiver.is_abandoned());
    assert!(matches!(sender.try_send(batch([3]), 0), SendOutcome::Gone));
    assert_eq!(world.sides[0].channels() + world.sides[1].channels(), 0);
}

#[test]
fn a_record_that_cannot_be_encoded_fails_its_task_and_is_not_lost() {
    #[derive(Clone, Debug)]
    struct Stubborn;
    impl serde::Serialize for Stubborn {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it does not want to"))
        }
    }
    impl<'de> serde::Deserialize<'de> for Stubborn {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Ok(Self)
        }
    }
    let producer = Signal::new();
    let codec = RecordCodec::new(TypeInfo::of());
    let options = ChannelOptions::default();
    let (sender, _outlet) = channel_out(options, codec, producer.clone(), Signal::new());
    let mut writer = EdgeWriter::new(
        vec![sender],
        Partitioner::Forward,
        TypeInfo::of(),
        FlushPolicy::default(),
    );
    assert!(writer.write(&mut Batch::from_records(vec![Stubborn]), Time::ZERO));
    writer.send_event(Event::Watermark(1));
    assert!(
        !writer.is_flushed(),
        "it is still there, and nothing has overtaken it"
    );
    let failure = producer.take_failure().unwrap().chain();
    assert!(
        failure.contains("Stubborn") && failure.contains("it does not want to"),
        "{failure}"
    );
}

#[test]
fn records_of_another_type_fail_their_consumer() {
    let (mut here, mut there) = (Connection::new(CONFIG), Connection::new(CONFIG));
    let (task, options) = (Signal::new(), ChannelOptions::default());
    let (sender, outlet) = channel_out(
        options,
        RecordCodec::new(TypeInfo::of()),
        Signal::new(),
        Signal::new(),
    );
    let codec = RecordCodec::<String>::new(TypeInfo::of());
    let (inlet, receiver) = channel_in(options, codec, Signal::new(), task.clone());
    here.produce(id(0), outlet);
    there.consume(id(0), inlet);
    sender.try_send(Batch::from_records(vec![7u64]), 0);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        here.fill(&mut one, 10_000, Time::ZERO);
        there.receive(&std::mem::take(&mut one), Time::ZERO).unwrap();
        there.fill(&mut other, 10_000, Time::ZERO);
        here.receive(&std::mem::take(&mut other), Time::ZERO).unwrap();
    }
    assert!(receiver.try_recv().is_none());
    assert!(task.take_failure().unwrap().chain().contains("String"));
}

#[test]
fn frames_that_cannot_stand_where_they_stand_are_refused() {
    let element = |position, channel| Header {
        position,
        ..Header::of(Kind::Batch, channel)
    };
    let watermark = event::encode(Event::Watermark(1), Time::ZERO);
    let cases: [(Header, Vec<u8>, &str); 8] = [
        (element(0, 9), vec![], "channel 9, which is not open"),
        (element(1, 0), vec![], "element 1 of channel 0 has come, and 0"),
        (
            Header::of(Kind::Open, 0),
            id_bytes(id(0)),
            "channel 0 is opened twice",
        ),
        (
            Header::of(Kind::Open, 8),
            vec![1, 2, 3],
            "Open of channel 8 is malformed",
        ),
        (
            Header::of(Kind::Credit, 0),
            vec![1],
            "Credit of channel 0 is malformed",
        ),
        (
            Header::of(Kind::Event, 0),
            vec![99],
            "Event of channel 0 is malformed",
        ),
        (
            Header::of(Kind::Announce, 0),
            watermark,
            "Announce of channel 0 is malformed",
        ),
        (element(0, 0), vec![0; 2_000], "without credit"),
    ];
    for (header, body, problem) in cases {
        let mut world = World::new();
        let (_sender, _receiver) = (world.sender(0), world.receiver(0));
        world.settle();
        let mut bytes = Vec::new();
        if problem == "without credit" {
            // What it was granted is used up by the first.
            header.write(&body, &mut bytes);
            Header {
                position: 1,
                ..header
            }
            .write(&body, &mut bytes);
        } else {
            header.write(&body, &mut bytes);
        }
        let refused = world.sides[1].receive(&bytes, Time::ZERO).unwrap_err();
        assert!(refused.to_string().contains(problem), "{refused}");
    }
}

/// What the tasks and the connection may do.
#[derive(Clone, Debug)]
enum Step {
    Send(usize, usize),
    Watermark(usize),
    Take(usize),
    Write(usize, usize),
    Deliver(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..3usize, 1..30usize).prop_map(|(at, n)| Step::Send(at, n)),
        1 => (0..3usize).prop_map(Step::Watermark),
        3 => (0..3usize).prop_map(Step::Take),
        2 => (0..2usize, 1..800usize).prop_map(|(side, n)| Step::Write(side, n)),
        3 => (0..2usize, 1..500usize).prop_map(|(side, n)| Step::Deliver(side, n)),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    /// Whatever the order of steps and the cuts of bytes: everything arrives, in order, and what waits is bounded.
    #[test]
    fn everything_arrives_in_order_within_bounds(steps in steps()) {
        let mut world = World::new();
        let senders = [0, 1, 2].map(|channel| world.sender(channel));
        let receivers = [0, 1, 2].map(|channel| world.receiver(channel));
        let (mut next, mut events) = ([0u64; 3], [0i64; 3]);
        let mut got: [Vec<u64>; 3] = Default::default();
        let mut last = [i64::MIN; 3];
        let take = |at: usize, got: &mut [Vec<u64>; 3], last: &mut [i64; 3]| {
            match receivers[at].try_recv() {
                None => {}
                Some(Element::Batch(mut batch)) => {
                    let records = std::iter::from_fn(|| batch.pop_front());
                    got[at].extend(records.map(|((n, _), _)| n));
                }
                Some(Element::Event(Event::Watermark(at_least))) => {
                    // It comes behind all that was sent before it.
                    assert!(got[at].len() as i64 >= at_least, "a watermark overtook records");
                    last[at] = at_least;
                }
                Some(Element::Event(event)) => panic!("{event:?} was not sent"),
            }
        };
        for step in steps {
            match step {
                Step::Send(at, n) => {
                    let records = next[at]..next[at] + n as u64;
                    if matches!(senders[at].try_send(batch(records), 0), SendOutcome::Sent) {
                        next[at] += n as u64;
                    }
                }
                Step::Watermark(at) => {
                    events[at] = next[at] as i64;
                    senders[at].send_event(Event::Watermark(events[at]));
                }
                Step::Take(at) => take(at, &mut got, &mut last),
                Step::Write(side, bytes) => world.write(side, bytes),
                Step::Deliver(side, bytes) => world.deliver(side, bytes).unwrap(),
            }
            let waiting: usize = receivers.iter().map(|receiver| receiver.backlog().1).sum();
            let largest = 30 * 9 + 200;
            prop_assert!(waiting <= 3 * 400 + 1_000 + 3 * largest, "{waiting} bytes wait");
        }
        for _ in 0..1_000 {
            world.settle();
            (0..3).for_each(|at| take(at, &mut got, &mut last));
        }
        for at in 0..3 {
            prop_assert_eq!(&got[at], &(0..next[at]).collect::<Vec<_>>());
            prop_assert_eq!(last[at].max(0), events[at]);
        }
    }
}

#[test]
fn what_was_never_sent_goes_on_over_another_connection_and_the_rest_fails() {
    let mut world = World::new();
    let (begun, waiting) = (world.sender(0), world.sender(1));
    let receivers = [world.receiver(0), world.receiver(2)];
    begun.try_send(batch(0..3), 0);
    waiting.try_send(batch(3..6), 0);
    waiting.send_event(Event::EndOfInput);
    // Its task is over, and cares for nothing any more.
    drop(waiting);
    world.settle();
    assert_eq!(numbers(&receivers[0]), [0, 1, 2]);
    for side in 0..2 {
        let next = world.sides[side].take_unsent();
        let mut broken = std::mem::replace(&mut world.sides[side], next);
        broken.fail(|| Error::internal("it broke"));
        assert_eq!(broken.channels(), 0);
        assert_eq!(world.sides[side].channels(), 1, "side {side}");
    }
    assert!(world.producer.take_failure().is_some() && world.consumer.take_failure().is_some());
    let late = world.receiver(1);
    world.settle();
    assert_eq!(numbers(&late), [3, 4, 5]);
    assert!(world.producer.take_failure().is_none() && world.consumer.take_failure().is_none());
}
