//! What the server says of itself, and that it keeps to it where no job is needed to find out.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, reason = "the kit is shared by several tests")]

#[allow(dead_code, reason = "not every test uses all of it")]
mod kit;

use kit::{JOB, OPERATOR, Server, VIEWER};
use serde_json::Value;

#[test]
fn the_document_that_is_served_is_the_one_that_is_kept() {
    let server = Server::guarded(&[]);
    let answer = server.ask(Some(VIEWER), "GET", "/v1/openapi.json", b"");
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/json"))
    );
    let served: Value = serde_json::from_slice(&answer.body).unwrap();
    let kept: Value = serde_json::from_str(include_str!("../../../docs/reference/openapi.json")).unwrap();
    assert_eq!(served, kept);
    assert_eq!(server.ask(None, "GET", "/openapi.json", b"").status, 401);
}

#[test]
fn a_method_that_a_path_does_not_have_is_refused_with_those_that_it_has() {
    let server = Server::start(&[]);
    for (method, path, allowed) in [
        ("PUT", "/overview", "GET"),
        ("TRACE", "/v1/jobs/x", "GET, PATCH"),
        ("DELETE", "/jars/x/plan", "POST, GET"),
        ("GET", "/jars/upload", "POST"),
    ] {
        let answer = server.ask(None, method, path, b"");
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allowed)),
            "{method} {path}"
        );
        assert!(answer.error().contains(method), "{}", answer.error());
    }
}

#[test]
fn what_flink_has_and_is_not_here_is_refused_with_the_reason() {
    let server = Server::start(&[]);
    let answer = server.ask(None, "POST", "/jobs", b"a job graph of classes");
    assert_eq!(answer.status, 405);
    assert!(
        answer
            .error()
            .contains("upload it to `/jars/upload` and run that"),
        "{}",
        answer.error()
    );
    let answer = server.ask(None, "GET", &format!("/v1/jobs/{JOB}/yarn-cancel"), b"");
    assert_eq!(answer.status, 404);
    assert!(
        answer.error().contains("must not end a job"),
        "{}",
        answer.error()
    );
    let answer = server.ask(None, "GET", "/nothing", b"");
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (404, "there is no GET /nothing")
    );
}

#[test]
fn a_field_that_nobody_reads_is_refused_and_null_says_nothing() {
    let server = Server::guarded(&[]);
    let post = |path: &str, body: &str| {
        let answer = server.ask(
            Some(OPERATOR),
            "POST",
            &format!("/jobs/{JOB}/{path}"),
            body.as_bytes(),
        );
        (answer.status, answer.error())
    };
    for (path, body) in [
        ("stop", r#"{"drian": true}"#),
        ("savepoints", r#"{"target_directory": "/x"}"#),
        ("checkpoints", r#"{"type": "FULL"}"#),
    ] {
        let (status, text) = post(path, body);
        assert!(
            status == 400 && text.contains("unknown field"),
            "{path}: {status} {text}"
        );
    }
    for (path, body) in [
        (
            "stop",
            r#"{"drain": null, "targetDirectory": null, "formatType": null, "triggerId": null}"#,
        ),
        ("savepoints", r#"{"cancel-job": null, "target-directory": null}"#),
        ("checkpoints", r#"{"checkpointType": null, "triggerId": null}"#),
    ] {
        assert_eq!(post(path, body).0, 404, "there is no such job: {path}");
    }
}

#[test]
fn queries_that_mean_nothing_are_refused() {
    let server = Server::start(&[]);
    for (path, status) in [
        (format!("/jobs/{JOB}/exceptions?maxExceptions=-1"), 400),
        (format!("/jobs/{JOB}/exceptions?maxExceptions=4294967296"), 400),
        (format!("/jobs/{JOB}/exceptions?failureLabelFilter=USER"), 400),
        (
            format!("/jobs/{JOB}/exceptions?failureLabelFilter=TYPE:USER"),
            404,
        ),
        (format!("/applications/{JOB}/exceptions?maxExceptions=x"), 400),
        (
            format!("/jobs/{JOB}/accumulators?includeSerializedValue=perhaps"),
            400,
        ),
        (
            format!("/jobs/{JOB}/accumulators?includeSerializedValue=true"),
            404,
        ),
        (format!("/jobs/{JOB}/vertices/{JOB}/flamegraph?type=x"), 400),
        (
            format!("/jobs/{JOB}/vertices/{JOB}/flamegraph?subtaskindex=-1"),
            400,
        ),
        ("/taskmanagers/tm1".to_owned(), 400),
        (format!("/taskmanagers/{JOB}"), 404),
        (format!("/datasets/delete/{JOB}"), 404),
    ] {
        let answer = server.ask(None, "GET", &path, b"");
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
}
