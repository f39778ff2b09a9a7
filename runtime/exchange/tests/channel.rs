//! A channel between two tasks that sleep: bounds, and no wake-up that is lost in any order of steps.

#![allow(clippy::unwrap_used, reason = "a test stops where its helpers find nothing")]

use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use hurtig_core::{Barrier, Batch, Element, Event};
use hurtig_exchange::{
    BarrierMode, ChannelKind, ChannelOptions, Receiver, SendOutcome, Sender, Signal, channel,
};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Wake, Waker};

fn bounds(max_batches: usize, max_bytes: usize) -> ChannelOptions {
    ChannelOptions::bounded(max_batches, max_bytes)
}

fn batch(n: u32) -> Batch<u32> {
    Batch::from_records(vec![n])
}

fn is_sent(outcome: &SendOutcome<u32>) -> bool {
    matches!(outcome, SendOutcome::Sent)
}

#[test]
fn bytes_alone_fill_a_channel_and_make_room_when_they_leave() {
    let (sender, receiver) = channel(bounds(100, 100), Signal::new(), Signal::new());
    assert!(is_sent(&sender.try_send(batch(1), 60)));
    assert!(sender.has_room(), "60 of 100 bytes");
    assert!(is_sent(&sender.try_send(batch(2), 60)));
    assert!(!sender.has_room(), "120 of 100 bytes");
    assert!(matches!(sender.try_send(batch(3), 1), SendOutcome::Full(_)));
    assert_eq!(receiver.backlog(), (2, 120));
    receiver.try_recv();
    assert!(sender.has_room() && is_sent(&sender.try_send(batch(3), 1_000)));
    assert!(matches!(sender.try_send(batch(4), 1), SendOutcome::Full(_)));
    receiver.try_recv();
    assert!(!sender.has_room(), "the large one is still there");
    receiver.try_recv();
    assert_eq!(receiver.backlog(), (0, 0));
    // However large, one is let in.
    assert!(is_sent(&sender.try_send(batch(5), 1 << 40)));
}

#[test]
fn news_of_backlog_is_merged_unless_something_stands_between() {
    let (sender, receiver) = channel(bounds(100, 100), Signal::new(), Signal::new());
    let events = || {
        let mut events = Vec::new();
        while let Some(element) = receiver.try_recv() {
            match element {
                Element::Event(event) => events.push(Some(event)),
                Element::Batch(_) => events.push(None),
            }
        }
        events
    };
    let backlog = |backlog| Some(Event::Backlog(backlog));
    (0..1_000).for_each(|n| sender.send_event(Event::Backlog(n % 2 == 0)));
    assert_eq!(events(), [backlog(false)]);
    sender.send_event(Event::Backlog(true));
    assert!(is_sent(&sender.try_send(batch(1), 1)));
    sender.send_event(Event::Backlog(false));
    sender.send_event(Event::Watermark(3));
    sender.send_event(Event::Backlog(true));
    let watermark = Some(Event::Watermark(3));
    assert_eq!(
        events(),
        [backlog(true), None, backlog(false), watermark, backlog(true)]
    );
}

#[test]
fn news_of_backlog_behind_an_announced_barrier_is_not_merged_with_what_is_before_it() {
    let kind = ChannelKind {
        options: bounds(100, 100),
        barriers: BarrierMode::Overtakes,
    };
    let (sender, receiver) = channel::<u32>(kind, Signal::new(), Signal::new());
    sender.send_event(Event::Backlog(true));
    let barrier = Barrier {
        checkpoint: CheckpointId(1),
        overtakes: Some(Time::ZERO),
    };
    sender.send_event(Event::Barrier(barrier));
    sender.send_event(Event::Backlog(false));
    assert_eq!(receiver.take_announcement().unwrap().boundary, 1);
    for backlog in [true, false] {
        let element = receiver.try_recv();
        assert!(
            matches!(element, Some(Element::Event(Event::Backlog(news))) if news == backlog),
            "{element:?}"
        );
    }
}

/// A task's bell push: set when it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Looks for work; the next look without any is followed by listening.
    Looks,
    /// Has asked to be woken, and looks once more.
    Listens,
    Sleeps,
    Done,
}

/// A task that follows the loop's protocol, one step at a time.
struct Task {
    state: State,
    woken: Arc<Woken>,
    signal: Signal,
}

impl Task {
    fn new() -> Self {
        Self {
            state: State::Looks,
            woken: Arc::default(),
            signal: Signal::new(),
        }
    }

    fn can_run(&self) -> bool {
        match self.state {
            State::Looks | State::Listens => true,
            State::Sleeps => self.woken.0.load(SeqCst),
            State::Done => false,
        }
    }

    /// One step; `work` does one thing and says whether there was any.
    fn step(&mut self, work: impl FnOnce() -> bool) {
        if self.state == State::Sleeps {
            self.woken.0.store(false, SeqCst);
            self.state = State::Looks;
            return;
        }
        if work() {
            return;
        }
        if self.state == State::Listens {
            self.state = State::Sleeps;
        } else {
            self.signal.listen(&Waker::from(self.woken.clone()));
            self.state = State::Listens;
        }
    }
}

/// A producer of numbers into two channels, with a watermark behind every third, and their consumers.
struct World {
    producer: Task,
    consumers: [Task; 2],
    senders: [Sender<u32>; 2],
    /// A watermark is due behind the last number: a step of its own.
    watermark: Option<i64>,
    receivers: [Receiver<u32>; 2],
    next: u32,
    asks_first: bool,
    seen: [Vec<u32>; 2],
}

const COUNT: u32 = 12;

impl World {
    fn new(options: ChannelOptions, asks_first: bool) -> Self {
        let (producer, consumers) = (Task::new(), [Task::new(), Task::new()]);
        let (a, of_a) = channel(options, producer.signal.clone(), consumers[0].signal.clone());
        let (b, of_b) = channel(options, producer.signal.clone(), consumers[1].signal.clone());
        let (senders, receivers) = ([a, b], [of_a, of_b]);
        Self {
            producer,
            consumers,
            senders,
            watermark: None,
            receivers,
            next: 0,
            asks_first,
            seen: [Vec::new(), Vec::new()],
        }
    }

    fn produce(&mut self) {
        let (senders, next, watermark) = (&self.senders, &mut self.next, &mut self.watermark);
        let asks_first = self.asks_first;
        let mut done = false;
        self.producer.step(|| {
            if let Some(due) = watermark.take() {
                senders
                    .iter()
                    .for_each(|sender| sender.send_event(Event::Watermark(due)));
                return true;
            }
            if *next == COUNT {
                senders
                    .iter()
                    .for_each(|sender| sender.send_event(Event::EndOfInput));
                done = true;
                return true;
            }
            let sender = &senders[(*next % 2) as usize];
            if asks_first && !sender.has_room() {
                return false;
            }
            if !is_sent(&sender.try_send(batch(*next), 40)) {
                return false;
            }
            *watermark = (*next % 3 == 0).then_some(i64::from(*next));
            *next += 1;
            true
        });
        if done {
            self.producer.state = State::Done;
        }
    }

    fn consume(&mut self, at: usize) {
        let (receiver, seen) = (&self.receivers[at], &mut self.seen[at]);
        let mut done = false;
        self.consumers[at].step(|| match receiver.try_recv() {
            None => false,
            Some(Element::Batch(mut batch)) => {
                seen.extend(batch.drain(usize::MAX));
                true
            }
            Some(Element::Event(event)) => {
                done |= event == Event::EndOfInput;
                true
            }
        });
        if done {
            self.consumers[at].state = State::Done;
        }
    }

    fn can_run(&self) -> Vec<usize> {
        let tasks = [&self.producer, &self.consumers[0], &self.consumers[1]];
        (0..3).filter(|&at| tasks[at].can_run()).collect()
    }

    fn step(&mut self, task: usize) {
        match task {
            0 => self.produce(),
            _ => self.consume(task - 1),
        }
    }

    fn states(&self) -> [State; 3] {
        [
            self.producer.state,
            self.consumers[0].state,
            self.consumers[1].state,
        ]
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]
    /// In whatever order the tasks take their steps, all numbers arrive: nobody sleeps for ever.
    #[test]
    fn no_order_of_steps_loses_a_wake_up(
        turns in prop::collection::vec(any::<u8>(), 0..200),
        by_bytes: bool,
        asks_first: bool,
        capacity in 1usize..3,
    ) {
        let options = if by_bytes { bounds(100, capacity * 40) } else { bounds(capacity, 1 << 20) };
        let mut world = World::new(options, asks_first);
        for turn in turns.into_iter().chain((0..).map(|n: u32| (n % 251) as u8)) {
            let tasks = world.can_run();
            if tasks.is_empty() {
                break;
            }
            world.step(tasks[usize::from(turn) % tasks.len()]);
        }
        prop_assert_eq!(world.states(), [State::Done; 3], "somebody sleeps for ever after {} numbers", world.next);
        let numbers = |rest: u32| (0..COUNT).filter(|n| n % 2 == rest).collect::<Vec<_>>();
        prop_assert_eq!(&world.seen, &[numbers(0), numbers(1)]);
    }
}

#[test]
fn a_sleeping_task_is_woken_when_the_other_end_goes() {
    let (mut producer, mut consumer) = (Task::new(), Task::new());
    let (sender, receiver) = channel::<u32>(bounds(1, 100), producer.signal.clone(), consumer.signal.clone());
    for _ in 0..2 {
        consumer.step(|| receiver.try_recv().is_some());
    }
    assert!(!consumer.can_run());
    drop(sender);
    assert!(consumer.can_run() && receiver.is_abandoned());

    let (sender, receiver) = channel::<u32>(bounds(1, 100), producer.signal.clone(), Signal::new());
    sender.try_send(batch(1), 1);
    for _ in 0..2 {
        producer.step(|| sender.has_room());
    }
    assert!(!producer.can_run());
    drop(receiver);
    assert!(producer.can_run() && matches!(sender.try_send(batch(2), 1), SendOutcome::Gone));
}

#[test]
fn threads_that_sleep_on_their_bells_pass_everything_on() {
    // The same protocol on real threads, where steps overlap.
    let (of_producer, of_consumer) = (Signal::new(), Signal::new());
    let (sender, receiver) = channel::<u32>(bounds(1, 1 << 20), of_producer.clone(), of_consumer.clone());
    let producer = std::thread::spawn(move || {
        for n in 0..20_000 {
            let mut rest = Some(batch(n));
            work_or_park(&of_producer, || match sender.try_send(rest.take().unwrap(), 4) {
                SendOutcome::Full(batch) => {
                    rest = Some(batch);
                    false
                }
                _ => true,
            });
        }
        sender.send_event(Event::EndOfInput);
    });
    let mut expected = 0;
    loop {
        let mut element = None;
        work_or_park(&of_consumer, || {
            element = receiver.try_recv();
            element.is_some()
        });
        match element.unwrap() {
            Element::Batch(mut batch) => {
                assert_eq!(batch.drain(9).collect::<Vec<_>>(), [expected]);
                expected += 1;
            }
            Element::Event(_) => break,
        }
    }
    assert_eq!(expected, 20_000);
    producer.join().unwrap();
}

/// Wakes a thread, and leaves a mark that it did.
struct Unpark(std::thread::Thread, AtomicBool);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.store(true, SeqCst);
        self.0.unpark();
    }
}

/// Looks, listens, looks again, and parks until it is woken.
fn work_or_park(signal: &Signal, mut work: impl FnMut() -> bool) {
    let unpark = Arc::new(Unpark(std::thread::current(), AtomicBool::new(false)));
    let waker = Waker::from(unpark.clone());
    while !work() {
        signal.listen(&waker);
        if work() {
            return;
        }
        let mut looks = 0;
        while !unpark.1.swap(false, SeqCst) {
            looks += 1;
            assert!(looks < 3_000, "nobody rings: a wake-up was lost");
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
    }
}
