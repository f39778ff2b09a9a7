//! Who is served by a jobmanager, and with what: over sockets, byte for byte.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, reason = "the kit is shared by several tests")]

#[allow(dead_code, reason = "not every test uses all of it")]
mod kit;

use kit::*;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

fn files(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push(path.display().to_string()),
        }
    }
    all
}

#[test]
fn who_has_no_token_is_refused_and_who_has_one_may_what_its_role_may() {
    let server = Server::guarded(&[]);
    let stop = format!("/jobs/{JOB}/stop");
    for token in [None, Some("no-token-of-this-cluster-at-all-but-long")] {
        for (method, path) in [
            ("GET", "/overview"),
            ("POST", stop.as_str()),
            ("DELETE", "/cluster"),
            ("GET", "/x"),
        ] {
            let answer = server.ask(token, method, path, b"");
            assert_eq!(answer.status, 401, "{method} {path}");
            let challenge = answer.header("WWW-Authenticate").unwrap();
            assert!(challenge.starts_with("Bearer realm=\"hurtig\""), "{challenge}");
            assert_eq!(challenge.contains("invalid_token"), token.is_some());
            assert!(answer.error().contains("token"), "{}", answer.error());
        }
    }
    let status = |token, method, path: &str| server.ask(Some(token), method, path, b"").status;
    let expected = [
        ("GET", "/overview", [200, 200, 200]),
        ("GET", "/v1/jobs", [200, 200, 200]),
        ("POST", stop.as_str(), [403, 404, 404]),
        ("GET", "/jars/x/plan", [403, 403, 404]),
        ("POST", "/v1/jars/x/run", [403, 403, 404]),
        ("DELETE", "/jars/x", [403, 403, 404]),
        ("POST", "/savepoint-disposal", [403, 403, 400]),
        ("PUT", "/nothing", [403, 403, 404]),
    ];
    for (method, path, statuses) in expected {
        let got = [VIEWER, OPERATOR, ADMIN].map(|token| status(token, method, path));
        assert_eq!(got, statuses, "{method} {path}");
    }
    let refused = server.ask(Some(VIEWER), "DELETE", "/cluster", b"");
    assert_eq!(refused.status, 403);
    assert!(
        refused.error().contains("`admin`") && refused.error().contains("'board'"),
        "{}",
        refused.error()
    );
    assert!(
        refused
            .header("WWW-Authenticate")
            .unwrap()
            .contains("insufficient_scope")
    );
    // A path that is read in two ways would be two paths.
    let tricks = [
        "/jars/x/pl%61n",
        "/%6aars/x/plan",
        "/jars/x/plan%2f",
        "/jars/..%2f..%2fetc/passwd",
    ];
    for path in tricks {
        assert_eq!(status(VIEWER, "GET", path), 400, "{path}");
    }
    for lines in [
        format!("Authorization: Basic {ADMIN}\r\n"),
        format!("Authorization: {ADMIN}\r\n"),
        format!("Authorization: Bearer {ADMIN}\r\nAuthorization: Bearer {ADMIN}\r\n"),
        format!("X-Authorization: Bearer {ADMIN}\r\n"),
        "Authorization: Bearer\r\n".to_owned(),
    ] {
        assert_eq!(
            server.send("GET", "/overview", &lines, b"").status,
            401,
            "{lines}"
        );
    }
    let in_query = format!("/overview?token={ADMIN}&access_token={ADMIN}");
    assert_eq!(server.ask(None, "GET", &in_query, b"").status, 401);
    assert_eq!(
        server
            .send(
                "GET",
                "/overview",
                &format!("authorization: BEARER {VIEWER}\r\n"),
                b""
            )
            .status,
        200
    );
}

#[test]
fn no_answer_shows_a_secret() {
    let server = Server::guarded(&["s3.secret-key=hunter2", "high-availability.etcd.password=hunter2"]);
    for path in [
        "/jobmanager/config",
        "/jobmanager/environment",
        "/config",
        "/overview",
        "/nothing",
    ] {
        let text = server.ask(Some(ADMIN), "GET", path, b"").text();
        for secret in ["hunter2", VIEWER, OPERATOR, ADMIN] {
            assert!(!text.contains(secret), "{path} shows {secret}: {text}");
        }
    }
    let config = server.ask(Some(VIEWER), "GET", "/jobmanager/config", b"").text();
    assert_eq!(config.matches("\"******\"").count(), 3, "{config}");
    assert!(
        config.contains("rest.authentication.token-file") && config.contains("/tokens"),
        "{config}"
    );
}

#[test]
fn who_is_refused_is_refused_before_the_body() {
    let server = Server::guarded(&[]);
    let refused = |path: &str, lines: &str, status| {
        let mut socket = server.connect();
        let host = if lines.contains("Host") {
            String::new()
        } else {
            format!("Host: {}\r\n", server.address)
        };
        let head = format!("POST {path} HTTP/1.1\r\nContent-Length: 1000\r\n{host}{lines}\r\n");
        let begin = now();
        socket.write_all(head.as_bytes()).unwrap();
        let answer = answer(&mut socket).expect("an answer");
        assert!(
            begin.elapsed() < Duration::from_secs(8),
            "after {:?}",
            begin.elapsed()
        );
        assert_eq!(answer.status, status, "{path} {lines}");
        answer.error()
    };
    let token = |token| format!("Authorization: Bearer {token}\r\n");
    refused("/jars/upload", "", 401);
    refused("/jars/upload", &token(OPERATOR), 403);
    let said = refused(
        "/jars/upload",
        &format!("Host: evil.example\r\n{}", token(ADMIN)),
        403,
    );
    assert!(said.contains("rest.allowed-hosts"), "{said}");
    let said = refused(
        "/jars/upload",
        &format!("Origin: http://evil.example\r\n{}", token(ADMIN)),
        403,
    );
    assert!(said.contains("web.access-control-allow-origin"), "{said}");
}

#[test]
fn only_hosts_and_origins_that_are_ours_or_allowed_are_served() {
    let server = Server::start(&[
        "rest.allowed-hosts=jm.example.com;[2001:db8::1]",
        "web.access-control-allow-origin=https://board.example.com",
    ]);
    let port = server.address.rsplit_once(':').unwrap().1;
    let of = |lines: &str| server.send("GET", "/overview", lines, b"");
    for host in [
        "localhost",
        "LOCALHOST:1",
        "[::1]:80",
        "jm.example.com",
        "Jm.Example.Com:443",
        "[2001:db8::1]:80",
    ] {
        assert_eq!(of(&format!("Host: {host}\r\n")).status, 200, "{host}");
    }
    let foreign = [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "",
        "jm.example.com.",
        "x@localhost",
    ];
    for host in foreign {
        assert_eq!(of(&format!("Host: {host}\r\n")).status, 403, "{host}");
    }
    assert!([400, 403].contains(&of("Host: localhost\r\nHost: evil.example\r\n").status));
    assert_eq!(server.raw(b"GET /overview HTTP/1.0\r\n\r\n").unwrap().status, 403);
    for own in [
        format!("http://127.0.0.1:{port}"),
        format!("https://127.0.0.1:{port}"),
    ] {
        let answer = of(&format!("Origin: {own}\r\n"));
        assert_eq!(
            (answer.status, answer.header("Access-Control-Allow-Origin")),
            (200, None)
        );
    }
    for origin in [
        "http://evil.example",
        "null",
        "https://board.example.com.evil.example",
        "http://board.example.com",
        "*",
    ] {
        let answer = of(&format!("Origin: {origin}\r\n"));
        assert_eq!(
            (answer.status, answer.header("Access-Control-Allow-Origin")),
            (403, None),
            "{origin}"
        );
    }
    let board = "https://board.example.com";
    for path in ["/overview", "/nothing"] {
        let answer = server.send("GET", path, &format!("Origin: {board}\r\n"), b"");
        assert_eq!(
            answer.header("Access-Control-Allow-Origin"),
            Some(board),
            "{path}"
        );
        assert_eq!(answer.header("Vary"), Some("Origin"));
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
    }
    let preflight = |origin: &str| {
        let lines = format!("Origin: {origin}\r\nAccess-Control-Request-Method: PATCH\r\n");
        server.send("OPTIONS", "/jobs", &lines, b"")
    };
    let answer = preflight(board);
    assert_eq!(
        (answer.status, answer.header("Access-Control-Allow-Origin")),
        (204, Some(board))
    );
    assert!(
        answer
            .header("Access-Control-Allow-Methods")
            .unwrap()
            .contains("PATCH")
    );
    assert_eq!(preflight("https://evil.example").status, 403);
}

#[test]
fn a_browser_may_ask_for_another_site_without_a_token_and_nothing_more() {
    let server = Server::guarded(&["web.access-control-allow-origin=https://board.example.com"]);
    let lines = "Origin: https://board.example.com\r\nAccess-Control-Request-Method: POST\r\n";
    assert_eq!(server.send("OPTIONS", "/jars/upload", lines, b"").status, 204);
    assert_eq!(server.send("POST", "/jars/upload", lines, b"").status, 401);
    assert_eq!(server.send("OPTIONS", "/jars/upload", "", b"").status, 401);
}

#[test]
fn what_is_switched_off_is_off_for_everybody() {
    let server = Server::start(&["web.submit.enable=false", "web.cancel.enable=false"]);
    let job = format!("/jobs/{JOB}");
    for (method, path, option) in [
        ("POST", "/jars/upload", "web.submit.enable"),
        ("GET", "/jars/x/plan", "web.submit.enable"),
        ("POST", "/jars/x/run", "web.submit.enable"),
        ("PATCH", job.as_str(), "web.cancel.enable"),
        ("POST", "/applications/x/cancel", "web.cancel.enable"),
    ] {
        let answer = server.ask(None, method, path, b"");
        assert_eq!(answer.status, 403, "{method} {path}");
        assert!(answer.error().contains(option), "{}", answer.error());
    }
    let with_it = server.ask(
        None,
        "POST",
        &format!("{job}/savepoints"),
        b"{\"cancel-job\":true}",
    );
    assert!(
        with_it.status == 403 && with_it.error().contains("web.cancel.enable"),
        "{with_it:?}"
    );
    let features = server.ask(None, "GET", "/config", b"").text();
    assert!(
        features.contains("\"web-submit\":false") && features.contains("\"web-cancel\":false"),
        "{features}"
    );
}

#[test]
fn operators_have_savepoints_written_only_where_an_option_says() {
    let server = Server::guarded(&["rest.savepoint-directories=/savepoints"]);
    let path = format!("/jobs/{JOB}/savepoints");
    let of = |token, dir: &str| {
        let body = serde_json::json!({ "target-directory": dir }).to_string();
        server.ask(Some(token), "POST", &path, body.as_bytes()).status
    };
    for elsewhere in [
        "/etc",
        "s3://169.254.169.254/x",
        "http://169.254.169.254/latest",
        "savepoints",
        "\\\\host\\share",
    ] {
        assert_eq!(of(OPERATOR, elsewhere), 403, "{elsewhere}");
        assert_eq!(of(ADMIN, elsewhere), 404, "{elsewhere}: the job is not there");
    }
    assert_eq!(of(OPERATOR, "/savepoints/a"), 404);
    assert_eq!(of(OPERATOR, "/savepoints/../etc"), 400);
    assert_eq!(of(ADMIN, "/savepoints/\0"), 400);
}

#[test]
fn uploads_are_bounded_and_leave_nothing_behind() {
    let server = Server::start(&["rest.server.max-content-length=1 mb"]);
    let form = "Content-Type: multipart/form-data; boundary=b\r\n";
    let announced = |path: &str, length: &str| {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{form}\r\n");
        server.raw(head.as_bytes()).expect("an answer").status
    };
    assert_eq!(announced("/jars/upload", "10737418240"), 413);
    assert_eq!(announced("/v1/jars/upload", "1048577"), 413);
    assert_eq!(announced("/jars/x/run", "1048577"), 413);
    assert!([400, 413].contains(&announced("/jars/upload", "99999999999999999999999")));
    // Before the file begins little may come: it is kept in memory.
    let junk = vec![b'x'; 512 << 10];
    assert_eq!(server.send("POST", "/jars/upload", form, &junk).status, 413);
    // What is not announced is cut off, wherever it is: before, in and behind the file.
    let file = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"../../etc/passwd\"\r\n\r\n";
    let begins = [
        ("/jars/upload", ""),
        ("/jars/upload", "--b\r\nX: "),
        ("/jars/upload", file),
        ("/jars/x/run", ""),
        ("/overview", ""),
    ];
    for (path, begin) in begins {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n{form}\r\n");
        let mut socket = server.connect();
        socket
            .write_all(format!("{head}{:x}\r\n{begin}\r\n", begin.len().max(1)).as_bytes())
            .unwrap();
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x1_0000], b"\r\n"].concat();
        let begin_at = now();
        while socket.write_all(&chunk).is_ok() {
            assert!(
                begin_at.elapsed() < PATIENCE,
                "{path} {begin:?}: it is still taken"
            );
        }
    }
    let kept = || {
        let all = files(&server.dir.path().join("storage"));
        all.into_iter()
            .filter(|path| !path.ends_with("/identity"))
            .collect::<Vec<_>>()
    };
    let begin = now();
    while !kept().is_empty() {
        assert!(begin.elapsed() < PATIENCE, "{:?}", kept());
        pause(Duration::from_millis(20));
    }
    assert_eq!(server.ask(None, "GET", "/overview", b"").status, 200);
}

#[test]
fn few_upload_at_once_and_who_breaks_off_makes_room() {
    let server = Server::start(&[]);
    let form = "Content-Type: multipart/form-data; boundary=b\r\n";
    let file = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\nno program\r\n";
    let head =
        format!("POST /jars/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n{form}\r\n");
    let status = || {
        let whole = format!("{file}--b--\r\n");
        server.send("POST", "/jars/upload", form, whole.as_bytes())
    };
    assert_eq!(status().status, 400);
    let held: Vec<_> = (0..4)
        .map(|_| {
            let mut socket = server.connect();
            socket.write_all(format!("{head}{file}").as_bytes()).unwrap();
            socket
        })
        .collect();
    let until = |wanted: u16| {
        let begin = now();
        loop {
            let answer = status();
            if answer.status == wanted {
                return answer;
            }
            assert!(begin.elapsed() < Duration::from_secs(8), "{answer:?}");
            pause(Duration::from_millis(20));
        }
    };
    let refused = until(429);
    assert!(
        refused.header("Retry-After").is_some() && refused.error().contains("4 uploads"),
        "{refused:?}"
    );
    drop(held);
    until(400);
}

#[test]
fn names_of_uploads_and_logs_are_no_paths() {
    let server = Server::start(&[]);
    for name in [
        "../../../etc/passwd",
        "/etc/passwd",
        "\\\\\\\\host\\\\share",
        "C:\\\\x",
        "a\\u0000b",
        "..",
        "%2e%2e%2f",
    ] {
        let body = format!(
            "--b\r\nContent-Disposition: form-data; name=\"jarfile\"; filename=\"{name}\"\r\n\r\nno program\r\n--b--\r\n"
        );
        let form = "Content-Type: multipart/form-data; boundary=b\r\n";
        let answer = server.send("POST", "/jars/upload", form, body.as_bytes());
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
        assert!(answer.error().contains("no executable"), "{}", answer.error());
    }
    let storage = server.dir.path().join("storage");
    let kept = files(&storage);
    assert!(kept.iter().all(|path| path.ends_with("/identity")), "{kept:?}");
    assert!(
        !kept
            .iter()
            .any(|path| path.contains("passwd") || path.contains("share")),
        "{kept:?}"
    );
    for path in [
        "/jobmanager/logs/../../../etc/passwd",
        "/jobmanager/logs//etc/passwd",
        "/jobmanager/logs/passwd",
        "/jobmanager/logs/..",
        "/../../etc/passwd",
        "//etc/passwd",
        "/jars/../cluster",
        "/jobmanager/logs/\\\\host\\share",
    ] {
        let answer = server.ask(None, "GET", path, b"");
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.text().contains("root:"), "{path}");
    }
    for path in [
        "/jobmanager/logs/%2e%2e%2fpasswd",
        "/jobmanager/logs/%252e%252e%252f",
        "/jobmanager/logs/a%00b",
    ] {
        assert_eq!(server.ask(None, "GET", path, b"").status, 400, "{path}");
    }
    for path in [
        "/etc",
        "s3://169.254.169.254/x",
        "http://169.254.169.254/latest/meta-data",
        "gopher://x",
        "x",
        "",
    ] {
        let body = serde_json::json!({ "savepoint-path": path }).to_string();
        let answer = server.ask(None, "POST", "/savepoint-disposal", body.as_bytes());
        assert!([200, 400].contains(&answer.status), "{path}: {}", answer.text());
    }
}

#[test]
fn odd_bodies_and_queries_are_mistakes_of_the_request() {
    let server = Server::start(&[]);
    let path = format!("/jobs/{JOB}/savepoints");
    let status = |body: &str| server.ask(None, "POST", &path, body.as_bytes());
    for body in [
        "[".repeat(200_000),
        format!(
            "{{\"triggerId\":{}1{}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        ),
        "{".to_owned(),
        "\u{0}".to_owned(),
        "nul".to_owned(),
        "{\"cancel-job\":1e999}".to_owned(),
        "{\"formatType\":\"X\"}".to_owned(),
    ] {
        let answer = status(&body);
        assert_eq!(
            answer.status,
            400,
            "{}: {}",
            &body[..body.len().min(40)],
            answer.text()
        );
        assert!(answer.error().len() < 1_000);
    }
    // What nobody asks for is refused by its name, however deep it is.
    let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let answer = status(&deep);
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("unknown field `a`"), "{}", answer.error());
    let many = format!("/jobs/{JOB}/metrics?{}", "get=a&".repeat(9_000));
    assert!((400..500).contains(&server.ask(None, "GET", &many, b"").status));
    let long = format!("/jobs/{JOB}/metrics?{}", "a=b&".repeat(30_000));
    assert!(
        server
            .raw(format!("GET {long} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
            .is_none_or(|answer| (400..500).contains(&answer.status))
    );
    let headers = "X-A: b\r\n".repeat(500);
    let many = format!("GET /overview HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    assert!(
        server
            .raw(many.as_bytes())
            .is_none_or(|answer| (400..500).contains(&answer.status))
    );
    assert_eq!(server.ask(None, "GET", "/overview", b"").status, 200);
}

/// Five seconds for a head; ten for a body, and more for one that comes.
#[test]
fn who_is_silent_or_slow_is_left() {
    let server = Server::start(&[]);
    let body = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
        )
    };
    let slow = |begin: String, drop: u8| {
        let mut socket = server.connect();
        std::thread::spawn(move || {
            let start = now();
            socket.write_all(begin.as_bytes()).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
            let mut part = [0; 4096];
            let mut said = Vec::new();
            loop {
                assert!(start.elapsed() < PATIENCE, "{begin:?} is still served");
                match std::io::Read::read(&mut socket, &mut part) {
                    Ok(0) => break,
                    Ok(read) => said.extend_from_slice(&part[..read]),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
                let _ = socket.write_all(&[drop]);
            }
            (start.elapsed(), String::from_utf8_lossy(&said).into_owned())
        })
    };
    let heads = [
        slow(String::new(), b'G'),
        slow("GET /overview HTTP/1.1\r\nX: ".to_owned(), b'a'),
    ];
    let bodies = [slow(body("/jars/x/run"), b'['), slow(body("/jars/upload"), b'-')];
    let ignored = slow(body("/jobs"), b'x');
    let mut longest = Duration::ZERO;
    for head in heads {
        let (after, said) = head.join().unwrap();
        longest = longest.max(after);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    }
    for slow in bodies {
        let (after, said) = slow.join().unwrap();
        assert!(
            said.starts_with("HTTP/1.1 408") && said.contains("too slowly"),
            "{said}"
        );
        assert!(after >= Duration::from_secs(9), "{after:?}");
        // Both began at the same time: whatever else the machine does, a head has less of it.
        assert!(longest < after, "heads had {longest:?}, a body {after:?}");
    }
    let (_, said) = ignored.join().unwrap();
    assert!(said.starts_with("HTTP/1.1 405"), "{said}");
}
