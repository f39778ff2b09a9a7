//! A bucket of a real server is a store, whatever goes wrong with its answers.
//!
//! `HURTIG_TEST_S3` names another server, by its URL, for the tests that need no faults of it: it must have a bucket
//! `bucket`, and let the keys in that Amazon's tools read from the environment.
#![allow(clippy::unwrap_used, reason = "a test stops at what it cannot do")]

use hurtig_object_store::{S3Opener, S3Settings};
use hurtig_s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};
use hurtig_storage::{BlobStore, OpenStore, StorageError, conformance};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

const PART: usize = 5 << 20;

struct Bench {
    server: S3Server,
    settings: S3Settings,
    _dir: TempDir,
}

fn bench() -> Bench {
    let dir = TempDir::new().unwrap();
    let server = S3Server::start(dir.path()).unwrap();
    server.make_bucket("bucket").unwrap();
    let settings = S3Settings {
        endpoint: Some(server.endpoint()),
        region: Some("us-east-1".to_owned()),
        access_key: Some(ACCESS_KEY.to_owned()),
        secret_key: Some(SECRET_KEY.to_owned()),
        path_style: true,
        part_bytes: PART as u64,
        timeout: Duration::from_secs(20),
    };
    Bench {
        server,
        settings,
        _dir: dir,
    }
}

impl Bench {
    fn open(&self, location: &str) -> Arc<dyn BlobStore> {
        S3Opener::new(self.settings.clone()).open(location).unwrap()
    }
}

/// A bench with the server that the environment names, if it does.
fn any_bench() -> Bench {
    let mut bench = bench();
    if let Ok(endpoint) = std::env::var("HURTIG_TEST_S3") {
        bench.settings = S3Settings {
            endpoint: Some(endpoint),
            access_key: None,
            secret_key: None,
            ..bench.settings
        };
        let whole = bench.open("s3://bucket");
        whole.delete_all("").unwrap();
    }
    bench
}

/// Bytes of which every part is another one.
fn large(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect()
}

/// A store that is one of several in the same bucket.
struct Shared(Arc<dyn BlobStore>);

impl BlobStore for Shared {
    fn put_new(&self, path: &str, bytes: &[u8]) -> hurtig_storage::Result<()> {
        self.0.put_new(path, bytes)
    }
    fn get(&self, path: &str) -> hurtig_storage::Result<Vec<u8>> {
        self.0.get(path)
    }
    fn get_range(&self, path: &str, range: std::ops::Range<u64>) -> hurtig_storage::Result<Vec<u8>> {
        self.0.get_range(path, range)
    }
    fn exists(&self, path: &str) -> hurtig_storage::Result<bool> {
        self.0.exists(path)
    }
    fn list(&self, folder: &str) -> hurtig_storage::Result<Vec<String>> {
        self.0.list(folder)
    }
    fn delete(&self, path: &str) -> hurtig_storage::Result<()> {
        self.0.delete(path)
    }
    fn delete_all(&self, folder: &str) -> hurtig_storage::Result<()> {
        self.0.delete_all(folder)
    }
    fn sweep(&self, folder: &str) -> hurtig_storage::Result<usize> {
        self.0.sweep(folder)
    }
}

#[test]
fn a_bucket_is_a_store() {
    let bench = any_bench();
    let opener = S3Opener::new(bench.settings.clone());
    let stores = AtomicU32::new(0);
    conformance::check(&|| {
        let number = stores.fetch_add(1, Ordering::Relaxed);
        Box::new(Shared(
            opener.open(&format!("s3://bucket/store/{number}")).unwrap(),
        ))
    });
    // Stores in one bucket do not see each other.
    let whole = bench.open("s3://bucket");
    whole.delete_all("").unwrap();
    for prefix in ["store/1", "store/10"] {
        let store = bench.open(&format!("s3://bucket/{prefix}"));
        assert_eq!(store.location().unwrap(), format!("s3://bucket/{prefix}"));
        store.put_new("a/b", prefix.as_bytes()).unwrap();
        assert_eq!(store.list("").unwrap(), ["a/b"]);
    }
    assert_eq!(whole.list("").unwrap(), ["store/1/a/b", "store/10/a/b"]);
}

#[test]
fn large_objects_go_in_parts_and_come_back_whole() {
    let bench = any_bench();
    let store = bench.open("s3://bucket/large");
    for length in [2 * PART, 2 * PART + 1, 3 * PART, 3 * PART + 17] {
        let (path, bytes) = (format!("d/{length}"), large(length));
        store.put_new(&path, &bytes).unwrap();
        assert!(store.get(&path).unwrap() == bytes, "{length}");
        let (from, to) = (PART - 7, 2 * PART - 3);
        let range = store.get_range(&path, from as u64..to as u64).unwrap();
        assert!(range == bytes[from..to], "{length}");
        let rest = store.get_range(&path, 5..u64::MAX).unwrap();
        assert!(rest == bytes[5..], "{length}");
        let again = store.put_new(&path, &bytes).unwrap_err();
        assert!(matches!(again, StorageError::AlreadyExists { .. }), "{again}");
    }
    assert_eq!(bench.server.unfinished_uploads().unwrap(), 0);
}

#[test]
fn of_large_objects_too_one_wins() {
    let bench = any_bench();
    let store = bench.open("s3://bucket");
    let results: Vec<_> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3_u8)
            .map(|writer| {
                let store = store.clone();
                scope.spawn(move || store.put_new("x", &vec![writer; 3 * PART]))
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let winners: Vec<usize> = (0..3).filter(|writer| results[*writer].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    assert!(store.get("x").unwrap() == vec![winners[0] as u8; 3 * PART]);
    assert_eq!(bench.server.unfinished_uploads().unwrap(), 0);
}

#[test]
fn a_write_whose_answer_is_lost_has_happened_once() {
    let bench = bench();
    let store = bench.open("s3://bucket");
    for (path, length) in [("small", 100), ("large", 3 * PART)] {
        for lost in 1..4 {
            let (path, bytes) = (format!("{path}-{lost}"), large(length));
            let before = bench.server.faults().writes();
            bench.server.faults().lose_answers(lost);
            store
                .put_new(&path, &bytes)
                .unwrap_or_else(|e| panic!("{path}: {}", hurtig_core::Error::from(e).chain()));
            assert!(
                bench.server.faults().writes() - before > u64::from(lost),
                "{path}"
            );
            assert!(store.get(&path).unwrap() == bytes, "{path}");
            let taken = store.put_new(&path, &bytes).unwrap_err();
            assert!(matches!(taken, StorageError::AlreadyExists { .. }), "{taken}");
        }
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    let bench = bench();
    let store = bench.open("s3://bucket");
    for calls in [1, 3] {
        let path = format!("d/{calls}");
        bench.server.faults().be_busy(calls);
        store.put_new(&path, b"x").unwrap();
        bench.server.faults().be_busy(calls);
        assert_eq!(store.get(&path).unwrap(), b"x");
        bench.server.faults().be_busy(calls);
        assert_eq!(store.list("d").unwrap().last(), Some(&path));
    }
    bench.server.faults().be_busy(2);
    store.delete_all("d").unwrap();
    assert!(store.list("").unwrap().is_empty());
}

#[test]
fn a_server_that_is_gone_is_an_error_within_the_deadline_and_comes_back() {
    let mut bench = bench();
    bench.settings.timeout = Duration::from_millis(500);
    let store = bench.open("s3://bucket");
    store.put_new("a", b"1").unwrap();
    bench.server.stop();
    let failed = |result: hurtig_storage::Result<()>| {
        let error = result.unwrap_err();
        assert!(
            matches!(error, StorageError::Io { .. }) && error.can_retry(),
            "{error:?}"
        );
    };
    failed(store.put_new("b", b"2"));
    failed(store.put_new("c", &large(3 * PART)));
    failed(store.get("a").map(drop));
    failed(store.get_range("a", 0..1).map(drop));
    failed(store.exists("a").map(drop));
    failed(store.list("").map(drop));
    failed(store.delete("a"));
    failed(store.delete_all(""));
    bench.server.start_again().unwrap();
    store.put_new("b", b"2").unwrap();
    assert_eq!(store.list("").unwrap(), ["a", "b"]);
}

/// What [`BlobStore::check`] says, which must show no secret.
fn refused(settings: &S3Settings, location: &str) -> String {
    let store = S3Opener::new(settings.clone()).open(location).unwrap();
    let error = store.check().unwrap_err();
    assert!(matches!(error, StorageError::Refused { .. }), "{error:?}");
    let text = format!("{error} {error:?} {settings:?}");
    let secret = settings.secret_key.as_ref().unwrap();
    assert!(!text.contains(secret.as_str()), "{text}");
    error.to_string()
}

#[test]
fn what_is_wrong_with_the_setup_is_said_at_the_start() {
    let mut bench = bench();
    bench.open("s3://bucket/not/yet").check().unwrap();
    let text = refused(&bench.settings, "s3://other/x");
    assert!(
        text.contains("no bucket 'other'") && text.contains("s3.endpoint"),
        "{text}"
    );
    for (access, secret) in [(ACCESS_KEY, "wrong-secret"), ("wrong-access", SECRET_KEY)] {
        let mut settings = bench.settings.clone();
        settings.access_key = Some(access.to_owned());
        settings.secret_key = Some(secret.to_owned());
        let text = refused(&settings, "s3://bucket/x");
        assert!(
            text.contains("s3.secret-key") && text.contains("'s3://bucket/x'"),
            "{text}"
        );
    }
    bench.settings.timeout = Duration::from_millis(300);
    bench.server.stop();
    let text = refused(&bench.settings, "s3://bucket/x");
    assert!(
        text.contains("cannot be reached") && text.contains("s3.endpoint"),
        "{text}"
    );
}

#[test]
fn it_can_be_used_where_futures_run() {
    let bench = bench();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = bench.open("s3://bucket");
        store.put_new("a", b"1").unwrap();
        assert_eq!(store.get("a").unwrap(), b"1");
        drop(store);
    });
}
