//! What goes wrong on the command line: one line that says what to do, an exit code that says whose turn it is, and the same as JSON.

use crate::kit::*;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;

const NOBODY: &str = "00000000000000000000000000000000";

/// Runs a command that cannot be done, for people and for programs, and returns what is said of it.
fn refused(cluster: &Cluster, args: &[&str], code: i32) -> String {
    let output = cluster.hurtig(args);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
    assert_eq!(
        (output.stdout.len(), errors.lines().count()),
        (0, 1),
        "{args:?}: {errors}"
    );
    let text = errors.trim_end().strip_prefix("error: ").unwrap().to_owned();
    let json: Vec<&str> = [&["--output=json"], args].concat();
    let output = cluster.hurtig(&json);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer, serde_json::json!({ "errors": [text] }), "{args:?}");
    assert_eq!(output.status.code(), Some(code), "{args:?}");
    text
}

#[test]
fn mistakes_are_answered_in_one_line_that_says_what_to_do() {
    let cluster = Cluster::start(1, 1);
    let words = artifact("words");
    let words = words.to_str().unwrap();
    let here = cluster.path().to_str().unwrap();
    let nothing = cluster.path().join("nothing");
    let nothing = nothing.to_str().unwrap();
    let by_hand = "`hurtig list -a` shows";
    for (args, code, wanted) in [
        // Wrong command lines.
        (&[][..], 3, "a command is missing"),
        (&["lst"], 3, "'list'"),
        (&["list", "--al"], 3, "'--all'"),
        (&["cancel"], 3, "usage: hurtig cancel"),
        (&["cancel", "zzz"], 3, by_hand),
        (&["show", NOBODY, "everything"], 3, "checkpoints"),
        (&["stop", &NOBODY[1..]], 3, by_hand),
        (&["task-managers", "1"], 3, "`hurtig task-managers` shows"),
        (
            &["logs", "jobmanager", "../secret"],
            3,
            "no name that a cluster gives",
        ),
        (&["run", "-D", "parallelism.default", words], 3, "key=value"),
        (&["run", "-p", "many", words], 3, "'many'"),
        (&["list", "-m", "ftp://x"], 3, "`host:port`"),
        (&["list", "-m", "https://x"], 3, "--ca-file"),
        (&["savepoint", "-d", "latest"], 3, "name the folder"),
        (&["cluster", "remove", "2"], 3, "has started 1"),
        // Clusters that are not there.
        (&["list", "-m", "127.0.0.1:1"], 4, "`hurtig cluster start`"),
        (&["list", "--dir", nothing], 4, "`hurtig cluster start`"),
        (&["cluster", "status", "--dir", nothing], 4, "--dir"),
        (&["cluster", "stop", "--dir", nothing], 4, "--dir"),
        // What a cluster does not have.
        (&["show", NOBODY], 5, by_hand),
        (&["cancel", NOBODY], 5, by_hand),
        (&["stop", NOBODY, here], 5, by_hand),
        (&["savepoint", NOBODY, here], 5, by_hand),
        (&["checkpoint", NOBODY], 5, by_hand),
        (&["artifacts", "run", "x"], 5, "`hurtig artifacts list`"),
        (&["artifacts", "delete", "x"], 5, "`hurtig artifacts list`"),
        (&["task-managers", NOBODY], 5, "`hurtig task-managers`"),
        (&["logs", "jobmanager", "no.log"], 5, "`hurtig logs`"),
        (
            &["config", "docs", "parallelism.defualt"],
            5,
            "parallelism.default`",
        ),
        // What cannot be done.
        (&["run", nothing], 1, "name the executable"),
        (&["run", here], 1, "name the executable"),
        (&["info", words], 1, "usage: words"),
        (
            &["run", "-D", "no.such.setting=1", words, "a", "b"],
            1,
            "no.such.setting",
        ),
        (&["savepoint", "inspect", nothing], 1, "_metadata"),
        (&["savepoint", "dispose", nothing], 1, "does not exist"),
        (&["cluster", "start"], 1, "`hurtig cluster stop`"),
        (&["config", "check", "--config", nothing], 1, nothing),
        (&["config", "check", "-D", "worker.round=soon"], 1, "worker.round"),
        (&["list", "--token-file", nothing], 1, nothing),
    ] {
        let said = refused(&cluster, args, code);
        assert!(said.contains(wanted), "{args:?}: {said}");
    }
    two_mistakes_are_two_lines(&cluster);
    a_dead_cluster(&cluster);
}

fn two_mistakes_are_two_lines(cluster: &Cluster) {
    let file = cluster.path().join("wrong.yaml");
    std::fs::write(&file, "worker.rond: 1 ms\nparallelism.default: many\n").unwrap();
    let output = cluster.hurtig(&[
        "config",
        "check",
        "--output=json",
        "--config",
        file.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let errors = answer["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 2, "{answer}");
    assert!(errors[0].as_str().unwrap().contains("wrong.yaml:1"), "{answer}");
}

fn a_dead_cluster(cluster: &Cluster) {
    kill(number(&cluster.known()["jobmanager"]), "KILL");
    // A process whose first thread has ended may listen for a while.
    let address = cluster.known()["rest"].as_str().unwrap().replace("http://", "");
    until("nobody listens", || {
        TcpStream::connect(&address).is_err().then_some(())
    });
    let said = refused(cluster, &["list"], 4);
    assert!(
        said.contains("does not answer") && said.contains("cluster start"),
        "{said}"
    );
    let said = refused(cluster, &["cluster", "status"], 4);
    assert!(
        said.contains("has died") && said.contains("cluster stop"),
        "{said}"
    );
}

/// Answers so many requests as a jobmanager that lets in who has the token `s3cret`, and returns what they were.
fn guarded(requests: usize) -> (String, JoinHandle<Vec<Option<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let served = std::thread::spawn(move || (0..requests).map(|_| serve(&listener)).collect());
    (address, served)
}

/// What one request has as its authorization.
fn serve(listener: &TcpListener) -> Option<String> {
    let (mut socket, _) = listener.accept().unwrap();
    let lines = BufReader::new(socket.try_clone().unwrap()).lines();
    let head: Vec<String> = lines
        .map(Result::unwrap)
        .take_while(|line| !line.is_empty())
        .collect();
    let mut fields = head.iter().filter_map(|line| line.split_once(": "));
    let found = fields.find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let found = found.map(|(_, value)| value.to_owned());
    let (status, body) = match found.as_deref() {
        Some("Bearer s3cret") => ("200 OK", r#"{"jobs":[]}"#),
        _ => ("401 Unauthorized", r#"{"errors":["who asks is not known"]}"#),
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    socket.write_all(answer.as_bytes()).unwrap();
    found
}

#[test]
fn a_token_is_sent_and_one_that_is_missing_or_wrong_is_asked_for() {
    let nobody = Cluster::not_started();
    let (address, served) = guarded(5);
    let file = nobody.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let list = |token: Option<&str>, more: &[&str]| {
        let mut command = nobody.command(&["list", "--rest", &address]);
        command.env_remove("HURTIG_TOKEN").args(more);
        token
            .iter()
            .for_each(|token| _ = command.env("HURTIG_TOKEN", token));
        command.output().unwrap()
    };
    let of_file = ["--token-file", file.to_str().unwrap()];
    assert!(list(None, &of_file).status.success());
    assert!(list(Some("s3cret"), &[]).status.success());
    assert!(
        list(Some("another"), &of_file).status.success(),
        "what is said comes first"
    );
    for without in [list(None, &[]), list(Some("another"), &[])] {
        let said = text(&without);
        assert_eq!(without.status.code(), Some(6), "{said}");
        assert!(
            said.contains("not known") && said.contains("--token-file"),
            "{said}"
        );
        assert!(!said.contains("another"), "a token is shown: {said}");
    }
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    let sent = served.join().unwrap();
    assert_eq!(
        sent,
        [
            bearer("s3cret"),
            bearer("s3cret"),
            bearer("s3cret"),
            None,
            bearer("another")
        ]
    );
    no_process_is_given_it(&file);
}

/// What lets a command in is in the environment of no process that it starts.
fn no_process_is_given_it(file: &Path) {
    let cluster = Cluster::not_started();
    let mut start = cluster.command(&["cluster", "start", "--rest-port=0", "--port=0", "--slots=1"]);
    let started = start
        .env("HURTIG_TOKEN", "s3cret")
        .arg("--token-file")
        .arg(file)
        .output()
        .unwrap();
    assert!(started.status.success(), "{}", text(&started));
    for process in cluster.servers() {
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap();
        assert!(
            !String::from_utf8_lossy(&environment).contains("s3cret"),
            "{process}"
        );
    }
}
