use super::*;
use crate::remote::Debloat;
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
use std::time::Duration;

type Record = (u64, String);

/// Two processes with a connection between them, and the tasks at its ends.
struct World {
    /// The producers' process, then the consumers'.
    sides: [Connection; 2],
    wires: [Vec<u8>; 2],
    producer: Signal,
    consumer: Signal,
    kind: ChannelKind,
    now: Time,
}

const CONFIG: ConnectionConfig = ConnectionConfig {
    exclusive: 400,
    floating: 1_000,
    floating_per_channel: 600,
    debloat: None,
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
        Self::with(CONFIG)
    }

    fn with(config: ConnectionConfig) -> Self {
        Self {
            sides: [(), ()].map(|()| Connection::new(config)),
            now: Time::ZERO,
            wires: Default::default(),
            producer: Signal::new(),
            consumer: Signal::new(),
            kind: ChannelKind {
                options: ChannelOptions::bounded(4, 1_000),
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
        self.sides[side].fill(&mut self.wires[side], at, self.now);
    }

    fn deliver(&mut self, side: usize, bytes: usize) -> Result<(), FrameError> {
        let bytes = bytes.min(self.wires[side].len());
        let bytes: Vec<u8> = self.wires[side].drain(..bytes).collect();
        self.sides[1 - side].receive(&bytes, self.now)
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
fn what_is_taken_without_anything_to_grant_wakes_nobody() {
    let mut world = World::new();
    let sender = world.sender(0);
    let signal = Signal::new();
    let (inlet, receiver) = channel_in(world.kind, World::codec(), signal.clone(), Signal::new());
    world.sides[1].consume(id(0), inlet);
    // 140 bytes each, and 100 make a grant as long as there is credit left.
    sender.try_send(Batch::from_records(Vec::from([(0, String::new())])), 0);
    world.settle();
    assert_eq!(receiver.backlog().1, 153);
    let bell = Arc::new(Bell::default());
    signal.listen(&Waker::from(bell.clone()));
    receiver.try_recv();
    assert!(bell.0.load(Ordering::SeqCst), "a quarter of 400 was taken");
    let mut wide = CONFIG;
    wide.exclusive = 4_000;
    let mut world = World::with(wide);
    let sender = world.sender(0);
    let (inlet, receiver) = channel_in(world.kind, World::codec(), signal.clone(), Signal::new());
    world.sides[1].consume(id(0), inlet);
    sender.try_send(batch([1]), 0);
    world.settle();
    bell.0.store(false, Ordering::SeqCst);
    signal.listen(&Waker::from(bell.clone()));
    receiver.try_recv();
    assert!(
        !bell.0.load(Ordering::SeqCst),
        "less than a quarter of 4,000 was taken"
    );
}

/// Steps until a channel has carried so many batches, with another one beside it that carries as much, or that nobody reads.
fn steps_beside(others: u32, batches: u64) -> u64 {
    let mut world = World::new();
    let (sender, receiver) = (world.sender(0), world.receiver(0));
    let neighbours: Vec<_> = (1..=others)
        .map(|n| (world.sender(n), world.receiver(n)))
        .collect();
    let (mut sent, mut got, mut steps) = (0, 0, 0);
    while got < batches {
        steps += 1;
        for (neighbour, _) in &neighbours {
            neighbour.try_send(batch([1, 2, 3]), 0);
        }
        if sent < batches && matches!(sender.try_send(batch([sent]), 0), SendOutcome::Sent) {
            sent += 1;
        }
        // The socket takes so much, and no more, in each direction.
        (0..2).for_each(|side| world.write(side, 1));
        (0..2).for_each(|side| world.deliver(side, 400).unwrap());
        got += numbers(&receiver).len() as u64;
    }
    steps
}

#[test]
fn a_channel_that_nobody_reads_costs_its_neighbours_less_than_a_twentieth() {
    let (alone, beside) = (steps_beside(0, 1_000), steps_beside(3, 1_000));
    assert!(beside * 20 <= alone * 21, "{beside} steps instead of {alone}");
}

#[test]
fn what_is_on_its_way_follows_what_is_read() {
    let debloat = Debloat {
        target: Duration::from_secs(1),
        period: Duration::from_millis(100),
        samples: 3,
        threshold_percent: 10,
    };
    let mut world = World::with(ConnectionConfig {
        exclusive: 100_000,
        floating: 400_000,
        floating_per_channel: 400_000,
        debloat: Some(debloat),
        ..CONFIG
    });
    world.kind.options.max_bytes = 100_000;
    let (sender, receiver) = (world.sender(0), world.receiver(0));
    let mut waiting = 0;
    for tick in 0..2_000 {
        world.now = Time::from_nanos(tick * 10_000_000);
        world.settle();
        while matches!(sender.try_send(batch(0..60), 0), SendOutcome::Sent) {
            world.settle();
        }
        // One batch of about a kilobyte each 20 ms: 50 kB in the target time.
        if tick % 2 == 0 {
            receiver.try_recv();
        }
        waiting = receiver.backlog().1;
        if tick == 5 {
            assert!(
                waiting > 90_000,
                "{waiting} bytes wait before anything was measured"
            );
        }
    }
    assert!((30_000..70_000).contains(&waiting), "{waiting} bytes wait");
}

#[test]
fn only_channels_at_which_something_has_changed_are_looked_at() {
    let mut world = World::new();
    let senders: Vec<_> = (0..100).map(|n| world.sender(n)).collect();
    let _receivers: Vec<_> = (0..100).map(|n| world.receiver(n)).collect();
    world.settle();
    assert!(world.sides[0].turns.is_empty(), "nothing waits");
    senders[7].try_send(batch([1]), 0);
    senders[7].try_send(batch([2]), 0);
    let mut out = Vec::new();
    world.sides[0].fill(&mut out, 1, Time::ZERO);
    assert_eq!(world.sides[0].turns, [7], "one is left to be sent");
    world.wires[0].append(&mut out);
    world.settle();
    assert!(world.sides[0].turns.is_empty());
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

proptest! {
    /// Whatever frames come: elements, or an error, and no more than was granted waits.
    #[test]
    fn any_frames_are_taken_or_refused(
        frames in prop::collection::vec((any::<u8>(), 0..4u32, 0..4u64, prop::collection::vec(any::<u8>(), 0..40)), 0..60)
    ) {
        let mut world = World::new();
        let _sender = world.sender(0);
        let receivers = [0, 1].map(|channel| world.receiver(channel));
        world.settle();
        for (kind, channel, position, body) in frames {
            let bytes = crate::remote::frame(kind, channel, position, &body);
            if world.sides[1].receive(&bytes, Time::ZERO).is_err() {
                break;
            }
            world.write(1, usize::MAX / 2);
            let waiting: usize = receivers.iter().map(|receiver| receiver.backlog().1).sum();
            prop_assert!(waiting <= 2 * 400 + 1_000 + 2 * 200);
        }
        while receivers.iter().any(|receiver| receiver.try_recv().is_some()) {}
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
            let largest = 30 * (12 + 4) + 200;
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
