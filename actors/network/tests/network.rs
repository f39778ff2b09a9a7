//! Two workers, their exchanges, and real sockets between them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops where its helpers find nothing"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "real sockets are waited for in real time, and silence cannot be waited for otherwise"
)]

use hurtig_core::config::ExchangeCompression;
use hurtig_core::ids::{ChannelId, EdgeId, TaskManagerId};
use hurtig_core::time::SystemClock;
use hurtig_core::types::TypeInfo;
use hurtig_core::{Batch, Element, Error, Event};
use hurtig_exchange::remote::{ConnectionConfig, Exchange, PeerWorker};
use hurtig_exchange::{
    ChannelOptions, Receiver, RecordCodec, SendOutcome, Sender, Signal, channel_in, channel_out,
};
use hurtig_network::{Network, NetworkConfig, NetworkSetup, Party, StartError, tcp};
use hurtig_rpc::TcpDialer;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use uuid::Uuid;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn config() -> NetworkConfig {
    NetworkConfig {
        connect_timeout: Duration::from_secs(5),
        ..NetworkConfig::default()
    }
}

fn worker_of(job: u128, worker: u128, config: NetworkConfig) -> (Network, PeerWorker) {
    let own = Party {
        job: Uuid::from_u128(job),
        secret: Uuid::from_u128(job * 3),
        worker: Uuid::from_u128(worker),
    };
    let network = Network::start(NetworkSetup {
        own,
        bind: tcp("127.0.0.1:0"),
        dialer: Arc::new(TcpDialer),
        config,
        clock: SystemClock::new(),
    });
    let network = network.unwrap();
    let peer = PeerWorker {
        worker: TaskManagerId(own.worker),
        address: network.address().to_owned(),
    };
    (network, peer)
}

fn worker(number: u128) -> (Network, PeerWorker) {
    worker_of(1, number, config())
}

fn id(consumer: u32) -> ChannelId {
    ChannelId {
        edge: EdgeId(0),
        producer: 0,
        consumer,
        generation: 1,
    }
}

fn sender(network: &Network, peer: &PeerWorker, id: ChannelId, task: &Signal) -> Sender<u64> {
    let codec = RecordCodec::new(TypeInfo::of());
    let options = ChannelOptions::default();
    let (sender, outlet) = channel_out(options, codec, task.clone(), network.signal(peer));
    network.produce(peer, id, outlet);
    sender
}

fn receiver(network: &Network, peer: &PeerWorker, id: ChannelId, task: &Signal) -> Receiver<u64> {
    let codec = RecordCodec::new(TypeInfo::of());
    let options = ChannelOptions::default();
    let (inlet, receiver) = channel_in(options, codec, network.signal(peer), task.clone());
    network.consume(peer, id, inlet);
    receiver
}

/// Looks until there is something, woken as a task is.
fn wait<R>(task: &Signal, mut look: impl FnMut() -> Option<R>) -> R {
    let until = Instant::now() + Duration::from_secs(30);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        task.listen(&waker);
        if let Some(found) = look() {
            return found;
        }
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "nothing has come in 30 s");
        thread::park_timeout(left);
    }
}

/// Sends batches of numbers, then the end.
fn produce(sender: &Sender<u64>, task: &Signal, batches: u64, of: u64) {
    for n in 0..batches {
        let mut batch = Some(Batch::from_records((n * of..(n + 1) * of).collect()));
        wait(task, || match sender.try_send(batch.take()?, 0) {
            SendOutcome::Full(back) => {
                batch = Some(back);
                None
            }
            SendOutcome::Sent => Some(()),
            SendOutcome::Gone => panic!("nobody reads"),
        });
    }
    sender.send_event(Event::EndOfInput);
}

/// The sum of all numbers, and how many there were.
fn consume(receiver: &Receiver<u64>, task: &Signal) -> (u64, u64) {
    let (mut sum, mut count) = (0, 0);
    loop {
        match wait(task, || receiver.try_recv()) {
            Element::Event(Event::EndOfInput) => return (sum, count),
            Element::Event(_) => {}
            Element::Batch(mut batch) => {
                count += batch.len() as u64;
                sum += batch.records().iter().sum::<u64>();
            }
        }
    }
}

fn failure(task: &Signal) -> String {
    wait(task, || task.take_failure()).chain()
}

#[test]
fn records_cross_in_both_directions_and_all_arrive() {
    let ((one, to_one), (two, to_two)) = (worker(1), worker(2));
    let ends = |from: &Network, to: &Network, to_from: &PeerWorker, to_to: &PeerWorker, channel| {
        let (producing, consuming) = (Signal::new(), Signal::new());
        let sender = sender(from, to_to, id(channel), &producing);
        let receiver = receiver(to, to_from, id(channel), &consuming);
        let producer = thread::spawn(move || produce(&sender, &producing, 2_000, 500));
        let consumer = thread::spawn(move || consume(&receiver, &consuming));
        (producer, consumer)
    };
    let there = ends(&one, &two, &to_one, &to_two, 0);
    let back = ends(&two, &one, &to_two, &to_one, 1);
    for (producer, consumer) in [there, back] {
        producer.join().unwrap();
        let n = 1_000_000u64;
        assert_eq!(consumer.join().unwrap(), (n * (n - 1) / 2, n));
    }
}

/// What has failed in this time.
fn fails_within(task: &Signal, time: Duration) -> Option<String> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        if let Some(error) = task.take_failure() {
            return Some(error.chain());
        }
        thread::park_timeout(Duration::from_millis(5));
    }
    None
}

#[test]
fn a_task_may_be_there_long_before_those_that_it_speaks_to() {
    for dials in [1, 2] {
        let ((one, to_one), (two, to_two)) = (worker(dials), worker(3 - dials));
        let tasks = [Signal::new(), Signal::new()];
        let sender = sender(&one, &to_two, id(0), &tasks[0]);
        let sending = {
            let task = tasks[0].clone();
            sender.try_send(Batch::from_records(vec![7]), 0);
            sender.send_event(Event::EndOfInput);
            // The producer is through before anybody reads it.
            drop(sender);
            fails_within(&task, Duration::from_millis(300))
        };
        assert_eq!(sending, None, "worker {dials} was there first");
        let receiver = receiver(&two, &to_one, id(0), &tasks[1]);
        assert_eq!(consume(&receiver, &tasks[1]), (7, 1));
    }
}

#[test]
fn a_worker_that_never_connects_fails_those_who_wait_for_it() {
    let config = NetworkConfig {
        patience: Duration::from_millis(200),
        ..config()
    };
    // The smaller id dials, and there is none.
    let (two, _) = worker_of(1, 2, config);
    let nobody = PeerWorker {
        worker: TaskManagerId::from_u128(1),
        address: "nowhere".to_owned(),
    };
    let task = Signal::new();
    let first = receiver(&two, &nobody, id(0), &task);
    assert!(failure(&task).contains("has not made one for"), "it waits");
    drop(first);
    let _again = receiver(&two, &nobody, id(1), &task);
    let failure = wait(&task, || task.take_failure());
    assert_eq!(failure.worker(), Some(nobody.worker));
}

#[test]
fn a_worker_that_goes_fails_the_tasks_that_had_channels_to_it() {
    let ((one, to_one), (two, to_two)) = (worker(1), worker(2));
    let tasks = [Signal::new(), Signal::new()];
    let sender = sender(&one, &to_two, id(0), &tasks[0]);
    let receiver = receiver(&two, &to_one, id(0), &tasks[1]);
    sender.try_send(Batch::from_records(vec![1]), 0);
    wait(&tasks[1], || receiver.try_recv());
    drop(two);
    let text = failure(&tasks[0]);
    assert!(
        text.contains(&to_two.worker.to_string()) && text.contains("closed it"),
        "{text}"
    );
    // The same worker, and new channels: a new connection.
    drop((sender, receiver, one));
}

#[test]
fn a_worker_that_nobody_is_at_fails_the_task_after_the_time_for_dialling() {
    let config = NetworkConfig {
        connect_timeout: Duration::from_millis(300),
        ..config()
    };
    let (one, _) = worker_of(1, 1, config);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = PeerWorker {
        worker: TaskManagerId::from_u128(2),
        address: free.to_string(),
    };
    let task = Signal::new();
    let _sender = sender(&one, &nobody, id(0), &task);
    let text = failure(&task);
    assert!(
        text.contains("cannot be reached") && text.contains(&nobody.address),
        "{text}"
    );
}

#[test]
fn an_address_that_is_taken_is_an_error_and_a_runtime_may_run_already() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let start = async {
        Network::start(NetworkSetup {
            own: Party {
                job: Uuid::nil(),
                secret: Uuid::nil(),
                worker: Uuid::nil(),
            },
            bind: tcp(address),
            dialer: Arc::new(TcpDialer),
            config: config(),
            clock: SystemClock::new(),
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let refused = runtime.block_on(start).unwrap_err();
    assert!(matches!(refused, StartError::Bind(_)), "{refused:?}");
}

#[test]
fn a_worker_of_another_job_is_not_let_in() {
    let (one, _) = worker_of(1, 1, config());
    let (_stranger, to_stranger) = worker_of(7, 2, config());
    let task = Signal::new();
    let _sender = sender(&one, &to_stranger, id(0), &task);
    let text = failure(&task);
    assert!(text.contains("does not belong to the job"), "{text}");
}

#[test]
fn who_says_what_it_may_not_is_cut_off_and_nobody_else() {
    let ((one, to_one), (two, to_two)) = (worker(1), worker(2));
    let tasks = [Signal::new(), Signal::new()];
    let sender = sender(&one, &to_two, id(0), &tasks[0]);
    let receiver = receiver(&two, &to_one, id(0), &tasks[1]);
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 200], b""] {
        let mut stream = TcpStream::connect(&to_two.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let padded = [noise, &[0; 100]].concat();
        stream
            .write_all(if noise.is_empty() { noise } else { &padded })
            .unwrap();
        // It is closed without a word; one that says nothing, after a while.
        assert!(matches!(stream.read(&mut [0; 10]), Ok(0) | Err(_)));
    }
    sender.try_send(Batch::from_records(vec![1]), 0);
    wait(&tasks[1], || receiver.try_recv());
    assert!(tasks.iter().all(|task| task.take_failure().is_none()));
}

/// A wire that can be cut, and bytes on it changed.
struct Wire {
    address: String,
    cut: Arc<AtomicBool>,
    spoil: Arc<AtomicBool>,
}

fn wire(to: String) -> Wire {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (cut, spoil) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let flags = (cut.clone(), spoil.clone());
    thread::spawn(move || {
        for here in listener.incoming() {
            let (Ok(here), Ok(there)) = (here, TcpStream::connect(&to)) else {
                return;
            };
            for (from, to, spoils) in [
                (here.try_clone().unwrap(), there.try_clone().unwrap(), true),
                (there, here, false),
            ] {
                let (cut, spoil) = flags.clone();
                thread::spawn(move || pass(from, to, &cut, &|| spoils && spoil.load(Ordering::SeqCst)));
            }
        }
    });
    Wire { address, cut, spoil }
}

fn pass(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool, spoil: &dyn Fn() -> bool) {
    let mut bytes = [0; 4_096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        while cut.load(Ordering::SeqCst) {
            thread::park_timeout(Duration::from_millis(10));
        }
        if spoil() {
            bytes[count / 2] ^= 1;
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // Where one side has closed, the other hears of it at once.
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

#[test]
fn a_bit_that_flips_on_the_way_fails_both_ends_and_is_never_handed_on() {
    let ((one, to_one), (two, mut to_two)) = (worker(1), worker(2));
    let wire = wire(to_two.address);
    to_two.address = wire.address;
    let tasks = [Signal::new(), Signal::new()];
    let sender = sender(&one, &to_two, id(0), &tasks[0]);
    let receiver = receiver(&two, &to_one, id(0), &tasks[1]);
    sender.try_send(Batch::from_records(vec![1]), 0);
    wait(&tasks[1], || receiver.try_recv());
    wire.spoil.store(true, Ordering::SeqCst);
    sender.try_send(Batch::from_records(vec![2; 100]), 0);
    let text = failure(&tasks[1]);
    assert!(text.contains("what came is wrong"), "{text}");
    assert!(receiver.try_recv().is_none());
    // The failure is told first.
    wait(&tasks[1], || receiver.is_abandoned().then_some(()));
    assert!(failure(&tasks[0]).contains("closed it"));
}

#[test]
fn silence_is_told_from_having_nothing_to_say() {
    let mut config = config();
    // Ten times as long as between two words: a machine that stalls for a moment is not silent.
    config.silence = Duration::from_secs(3);
    config.connection.quiet = Duration::from_millis(300);
    let ((one, to_one), (two, mut to_two)) = (worker_of(1, 1, config), worker_of(1, 2, config));
    let wire = wire(to_two.address);
    to_two.address = wire.address;
    let tasks = [Signal::new(), Signal::new()];
    let _sender = sender(&one, &to_two, id(0), &tasks[0]);
    let _receiver = receiver(&two, &to_one, id(0), &tasks[1]);
    // That nothing happens is the subject: nothing is to be said for longer than silence may last.
    thread::sleep(config.silence + config.silence / 2);
    assert!(tasks.iter().all(|task| task.take_failure().is_none()));
    wire.cut.store(true, Ordering::SeqCst);
    for task in &tasks {
        let text = failure(task);
        assert!(text.contains("nothing has come for"), "{text}");
    }
}

#[test]
fn after_a_failure_new_channels_get_a_new_connection() {
    let ((one, to_one), (two, mut to_two)) = (worker(1), worker(2));
    let wire = wire(to_two.address.clone());
    to_two.address = wire.address;
    for round in 0..3 {
        let tasks = [Signal::new(), Signal::new()];
        let id = ChannelId {
            generation: round,
            ..id(0)
        };
        let sender = sender(&one, &to_two, id, &tasks[0]);
        let receiver = receiver(&two, &to_one, id, &tasks[1]);
        sender.try_send(Batch::from_records(vec![u64::from(round)]), 0);
        wait(&tasks[1], || receiver.try_recv());
        wire.spoil.store(true, Ordering::SeqCst);
        sender.try_send(Batch::from_records(vec![2; 100]), 0);
        assert!(failure(&tasks[1]).contains("what came is wrong"));
        assert!(failure(&tasks[0]).contains("closed it"));
        wire.spoil.store(false, Ordering::SeqCst);
    }
}

#[test]
fn a_task_that_fails_hears_of_the_first_cause() {
    let task = Signal::new();
    task.fail(Error::internal("first"));
    task.fail(Error::internal("second"));
    assert!(failure(&task).contains("first"));
}

#[test]
fn what_nobody_reads_is_bounded_as_configured_and_its_neighbour_goes_on() {
    let config = NetworkConfig {
        connection: ConnectionConfig {
            exclusive: 64 << 10,
            floating: 256 << 10,
            floating_per_channel: 128 << 10,
            ..ConnectionConfig::default()
        },
        ..config()
    };
    let ((one, to_one), (two, to_two)) = (worker_of(1, 1, config), worker_of(1, 2, config));
    let [reads, sends, consumes, produces] = [(); 4].map(|()| Signal::new());
    let unread = receiver(&two, &to_one, id(0), &reads);
    let stuck = sender(&one, &to_two, id(0), &sends);
    let neighbour = receiver(&two, &to_one, id(1), &consumes);
    let busy = sender(&one, &to_two, id(1), &produces);
    let batch = || Batch::from_records(vec![7; 1_000]);
    // 1,000 numbers, their head, and what a batch weighs beyond its bytes.
    let weight = 8_000 + 13 + 128;
    let most = (64 << 10) + (128 << 10) + weight;
    let producer = thread::spawn(move || produce(&busy, &produces, 2_000, 500));
    let consumer = thread::spawn(move || consume(&neighbour, &consumes));
    let until = Instant::now() + Duration::from_secs(60);
    let mut sent = 0;
    // More than its own share waits in the end, as more is to be sent, and never more than may, while the neighbour goes on.
    while !consumer.is_finished() || unread.backlog().1 <= (64 << 10) {
        sent += usize::from(matches!(stuck.try_send(batch(), 0), SendOutcome::Sent));
        let waits = unread.backlog().1;
        assert!(waits <= most, "{waits} bytes wait");
        assert!(
            Instant::now() < until,
            "{waits} bytes wait, and the neighbour stands"
        );
        thread::park_timeout(Duration::from_millis(1));
    }
    // What was sent is there, or waits in the producer's queue.
    assert!(
        sent <= most / weight + 1 + ChannelOptions::default().max_batches,
        "{sent} batches were sent"
    );
    producer.join().unwrap();
    let n = 1_000_000_u64;
    assert_eq!(consumer.join().unwrap(), (n * (n - 1) / 2, n));
}

#[test]
fn compressed_batches_arrive_as_they_were() {
    for compression in [ExchangeCompression::Lz4, ExchangeCompression::Zstd] {
        let ((one, to_one), (two, to_two)) = (worker(1), worker(2));
        let tasks = [(); 2].map(|()| Signal::new());
        let options = ChannelOptions {
            compression,
            ..ChannelOptions::default()
        };
        let codec = RecordCodec::new(TypeInfo::of());
        let (sender, outlet) = channel_out(options, codec, tasks[0].clone(), one.signal(&to_two));
        one.produce(&to_two, id(0), outlet);
        let receiver = receiver(&two, &to_one, id(0), &tasks[1]);
        let producing = tasks[0].clone();
        let producer = thread::spawn(move || produce(&sender, &producing, 200, 500));
        let n = 100_000_u64;
        assert_eq!(consume(&receiver, &tasks[1]), (n * (n - 1) / 2, n));
        producer.join().unwrap();
    }
}
