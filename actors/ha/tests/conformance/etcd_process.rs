//! A real etcd as a child process: killed, stopped, started again, and nobody else's.

use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// An etcd of one member with a directory and ports of its own.
pub(crate) struct Etcd {
    child: Child,
    dir: tempfile::TempDir,
    ports: [u16; 2],
}

/// Whether there is an etcd to start. Says so loudly if not, and fails if one was required.
fn is_installed() -> bool {
    let found = Command::new("etcd")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !found {
        assert!(
            std::env::var_os("HURTIG_REQUIRE_ETCD").is_none(),
            "HURTIG_REQUIRE_ETCD is set, and there is no etcd; `make etcd` gets it"
        );
        // Written past the test runner's capture.
        let _ = std::io::stderr().write_all(
            b"\nSKIPPED: no etcd on the path, so nothing was tested with it; `make etcd` gets it\n",
        );
    }
    found
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Etcd {
    /// Starts one, if it is installed.
    pub(crate) fn start() -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let ports = [free_port(), free_port()];
        let child = launch(&dir, ports);
        Some(Self { child, dir, ports })
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports[0]
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = launch(&self.dir, self.ports);
    }

    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(dir: &tempfile::TempDir, [client, peer]: [u16; 2]) -> Child {
    let [client, peer] = [client, peer].map(|port| format!("http://127.0.0.1:{port}"));
    Command::new("etcd")
        .args(["--name", "one", "--initial-cluster-state", "new"])
        .arg("--data-dir")
        .arg(dir.path())
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("one={peer}")])
        // The least TTL is one and a half of this.
        .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
        .args(["--log-level", "error", "--logger", "zap"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
