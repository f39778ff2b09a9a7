//! A source that is faster than its sink: what waits is bounded, and nothing is lost.
//!
//! Each scenario runs in a process of its own, so that its memory can be read. The sink takes nothing
//! until the source has come to a stop; then it takes everything.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests: what cannot be prepared has failed, and a child prints what it measured"
)]

use hurtig::core::Batch;
use hurtig::dataflow::operator::Cx;
use hurtig::prelude::*;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const SCENARIO: &str = "HURTIG_MEMORY_SCENARIO";
const RECORD_BYTES: u64 = 1_000;
/// Far more than may wait: 300 MB.
const RECORDS: u64 = 300_000;
const PARALLELISM: u64 = 2;
/// What may wait between tasks at the bounds that the scenarios set: one megabyte in each channel.
const CHANNEL_BYTES: u64 = 1 << 20;
/// Beside channels: buffers that are being filled, batches under way, and what the allocator keeps.
const SLACK_BYTES: u64 = 24 << 20;
const BOUND: u64 = PARALLELISM * PARALLELISM * CHANNEL_BYTES + SLACK_BYTES;

const _: () = assert!(
    RECORDS * RECORD_BYTES > 3 * BOUND,
    "without a bound, all records together would be seen"
);

/// Closed until everything waits.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

/// Holds every record until the gate is open, and counts them.
struct Held {
    gate: Arc<Gate>,
    taken: Arc<[AtomicU64; 2]>,
}

impl Sink<Numbered> for Held {
    fn writer(&self) -> Box<dyn SinkWriter<Numbered>> {
        let (gate, taken) = (self.gate.clone(), self.taken.clone());
        Box::new(Writer { gate, taken })
    }

    fn blocking(&self) -> bool {
        true
    }
}

struct Writer {
    gate: Arc<Gate>,
    taken: Arc<[AtomicU64; 2]>,
}

/// A record of a known size that knows its number.
type Numbered = (u64, String);

impl SinkWriter<Numbered> for Writer {
    fn write(&mut self, batch: &mut Batch<Numbered>, _: Cx<'_>) -> hurtig::core::Result<()> {
        self.gate.pass();
        for (number, _) in batch.drain(usize::MAX) {
            self.taken[0].fetch_add(1, SeqCst);
            self.taken[1].fetch_add(number, SeqCst);
        }
        batch.reset_if_empty();
        Ok(())
    }
}

fn numbered(env: &StreamEnv, made: &Arc<AtomicU64>) -> DataStream<Numbered> {
    let made = made.clone();
    let source = GeneratorSource::new(RECORDS, move |n| {
        made.fetch_add(1, SeqCst);
        (n, "x".repeat(usize::try_from(RECORD_BYTES).unwrap()))
    });
    env.from_source(source, Watermarks::none())
}

fn small_channels() -> StreamEnv {
    let definitions = [
        "exchange.channel.max-bytes=1mb",
        "exchange.channel.max-batches=65536",
    ];
    let config = hurtig::core::config::Configuration::builder()
        .definitions(definitions)
        .build();
    let env = StreamEnv::with_config(config.unwrap());
    env.set_parallelism(u32::try_from(PARALLELISM).unwrap());
    env
}

/// A field of /proc/self/status, in bytes.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    let kilobytes = line.split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() * 1_024
}

/// Waits until the source has made something and then nothing for a quarter of a second: that nothing happens is the
/// subject. A machine that stalls for as long ends the wait early, and less waits than may.
async fn stopped(made: &AtomicU64) -> u64 {
    let (mut last, mut quiet) = (0, 0);
    while quiet < 250 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = made.load(SeqCst);
        quiet = if now == last && now > 0 { quiet + 1 } else { 0 };
        last = now;
    }
    last
}

/// What a process has of its own, and with the pages of its program that it has touched, which are many in a debug build.
fn resident() -> (u64, u64) {
    (memory("RssAnon"), memory("VmRSS"))
}

fn report(made: u64, (own, all): (u64, u64)) {
    let (now, peak) = (memory("RssAnon"), memory("VmHWM"));
    println!(
        "made={made} grown={} peak={}",
        now.saturating_sub(own),
        peak.saturating_sub(all)
    );
}

async fn into_a_sink_that_blocks() {
    let env = small_channels();
    let (made, gate, taken) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(Gate::default()),
        Arc::default(),
    );
    let sink = Held {
        gate: gate.clone(),
        taken: Arc::clone(&taken),
    };
    numbered(&env, &made).rebalance().sink_to(sink);
    let before = resident();
    let client = env.execute_async("blocked").await.unwrap();
    report(stopped(&made).await, before);
    gate.open();
    client.result().await.unwrap();
    report(made.load(SeqCst), before);
    let [count, sum] = &*taken;
    println!("arrived={} sum={}", count.load(SeqCst), sum.load(SeqCst));
}

async fn into_a_socket_that_nobody_reads() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let reads = Arc::new(Gate::default());
    let server = std::thread::spawn({
        let reads = reads.clone();
        move || {
            let accepted = (0..PARALLELISM)
                .map(|_| listener.accept().unwrap().0)
                .collect::<Vec<_>>();
            reads.pass();
            let readers = accepted
                .into_iter()
                .map(|stream| std::thread::spawn(move || count_lines(stream)));
            let counted = readers
                .collect::<Vec<_>>()
                .into_iter()
                .map(|reader| reader.join().unwrap());
            counted.fold((0, 0), |(count, sum), (more, numbers)| {
                (count + more, sum + numbers)
            })
        }
    });
    let env = small_channels();
    let made = Arc::new(AtomicU64::new(0));
    let sink = SocketSink::format(address, |(number, text): &Numbered, line: &mut String| {
        line.push_str(&format!("{number} {text}"));
    });
    numbered(&env, &made).rebalance().sink_to(sink);
    let before = resident();
    let client = env.execute_async("slow socket").await.unwrap();
    report(stopped(&made).await, before);
    reads.open();
    client.result().await.unwrap();
    report(made.load(SeqCst), before);
    let (count, sum) = server.join().unwrap();
    println!("arrived={count} sum={sum}");
}

fn count_lines(stream: std::net::TcpStream) -> (u64, u64) {
    let mut totals = (0, 0);
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    while reader.read_line(&mut line).unwrap() > 0 {
        totals.0 += 1;
        totals.1 += line.split(' ').next().unwrap().parse::<u64>().unwrap();
        line.clear();
    }
    totals
}

/// Not a test by itself: what the processes of the tests below run.
#[test]
fn child() {
    let Ok(scenario) = std::env::var(SCENARIO) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        match scenario.as_str() {
            "sink" => into_a_sink_that_blocks().await,
            "socket" => into_a_socket_that_nobody_reads().await,
            other => panic!("no scenario '{other}'"),
        }
    });
}

/// The numbers that a child printed as `name=value`, in order.
fn values(output: &str, name: &str) -> Vec<u64> {
    let fields = output
        .split_whitespace()
        .filter_map(|field| field.split_once('='));
    fields
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.parse().unwrap())
        .collect()
}

/// Runs a scenario; `outside` is what may wait beyond the process.
fn bounded(scenario: &str, outside: u64) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(SCENARIO, scenario)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(
        child.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&child.stderr)
    );
    let (made, grown, peak) = (
        values(&text, "made"),
        values(&text, "grown"),
        values(&text, "peak"),
    );
    let waiting = made[0] * RECORD_BYTES;
    assert!(
        waiting <= BOUND + outside,
        "{waiting} bytes wait behind a sink that takes nothing: {text}"
    );
    assert!(waiting >= CHANNEL_BYTES, "the channels are used: {text}");
    assert!(
        grown[0] <= BOUND,
        "grown by more than {BOUND} bytes while nothing was taken: {text}"
    );
    assert!(
        peak[1] <= 2 * BOUND,
        "grown by more than {} bytes in all: {text}",
        2 * BOUND
    );
    assert_eq!(
        (values(&text, "arrived"), values(&text, "sum")),
        (vec![RECORDS], vec![RECORDS * (RECORDS - 1) / 2])
    );
}

#[test]
fn a_sink_that_blocks_holds_the_source_up_and_loses_nothing() {
    bounded("sink", 0);
}

#[test]
fn a_socket_that_nobody_reads_holds_the_source_up_and_loses_nothing() {
    // What the operating system buffers for two connections, on both sides.
    bounded("socket", 32 << 20);
}
