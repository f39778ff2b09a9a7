//! A jobmanager of this process, and clients that say to its REST API whatever they like, byte for byte.

use hurtig_cluster::ClusterConfig;
use hurtig_cluster::process::{JobManager, JobManagerConfig, JobManagerHandle};
use hurtig_core::config::Configuration;
use hurtig_rest::{RestConfig, serve};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const VIEWER: &str = "viewer-token-0123456789abcdefghijklmnop";
pub const OPERATOR: &str = "operator-token-0123456789abcdefghijklmnop";
pub const ADMIN: &str = "admin-token-0123456789abcdefghijklmnop";
/// A job that there is not.
pub const JOB: &str = "0123456789abcdef0123456789abcdef";

pub struct Server {
    pub dir: TempDir,
    pub jobmanager: JobManagerHandle,
    /// `127.0.0.1:8081`
    pub address: String,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of an error in the form that all have.
    pub fn error(&self) -> String {
        let value: serde_json::Value = serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{} is answered with no error: {}", self.status, self.text()));
        value["errors"][0].as_str().expect("a text").to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test measures what a client waits for"
)]
pub fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a client that is slow on purpose")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A file of one token for each role.
pub fn token_file(dir: &Path) -> PathBuf {
    let path = dir.join("tokens");
    let text = format!("viewer board {VIEWER}\noperator ops {OPERATOR}\nadmin root {ADMIN}\n");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

impl Server {
    pub fn start(definitions: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), definitions)
    }

    /// One that wants tokens.
    pub fn guarded(definitions: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = format!(
            "rest.authentication.token-file={}",
            token_file(dir.path()).display()
        );
        let definitions: Vec<&str> = definitions.iter().copied().chain([file.as_str()]).collect();
        Self::start_in(dir, &definitions)
    }

    pub fn start_in(dir: TempDir, definitions: &[&str]) -> Self {
        let settings = Configuration::builder()
            .definitions(definitions.iter().copied())
            .build()
            .unwrap();
        let listening = RestConfig::new(0, &settings).unwrap().listen().unwrap();
        let address = listening.address().to_owned();
        let shown = settings.entries().filter(|entry| entry.source.is_some());
        let mut shown: BTreeMap<String, String> = shown
            .map(|entry| (entry.option.key().to_owned(), entry.value))
            .collect();
        shown.insert("their.own.password".to_owned(), "hunter2".to_owned());
        let config = JobManagerConfig {
            port: 0,
            storage_dir: dir.path().join("storage"),
            cluster: ClusterConfig::default(),
            settings,
            rest: Some(address.clone()),
            stores: hurtig_storage::BlobStores::local(),
            security: hurtig_cluster::process::Security::default(),
        };
        let jobmanager = JobManager::start(config).unwrap();
        let served = jobmanager.clone();
        // It ends with the process.
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(serve(
                listening,
                served,
                shown,
                hurtig_rest::Reporting::default(),
                std::future::pending(),
            ))
        });
        let address = address.strip_prefix("http://").unwrap().to_owned();
        Self {
            dir,
            jobmanager,
            address,
        }
    }

    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// A request with a token, closed behind it.
    pub fn ask(&self, token: Option<&str>, method: &str, path: &str, body: &[u8]) -> Answer {
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        self.send(method, path, &token.unwrap_or_default(), body)
    }

    /// A request with more lines in its head.
    pub fn send(&self, method: &str, path: &str, lines: &str, body: &[u8]) -> Answer {
        let host = match lines.to_lowercase().contains("host:") {
            true => String::new(),
            false => format!("Host: {}\r\n", self.address),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n{host}{lines}\r\n",
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat()).expect("an answer")
    }

    /// These bytes; `None`: the connection was closed without an answer.
    pub fn raw(&self, bytes: &[u8]) -> Option<Answer> {
        let mut socket = self.connect();
        // Who is refused early may find the connection closed while sending, with the answer there.
        let _ = socket.write_all(bytes);
        answer(&mut socket)
    }
}

/// What comes until the end.
pub fn answer(socket: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let mut part = [0; 16 << 10];
    loop {
        match socket.read(&mut part) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&part[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!(
                "nothing more comes: {error}, after {}",
                String::from_utf8_lossy(&bytes)
            ),
        }
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let body = bytes.split_off(end + 4);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head, body })
}

/// Bytes of memory that this process has.
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
