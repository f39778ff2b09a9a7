//! Who may ask the jobmanagers of a cluster, as they are started by people.

use crate::etcd_process::Etcd;
use crate::kit::*;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const VIEWER: &str = "viewer-token-0123456789abcdefghijklmnop";
const ADMIN: &str = "admin-token-0123456789abcdefghijklmnop";

/// A jobmanager that ends with its test.
struct Jobmanager {
    process: Child,
    rest: String,
}

impl Drop for Jobmanager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(dir: &Path, name: &str, settings: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hurtig"));
    command
        .args(["jobmanager", "--port=0", "--rest-port=0"])
        .arg(format!("--storage-dir={}", dir.join("storage").display()))
        .arg(format!("--address-file={}", dir.join(name).display()))
        .args(settings.iter().map(|setting| format!("-D{setting}")))
        .stdin(Stdio::null());
    command
}

impl Jobmanager {
    fn start(dir: &Path, name: &str, settings: &[String]) -> Self {
        let log = std::fs::File::create(dir.join(format!("{name}.log"))).unwrap();
        let process = command(dir, name, settings)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let known = until("it has an address", || std::fs::read(dir.join(name)).ok());
        let known: serde_json::Value = serde_json::from_slice(&known).unwrap();
        let rest = known["rest"].as_str().unwrap();
        let rest = rest.strip_prefix("http://").unwrap().to_owned();
        Self { process, rest }
    }

    /// The status of an answer, and all of it.
    fn raw(&self, head: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(&self.rest).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A connection may be closed with a reset when the answer is there.
        let _ = socket.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_default(), text)
    }

    fn ask(&self, token: Option<&str>, method: &str, path: &str) -> u16 {
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let token = token.unwrap_or_default();
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}\r\n"
        ))
        .0
    }
}

fn token_file(dir: &Path) -> PathBuf {
    let path = dir.join("tokens");
    std::fs::write(&path, format!("viewer board {VIEWER}\nadmin root {ADMIN}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[test]
fn a_jobmanager_that_strangers_would_reach_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |settings: &[&str]| {
        let settings: Vec<String> = settings.iter().map(|&one| one.to_owned()).collect();
        let output = command(dir.path(), "refused", &settings).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{settings:?}");
        text(&output)
    };
    let said = refused(&["rest.bind-address=0.0.0.0"]);
    assert!(
        said.contains("rest.authentication.token-file") && said.contains("rest.authentication: none"),
        "{said}"
    );
    let said = refused(&["rest.bind-address=all"]);
    assert!(
        said.contains("rest.bind-address") && said.contains("IP address"),
        "{said}"
    );
    let file = token_file(dir.path());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let setting = format!("rest.authentication.token-file={}", file.display());
    let said = refused(&[&setting]);
    assert!(said.contains("chmod 600") && !said.contains(VIEWER), "{said}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let settings = ["rest.bind-address=0.0.0.0".to_owned(), setting];
    let guarded = Jobmanager::start(dir.path(), "guarded", &settings);
    assert_eq!(guarded.ask(None, "GET", "/overview"), 401);
    assert_eq!(guarded.ask(Some(VIEWER), "GET", "/overview"), 200);
    assert_eq!(guarded.ask(Some(VIEWER), "DELETE", "/cluster"), 403);
    // Arguments of a process are shown, and secrets among them are not.
    let settings = ["s3.secret-key=hunter2".to_owned()];
    let told = Jobmanager::start(dir.path(), "told", &settings);
    for path in ["/jobmanager/environment", "/jobmanager/config", "/jobmanager/log"] {
        let (status, text) = told.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ));
        assert!(status == 200 && !text.contains("hunter2"), "{path}: {text}");
    }
    let logs =
        ["guarded.log", "told.log"].map(|name| std::fs::read_to_string(dir.path().join(name)).unwrap());
    for secret in [VIEWER, ADMIN, "hunter2"] {
        assert!(!logs.concat().contains(secret), "{logs:?}");
    }
}

/// A standby asks who somebody is, hands on what proves it, and hands it to nobody but the leader.
#[test]
fn a_standby_hands_on_who_asks_and_to_nobody_but_the_leader() {
    let Some(etcd) = Etcd::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        "high-availability.type=etcd".to_owned(),
        format!("high-availability.etcd.endpoints={}", etcd.url()),
        format!("high-availability.storageDir={}", dir.path().join("ha").display()),
        format!(
            "rest.authentication.token-file={}",
            token_file(dir.path()).display()
        ),
    ];
    let leader = Jobmanager::start(dir.path(), "leader", &settings);
    let leads = |one: &Jobmanager| (one.ask(Some(VIEWER), "GET", "/overview") == 200).then_some(());
    until("it leads", || leads(&leader));
    let standby = Jobmanager::start(dir.path(), "standby", &settings);
    until("it finds who leads", || leads(&standby));
    assert_eq!(standby.ask(None, "GET", "/overview"), 401);
    assert_eq!(standby.ask(Some(VIEWER), "POST", "/jars/x/run"), 403);
    assert_eq!(
        standby.ask(Some(ADMIN), "POST", "/jars/x/run"),
        404,
        "the leader's answer"
    );
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let there = other.local_addr().unwrap();
    for target in [
        format!("CONNECT x@{there}"),
        format!("CONNECT @{there}"),
        format!("CONNECT {there}"),
        format!("GET http://{there}/overview"),
        format!("GET @{there}/overview"),
        format!("GET x@{there}"),
        format!("GET //{there}/overview"),
    ] {
        let (status, text) = standby.raw(&format!(
            "{target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\nConnection: close\r\n\r\n"
        ));
        assert!((400..500).contains(&status), "{target}: {text}");
        assert!(other.accept().is_err(), "{target} has led to another server");
    }
}
