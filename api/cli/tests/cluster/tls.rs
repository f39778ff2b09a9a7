//! TLS everywhere: between processes, between workers, and for clients; and what is said to who has the wrong certificates.

use crate::kit::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

struct Authority(Issuer<'static, KeyPair>);

fn put(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Makes an authority, whose certificate is `<name>.pem` and its key `<name>.key`.
fn authority(dir: &Path, name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    put(
        &dir.join(format!("{name}.pem")),
        &params.self_signed(&key).unwrap().pem(),
    );
    put(&dir.join(format!("{name}.key")), &key.serialize_pem());
    Authority(Issuer::new(params, key))
}

impl Authority {
    /// Signs for this machine, until the end of a year.
    fn sign(&self, dir: &Path, name: &str, year: i32) {
        let mut params =
            CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().unwrap();
        put(
            &dir.join(format!("{name}.pem")),
            &params.signed_by(&key, &self.0).unwrap().pem(),
        );
        put(&dir.join(format!("{name}.key")), &key.serialize_pem());
    }
}

/// Certificates of a cluster, and of somebody else.
fn certificates() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let cluster = authority(path, "cluster");
    cluster.sign(path, "server", 3_000);
    cluster.sign(path, "stale", 2_001);
    authority(path, "jobs");
    authority(path, "strangers").sign(path, "stranger", 3_000);
    let rest = authority(path, "rest-authority");
    rest.sign(path, "rest", 3_000);
    rest.sign(path, "client", 3_000);
    dir
}

/// The settings of a process that shows one certificate and believes one authority.
fn internal(dir: &Path, own: &str, believed: &str) -> Vec<String> {
    let setting =
        |key: &str, file: String| format!("-Dsecurity.ssl.internal.{key}={}", dir.join(file).display());
    vec![
        "-Dsecurity.ssl.internal.enabled=true".to_owned(),
        setting("certificate", format!("{own}.pem")),
        setting("key", format!("{own}.key")),
        setting("authorities", format!("{believed}.pem")),
        setting("job-authority.certificate", "jobs.pem".to_owned()),
        setting("job-authority.key", "jobs.key".to_owned()),
    ]
}

fn rest(dir: &Path) -> Vec<String> {
    let setting = |key: &str, file: &str| format!("-Dsecurity.ssl.rest.{key}={}", dir.join(file).display());
    vec![
        "-Dsecurity.ssl.rest.enabled=true".to_owned(),
        setting("certificate", "rest.pem"),
        setting("key", "rest.key"),
        setting("authorities", "rest-authority.pem"),
    ]
}

fn strs(settings: &[String]) -> Vec<&str> {
    settings.iter().map(String::as_str).collect()
}

/// Where a process listens.
fn ports(process: u32) -> Vec<u16> {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    let sockets: Vec<String> = links
        .filter_map(|link| {
            Some(
                link.to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap();
    let listening = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_own = fields[3] == "0A" && sockets.iter().any(|socket| socket == fields[9]);
        is_own.then(|| u16::from_str_radix(fields[1].rsplit_once(':').unwrap().1, 16).unwrap())
    });
    listening.collect()
}

/// What somebody gets to hear who does not speak TLS.
fn heard_in_the_clear(port: u16) -> Vec<u8> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut heard = Vec::new();
    // However it ends.
    let _ = socket.read_to_end(&mut heard);
    heard
}

#[test]
fn a_shuffle_crosses_task_managers_and_nobody_speaks_in_the_clear() {
    let dir = certificates();
    let settings = [internal(dir.path(), "server", "cluster"), rest(dir.path())].concat();
    let cluster = Cluster::start_with(2, 2, &strs(&settings));
    let (out, checkpoints) = (cluster.path().join("out"), cluster.path().join("checkpoints"));
    let count = 60_000;
    let mut options = with_checkpoints(&checkpoints);
    options.retain(|setting| !setting.starts_with("parallelism"));
    options.push("parallelism.default=4".to_owned());
    let run = cluster.run(
        &options,
        "numbered",
        &[out.to_str().unwrap(), &count.to_string(), "4000"],
    );
    let latest = checkpoint(&checkpoints, 0);
    let workers = until("two workers", || {
        let workers = cluster.processes("worker");
        (workers.len() == 2).then_some(workers)
    });
    let masters = cluster.processes("job-master");
    let all: Vec<u32> = cluster
        .servers()
        .into_iter()
        .chain(masters.clone())
        .chain(workers.clone())
        .collect();
    let mut asked = 0;
    for process in all {
        for port in ports(process) {
            let heard = heard_in_the_clear(port);
            // An alert of TLS, or nothing.
            assert!(
                heard.is_empty() || heard.starts_with(&[0x15, 0x03]),
                "{process} at {port}: {heard:02x?}"
            );
            asked += 1;
        }
    }
    // Two of the jobmanager, one of each TaskManager and of the JobMaster, two of each worker.
    assert_eq!(asked, 2 + 2 + 1 + 4);
    // New processes get new certificates.
    kill(workers[0], "KILL");
    let latest = checkpoint(&checkpoints, latest);
    kill(masters[0], "KILL");
    checkpoint(&checkpoints, latest);
    finished(&cluster, run);
    check_numbers(&out, count);
    let added = cluster.hurtig(&["cluster", "add", "--slots=1"]);
    assert!(
        added.status.success(),
        "one that is added later has the settings too: {}",
        text(&added)
    );
}

/// A TaskManager that has `settings`, and hears of no leader for three seconds.
fn task_manager(cluster: &Cluster, name: &str, settings: &[String]) -> Output {
    let (work, log) = (cluster.path().join("work").join(name), cluster.path().join("log"));
    cluster
        .command(&["taskmanager", "--patience=3"])
        .arg(format!(
            "--jobmanager={}",
            cluster.known()["rpc"].as_str().unwrap()
        ))
        .arg(format!("--work-dir={}", work.display()))
        .arg(format!("--log-dir={}", log.display()))
        .args(settings)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap()
}

fn task_managers(cluster: &Cluster) -> u64 {
    let said = cluster.hurtig(&["cluster", "status", "--output=json"]);
    let status: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    status["overview"]["taskmanagers"].as_u64().unwrap()
}

fn jobmanager_log(cluster: &Cluster) -> String {
    std::fs::read_to_string(cluster.path().join("log/jobmanager.log")).unwrap()
}

#[test]
fn a_task_manager_with_the_wrong_certificates_is_refused_and_both_sides_say_why() {
    let dir = certificates();
    let cluster = Cluster::start_with(1, 1, &strs(&internal(dir.path(), "server", "cluster")));
    let before = jobmanager_log(&cluster).len();
    for (name, settings, said_there, said_here) in [
        (
            "stranger",
            internal(dir.path(), "stranger", "cluster"),
            "alert",
            "UnknownIssuer",
        ),
        (
            "distrustful",
            internal(dir.path(), "server", "strangers"),
            "UnknownIssuer",
            "UnknownCA",
        ),
        (
            "stale",
            internal(dir.path(), "stale", "cluster"),
            "alert",
            "xpired",
        ),
        (
            "clear",
            Vec::new(),
            "the peer speaks TLS, and this process does not",
            "does not speak TLS",
        ),
    ] {
        let output = task_manager(&cluster, name, &settings);
        let said = text(&output);
        assert!(
            !output.status.success() && said.contains(said_there),
            "{name}: {said}"
        );
        let log = jobmanager_log(&cluster)[before..].to_owned();
        assert!(
            log.contains("a connection was refused") && log.contains(said_here),
            "{name}: {log}"
        );
        assert_eq!(task_managers(&cluster), 1, "{name}");
    }
    // And the other way round: who speaks TLS, at a cluster that does not.
    let clear = Cluster::start(1, 1);
    let output = task_manager(&clear, "tls", &internal(dir.path(), "server", "cluster"));
    assert!(
        !output.status.success() && text(&output).contains("speak TLS"),
        "{}",
        text(&output)
    );
    let log = jobmanager_log(&clear);
    assert!(
        log.contains("the peer speaks TLS, and this process does not"),
        "{log}"
    );
    // Both clusters go on.
    [cluster, clear].iter().for_each(runs_a_job);
}

fn runs_a_job(cluster: &Cluster) {
    let out = cluster.path().join("out");
    finished(
        cluster,
        cluster.run(&[], "numbered", &[out.to_str().unwrap(), "1000", "4000"]),
    );
    check_numbers(&out, 1_000);
}

#[test]
fn https_is_spoken_to_who_believes_the_authority_and_shows_what_is_asked_for() {
    let dir = certificates();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let mut cluster = Cluster::not_started();
    let of_client = [
        ("HURTIG_CERTIFICATE_FILE".to_owned(), file("client.pem")),
        ("HURTIG_KEY_FILE".to_owned(), file("client.key")),
    ];
    cluster.environment = of_client.to_vec();
    let mut settings = rest(dir.path());
    settings.push("-Dsecurity.ssl.rest.authentication-enabled=true".to_owned());
    cluster.begin(1, 1, &strs(&settings));
    let address = cluster.known()["rest"].as_str().unwrap().to_owned();
    assert!(address.starts_with("https://127.0.0.1:"), "{address}");
    let said = |args: &[&str], client: bool| {
        let mut command = cluster.command(&["list", "--rest"]);
        if !client {
            command
                .env_remove("HURTIG_CERTIFICATE_FILE")
                .env_remove("HURTIG_KEY_FILE");
        }
        let output = command.args(args).output().unwrap();
        (output.status.code(), text(&output))
    };
    let authority = format!("--ca-file={}", file("rest-authority.pem"));
    let (code, text) = said(&[&address, &authority], true);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = said(&[&address], true);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("--ca-file"), "{text}");
    let wrong = format!("--ca-file={}", file("cluster.pem"));
    let (code, text) = said(&[&address, &wrong], true);
    assert!(
        code != Some(0) && text.contains("UnknownIssuer") && text.contains("--ca-file"),
        "{text}"
    );
    let (code, text) = said(&[&address, &authority], false);
    assert!(code != Some(0) && text.contains("does not answer"), "{text}");
    let stranger = [
        format!("--certificate-file={}", file("stranger.pem")),
        format!("--key-file={}", file("stranger.key")),
    ];
    let (code, text) = said(&[&address, &authority, &stranger[0], &stranger[1]], false);
    assert!(code != Some(0) && text.contains("does not answer"), "{text}");
    let (code, text) = said(&[&address.replace("https", "http")], true);
    assert!(code != Some(0) && text.contains("does not answer"), "{text}");
    runs_a_job(&cluster);
}

#[test]
fn a_process_that_cannot_have_tls_does_not_start() {
    let dir = certificates();
    let refused = |settings: &[String]| {
        let cluster = Cluster::not_started();
        let storage = format!("--storage-dir={}", cluster.path().join("storage").display());
        let mut command = cluster.command(&["jobmanager", "--port=0", "--rest-port=0", &storage]);
        let output = command.args(settings).output().unwrap();
        assert!(!output.status.success());
        text(&output)
    };
    let said = refused(&["-Dsecurity.ssl.internal.enabled=true".to_owned()]);
    assert!(
        said.contains("needs `security.ssl.internal.certificate`"),
        "{said}"
    );
    let said = refused(&["-Dsecurity.ssl.rest.enabled=true".to_owned()]);
    assert!(said.contains("needs `security.ssl.rest.certificate`"), "{said}");
    let mut settings = rest(dir.path());
    settings[2] = format!(
        "-Dsecurity.ssl.rest.key={}",
        dir.path().join("client.key").display()
    );
    let said = refused(&settings);
    assert!(said.contains("security.ssl.rest"), "{said}");
    let key: PathBuf = dir.path().join("server.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = refused(&internal(dir.path(), "server", "cluster"));
    assert!(said.contains("chmod 600"), "{said}");
}
