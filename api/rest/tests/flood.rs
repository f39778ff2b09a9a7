//! What floods of connections and of malformed requests cost a jobmanager: measured in a process of their own, one after the other.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(clippy::print_stdout, reason = "figures are for people")]
#![allow(unreachable_pub, reason = "the kit is shared by several tests")]

#[allow(dead_code, reason = "not every test uses all of it")]
mod kit;

use kit::*;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// As the program `hurtig` has it: memory is what the server has, and not what another allocator makes of that.
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Connections that say nothing.
const SILENT: usize = 1_000;
/// What they may cost.
const SILENT_BYTES: u64 = 8 << 20;
/// Requests of the generator.
const REQUESTS: u64 = 10_000;
/// What they may cost, which is what their largest bodies and the sockets of the clients take.
const REQUESTS_BYTES: u64 = 64 << 20;
/// Statuses of which the generator must find a good number each, so that it does not only knock at the door.
const STATUSES: [u16; 7] = [200, 400, 401, 403, 404, 405, 413];
/// How many.
const EACH: u64 = 10;
/// Another seed is another run: `HURTIG_HOSTILE_SEED`.
const SEED: u64 = 407_704_156_701;

/// Numbers that look like chance, and are the same again for a seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1))
            .map(|_| self.next().to_le_bytes()[0])
            .collect()
    }
}

const METHODS: [&str; 14] = [
    "GET", "GET", "POST", "POST", "PATCH", "DELETE", "PUT", "OPTIONS", "HEAD", "TRACE", "CONNECT", "get",
    "G E T", "",
];
const SEGMENTS: [&str; 44] = [
    "jobs",
    "jars",
    "v1",
    "overview",
    "config",
    "upload",
    "run",
    "plan",
    "taskmanagers",
    "jobmanager",
    "logs",
    "log",
    "metrics",
    "checkpoints",
    "savepoints",
    "stop",
    "vertices",
    "subtasks",
    "attempts",
    "details",
    "accumulators",
    "savepoint-disposal",
    "applications",
    "cancel",
    "exceptions",
    "backpressure",
    "watermarks",
    "thread-dump",
    "0123456789abcdef0123456789abcdef",
    "00000000000000000000000000000000",
    "-1",
    "0",
    "4294967296",
    "1e9",
    "..",
    ".",
    "",
    "%2e%2e",
    "%00",
    "%",
    "é",
    "a;b",
    "jobs?x",
    "\u{7f}",
];
const QUERIES: [&str; 14] = [
    "",
    "",
    "?",
    "?get=a,b,c",
    "?mode=cancel",
    "?mode=stop",
    "?parallelism=-1",
    "?parallelism=99999999999999999999",
    "?maxExceptions=18446744073709551616",
    "?agg=min,max,nothing",
    "?%zz=%",
    "?a[]=1&a[]=2",
    "?savepointPath=../../x",
    "?subtasks=0-99999999",
];
const HEADERS: [&str; 21] = [
    "Content-Type: application/json",
    "Content-Type: multipart/form-data; boundary=b",
    "Content-Type: multipart/form-data",
    "Content-Type: multipart/form-data; boundary=",
    "Content-Type: \u{1}",
    "Content-Encoding: gzip",
    "Accept: */*",
    "Expect: 100-continue",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Content-Length: -1",
    "Content-Length: 5",
    "Content-Length: 9999999999",
    "Content-Length: 5\r\nContent-Length: 6",
    "Connection: upgrade\r\nUpgrade: h2c",
    "Connection: keep-alive",
    "Host: localhost",
    "Range: bytes=0-1",
    "X: \u{e9}",
    "Origin: null",
    "hurtig-forwarded: 1",
];
const BODIES: [&str; 22] = [
    "",
    "",
    "{}",
    "[]",
    "null",
    "{\"cancel-job\":true}",
    "{\"target-directory\":\"/\\u0000\"}",
    "{\"target-directory\":5}",
    "{\"triggerId\":\"x\"}",
    "{\"checkpointType\":\"FULL\"}",
    "{\"checkpointType\":7}",
    "{\"savepoint-path\":\"s3://169.254.169.254/x\"}",
    "{\"savepoint-path\":\"/proc/self/mem\"}",
    "{\"parallelism\":-1}",
    "{\"programArgsList\":[1]}",
    "{\"flinkConfiguration\":{\"a\":{}}}",
    "{\"a\":1,\"a\":2}",
    "\u{feff}{}",
    "5\r\nhello\r\n0\r\n\r\n",
    "fffffffffffffffff\r\nx",
    "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"../x\"\r\n\r\nx\r\n--b--\r\n",
    "--b\r\n\r\n\r\n--b\r\n",
];

/// What is served, mostly with names of nothing; or anything. But for the end of the cluster.
fn target(chance: &mut Chance) -> (String, String) {
    let served = include_str!("../served.tsv").lines();
    let served = served.filter(|line| !line.starts_with('#') && !line.contains("/cluster\t"));
    let served: Vec<&str> = served.collect();
    if chance.one_in(3) {
        let path = (0..chance.below(7))
            .map(|_| format!("/{}", chance.of(&SEGMENTS)))
            .collect();
        return (chance.of(&METHODS).to_owned(), path);
    }
    let line: Vec<&str> = chance.of(&served).split('\t').collect();
    let segments = line[1]
        .split('/')
        .skip(1)
        .map(|segment| match segment.starts_with('{') {
            true if chance.one_in(3) => format!("/{}", chance.of(&SEGMENTS)),
            true => format!("/{JOB}"),
            false => format!("/{segment}"),
        });
    let path: String = segments.collect();
    let method = if chance.one_in(10) {
        chance.of(&METHODS)
    } else {
        line[0]
    };
    (method.to_owned(), path)
}

fn request(chance: &mut Chance) -> Vec<u8> {
    if chance.one_in(20) {
        return chance.bytes(300);
    }
    let (method, mut path) = target(chance);
    path.push_str(chance.of(&QUERIES));
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !chance.one_in(15) {
        text.push_str("Host: localhost\r\n");
    }
    match chance.below(12) {
        0 => {}
        1 => text.push_str("Authorization: Bearer\r\n"),
        2 => text.push_str(&format!(
            "Authorization: Bearer {}\r\n",
            "x".repeat(chance.below(5_000))
        )),
        3 => text.push_str(&format!("Authorization: Bearer {VIEWER}\r\n")),
        4 => text.push_str(&format!("Authorization: Bearer {OPERATOR}\r\n")),
        _ => text.push_str(&format!("Authorization: Bearer {ADMIN}\r\n")),
    }
    (0..chance.below(3)).for_each(|_| text.push_str(&format!("{}\r\n", chance.of(&HEADERS))));
    let body = match chance.below(10) {
        0 => "[".repeat(chance.below(20_000)),
        1 => format!("{{\"triggerId\":\"{}\"}}", "a".repeat(chance.below(20_000))),
        _ => chance.of(&BODIES).to_owned(),
    };
    if !chance.one_in(4) {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    let mut bytes = format!("{text}\r\n{body}").into_bytes();
    if chance.one_in(4) {
        for _ in 0..chance.below(4) + 1 {
            let at = chance.below(bytes.len());
            bytes[at] = chance.next().to_le_bytes()[0];
        }
    }
    if chance.one_in(10) {
        bytes.truncate(chance.below(bytes.len()));
    }
    bytes
}

/// Every answer in what has come of a connection must be one of a server that is well.
fn check(said: &[u8], to: &[u8], number: u64) -> Vec<u16> {
    let mut statuses = Vec::new();
    let text = String::from_utf8_lossy(said);
    let of = || {
        format!(
            "request {number}: {}\nis answered: {text}",
            String::from_utf8_lossy(to).escape_debug()
        )
    };
    for part in text.split("HTTP/1.1 ").skip(1) {
        let status: u16 = part
            .get(..3)
            .and_then(|status| status.parse().ok())
            .unwrap_or_default();
        assert!((200..500).contains(&status) || status == 100, "{}", of());
        statuses.push(status);
    }
    for leak in [
        "panicked",
        ".rs:",
        "RUST_BACKTRACE",
        VIEWER,
        OPERATOR,
        ADMIN,
        "hunter2",
        "root:x:",
    ] {
        assert!(!text.contains(leak), "shows {leak}: {}", of());
    }
    statuses
}

/// Says it, says that nothing follows, and takes what comes.
fn said(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut socket = server.connect();
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let (mut said, mut part) = (Vec::new(), [0; 8 << 10]);
    loop {
        match socket.read(&mut part) {
            Ok(0) => return said,
            Ok(read) => said.extend_from_slice(&part[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return said,
            Err(error) => panic!(
                "no end of the answer to {}: {error}",
                String::from_utf8_lossy(bytes).escape_debug()
            ),
        }
    }
}

/// One test, so that nothing else changes the memory that is measured.
#[test]
fn floods_cost_little_and_others_are_served() {
    silent_connections();
    malformed_requests();
}

fn malformed_requests() {
    let server = Server::guarded(&["s3.secret-key=hunter2"]);
    let seed = std::env::var("HURTIG_HOSTILE_SEED").ok();
    let seed = seed.map_or(SEED, |seed| {
        seed.parse().expect("HURTIG_HOSTILE_SEED is a number")
    });
    println!("HURTIG_HOSTILE_SEED={seed}");
    let mut chance = Chance(seed);
    // What is had once and for all is not what a request costs.
    (0..500).for_each(|_| _ = said(&server, &request(&mut chance)));
    let (before, begin) = (resident(), now());
    let mut most = before;
    let mut seen: BTreeMap<u16, u64> = BTreeMap::new();
    for number in 0..REQUESTS {
        let bytes = request(&mut chance);
        for status in check(&said(&server, &bytes), &bytes, number) {
            *seen.entry(status).or_default() += 1;
        }
        if number % 500 == 0 {
            most = most.max(resident());
            assert_eq!(
                server.ask(Some(VIEWER), "GET", "/overview", b"").status,
                200,
                "after {number}"
            );
        }
    }
    most = most.max(resident());
    println!(
        "{REQUESTS} malformed requests in {:?}, {} KiB more",
        begin.elapsed(),
        (most - before) >> 10
    );
    println!("{seen:?}");
    for status in STATUSES {
        assert!(
            seen.get(&status).is_some_and(|times| *times >= EACH),
            "{status}: {seen:?}"
        );
    }
    assert!(most - before < REQUESTS_BYTES, "{} bytes more", most - before);
    assert_eq!(server.ask(Some(ADMIN), "GET", "/jobs", b"").status, 200);
}

fn silent_connections() {
    raise_limit();
    let server = Server::start(&[]);
    let serve = |server: &Server| {
        let begin = now();
        assert_eq!(server.ask(None, "GET", "/overview", b"").status, 200);
        begin.elapsed()
    };
    (0..200).for_each(|_| _ = serve(&server));
    let (before, begin) = (resident(), now());
    let mut silent: Vec<TcpStream> = (0..SILENT).map(|_| server.connect()).collect();
    let mut slowest = Duration::ZERO;
    (0..20).for_each(|_| slowest = slowest.max(serve(&server)));
    let more = resident().saturating_sub(before);
    let opened = begin.elapsed();
    // Before the silent ones are sent away, which is after five seconds.
    assert!(
        slowest < Duration::from_secs(4),
        "others were served after {slowest:?}"
    );
    assert!(more <= SILENT_BYTES, "{more} bytes more");
    for socket in &mut silent {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut said = Vec::new();
        match socket.read_to_end(&mut said) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it is still open"),
        }
    }
    let closed = begin.elapsed();
    assert!(
        closed < opened + Duration::from_secs(6),
        "closed after {closed:?}"
    );
    println!(
        "{SILENT} silent connections: {} KiB more, others served after at most {slowest:?}, all closed {:?} after the last was opened",
        more >> 10,
        closed.saturating_sub(opened)
    );
}

/// Both ends of all connections are in this process.
fn raise_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}
