//! Inputs as they come: bytes that are no text, endings of every kind, damaged archives, folders, and
//! files that change. The word count agrees with its reference, or says which file is wrong.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its input has failed"
)]

#[path = "operators/common.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod common;

use common::{Random, sorted};
use hurtig::prelude::*;
use hurtig_end_to_end::waiting::{until, wait};
use hurtig_end_to_end::{example, malformed, reference, sorted_lines};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Writes a file, with the folders above it, and returns its path.
fn file(folder: &TempDir, name: &str, content: &[u8]) -> String {
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

/// The word count and its reference say the same of `input`; `plain` is what the reference reads.
fn agrees_with(input: &str, plain: &str, what: &str) {
    let expected = reference("wordcount.py", &["--plain", "--input", plain]);
    for parallelism in ["1", "2", "4"] {
        let found = example("word_count", &["--input", input, "--parallelism", parallelism]);
        let error = String::from_utf8_lossy(&found.stderr).into_owned();
        assert!(
            found.status.success(),
            "{what}, parallelism {parallelism}: {error}"
        );
        let (lines, wanted) = (sorted_lines(&found), sorted_lines(&expected));
        let different = lines.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
        assert_eq!(different, None, "{what}, parallelism {parallelism}");
        assert_eq!(lines.len(), wanted.len(), "{what}, parallelism {parallelism}");
        assert_eq!(
            malformed(&found),
            malformed(&expected),
            "{what}, parallelism {parallelism}"
        );
    }
}

fn agrees(input: &str, what: &str) {
    agrees_with(input, input, what);
}

/// The word count fails and its message holds all `parts`.
fn fails(input: &str, parts: &[&str]) {
    for parallelism in ["1", "2"] {
        let output = example("word_count", &["--input", input, "--parallelism", parallelism]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{input} should fail");
        assert!(output.stdout.is_empty(), "{input} should write nothing");
        parts
            .iter()
            .for_each(|part| assert!(text.contains(part), "no '{part}' in: {text}"));
    }
}

/// Bytes that are text for the most part.
fn odd_bytes(random: &mut Random, length: u64) -> Vec<u8> {
    let pieces: [&[u8]; 16] = [
        b"a",
        b"b",
        b"word",
        b" ",
        b" ",
        b"\n",
        b"\n",
        b"\r\n",
        b"\r",
        b"\t",
        b"\0",
        b"\x0b",
        b"\xff",
        b"\xc3",
        "é".as_bytes(),
        "\u{2028}𝄞".as_bytes(),
    ];
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < length {
        bytes.extend_from_slice(random.one_of(&pieces));
    }
    bytes
}

#[test]
fn bytes_of_any_kind_are_words_or_malformed_lines() {
    let folder = folder();
    let mut random = Random(1);
    for n in 0..6 {
        let length = random.one_of(&[10, 1_000, 100_000]);
        let input = file(&folder, &format!("odd-{n}"), &odd_bytes(&mut random, length));
        agrees(&input, &format!("random bytes {n}"));
    }
}

#[test]
fn endings_and_empty_files_are_read_as_the_reference_reads_them() {
    let folder = folder();
    let cases: [(&str, &[u8]); 12] = [
        ("empty", b""),
        ("newline", b"\n"),
        ("crlf", b"\r\n"),
        ("cr", b"\r"),
        ("no-final-newline", b"a b\nc"),
        ("cr-at-the-end", b"a b\r"),
        ("two-crs", b"a\r\r\nb\r\n"),
        ("cr-inside", b"a\rb\nc\r\r"),
        ("nul", b"\0\0 a\0b\n\0\n"),
        ("byte-order-mark", b"\xef\xbb\xbfa b\na\n"),
        ("cut-character", b"good\n\xe2\x82\nbad \xf0\x9d\x84\n\xe2"),
        ("blank-lines", b"\n\n\n  \n\t\na\n\n"),
    ];
    for (name, content) in cases {
        agrees(&file(&folder, name, content), name);
    }
}

#[test]
fn very_long_lines_are_read_whole() {
    let folder = folder();
    agrees(
        &file(&folder, "one-word", &vec![b'x'; 3 << 20]),
        "a word of three megabytes",
    );
    let many = "word ".repeat(1 << 19) + "\nend\n";
    agrees(
        &file(&folder, "one-line", many.as_bytes()),
        "a line of half a million words",
    );
}

#[test]
fn a_line_beyond_the_bound_is_malformed_and_the_rest_is_read() {
    let folder = folder();
    let text = format!("a b\n{}\nb c\n", "x".repeat(10_000));
    let input = file(&folder, "long", text.as_bytes());
    for parallelism in ["1", "2"] {
        let output = example(
            "word_count",
            &[
                "--input",
                &input,
                "--parallelism",
                parallelism,
                "-D",
                "source.max-record-bytes=1kb",
            ],
        );
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(sorted_lines(&output), ["a\t1", "b\t2", "c\t1"]);
        assert_eq!(malformed(&output).as_deref(), Some("malformed=1"));
    }
}

/// Compresses by the machine's own tool.
fn packed(tool: &str, content: &[u8]) -> Vec<u8> {
    let mut child = Command::new(tool)
        .args(["-c", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{tool} must be installed: {error}"));
    child.stdin.take().unwrap().write_all(content).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn archives_of_one_and_of_several_members_hold_what_was_packed() {
    let mut random = Random(2);
    for (tool, ending) in [("gzip", "gz"), ("zstd", "zst")] {
        let folder = folder();
        let parts: Vec<Vec<u8>> = (0..3).map(|_| odd_bytes(&mut random, 50_000)).collect();
        let plain = file(&folder, "plain", &parts.concat());
        let one = file(&folder, &format!("one.{ending}"), &packed(tool, &parts.concat()));
        agrees_with(&one, &plain, &format!("{tool}, one member"));
        // Members may end in the middle of a line, and one may be empty.
        let members: Vec<u8> = parts
            .iter()
            .flat_map(|part| packed(tool, part))
            .chain(packed(tool, b""))
            .collect();
        let several = file(&folder, &format!("several.{ending}"), &members);
        agrees_with(&several, &plain, &format!("{tool}, several members"));
        let nothing = file(&folder, "nothing", b"");
        let empty = file(&folder, &format!("empty.{ending}"), &packed(tool, b""));
        agrees_with(&empty, &nothing, &format!("{tool}, nothing packed"));
    }
}

#[test]
fn damaged_archives_fail_with_their_names() {
    let mut random = Random(3);
    let content = odd_bytes(&mut random, 300_000);
    for (tool, ending) in [("gzip", "gz"), ("zstd", "zst")] {
        let folder = folder();
        let whole = packed(tool, &content);
        for (name, damaged) in [
            ("cut-late", whole[..whole.len() - 3].to_vec()),
            ("cut-early", whole[..whole.len() / 2].to_vec()),
            ("cut-in-the-header", whole[..3].to_vec()),
            ("no-archive", b"just some text\n".to_vec()),
            (
                "cut-member",
                [whole.clone(), whole[..whole.len() / 2].to_vec()].concat(),
            ),
        ] {
            let name = format!("{name}.{ending}");
            fails(&file(&folder, &name, &damaged), &[&name]);
        }
    }
}

#[test]
fn folders_are_read_with_all_below_them_but_what_is_hidden() {
    let folder = folder();
    for (name, content) in [
        ("a", "one two\n"),
        ("deep/er/still/b", "two three"),
        ("deep/c.txt", "three\r\nfour\r\n"),
        ("deep/empty", ""),
        ("_unfinished", "hidden\n"),
        ("deep/.secret", "hidden\n"),
        (".below/d", "hidden\n"),
        ("name with spaces, and ümläuts", "four\n"),
    ] {
        file(&folder, name, content.as_bytes());
    }
    file(&folder, "deep/e.gz", &packed("gzip", b"four five\n"));
    std::fs::create_dir(folder.path().join("nothing")).unwrap();
    let all = folder.path().display().to_string();
    agrees(&all, "a folder");
    agrees(&format!("{all}/*/*.*"), "a glob of files");
    agrees(&format!("{all}/[an]*"), "a glob with a class");
    let output = example("word_count", &["--input", &all]);
    let words = sorted_lines(&output);
    assert_eq!(words, ["five\t1", "four\t3", "one\t1", "three\t2", "two\t2"]);
    // A folder that a glob finds is a folder: what is below it is read.
    let output = example("word_count", &["--input", &format!("{all}/deep/*")]);
    assert_eq!(
        sorted_lines(&output),
        ["five\t1", "four\t2", "three\t2", "two\t1"]
    );
}

/// Rotated logs: the first file by name is the newest.
#[test]
fn files_in_any_order_of_time_lose_nothing() {
    let folder = folder();
    for hour in 0..4 {
        let line =
            |minute| format!("h - - [01/Mar/2024:0{hour}:{minute:02}:00 +0000] \"GET / HTTP/1.1\" 200 1\n");
        let log: String = (0..60).map(line).collect();
        file(&folder, &format!("access.log.{}", 3 - hour), log.as_bytes());
    }
    let input = folder.path().display().to_string();
    let wanted = sorted_lines(&reference(
        "access_log.py",
        &["hits", "--plain", "--no-late", "--input", &input],
    ));
    assert_eq!(wanted.len(), 240);
    for parallelism in ["1", "2", "4"] {
        let found = example("access_log", &["--input", &input, "--parallelism", parallelism]);
        assert_eq!(sorted_lines(&found), wanted, "parallelism {parallelism}");
    }
    // Who asks for a bound is told what it cost.
    let bounded = [
        "--input",
        &input,
        "--parallelism",
        "1",
        "--out-of-orderness-ms",
        "1000",
    ];
    let bounded = example("access_log", &bounded);
    let said = String::from_utf8_lossy(&bounded.stderr).into_owned();
    let late = said.lines().find_map(|line| line.strip_prefix("late="));
    let late: usize = late.unwrap().parse().unwrap();
    assert!(late > 0);
    assert_eq!(sorted_lines(&bounded).len() + late, 240);
}

#[test]
fn what_is_not_there_is_named() {
    let folder = folder();
    let here = folder.path().display().to_string();
    file(&folder, "a", b"a\n");
    fails(&format!("{here}/b*"), &["b*"]);
    fails(&format!("{here}/b"), &["/b", "does not exist"]);
    fails(&format!("{here}/a/b"), &["/a/b", "does not exist"]);
    std::os::unix::fs::symlink("/nowhere", folder.path().join("broken")).unwrap();
    fails(&format!("{here}/broken"), &["broken"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    // Reading another process's memory from its beginning fails for everybody, root included.
    fails("/proc/self/mem", &["/proc/self/mem"]);
}

/// Reads a folder for ever and returns the lines so far, sorted, once there are as many as expected.
async fn lines_until(handle: &hurtig::CollectHandle<Str>, seen: &mut Vec<String>, count: usize) {
    until("as many lines", async || {
        seen.extend(handle.take().iter().map(ToString::to_string));
        seen.len() >= count
    })
    .await;
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_folder_that_is_watched_brings_each_new_file_once_and_not_what_old_ones_grow_by() {
    for parallelism in [1, 2] {
        let folder = folder();
        file(&folder, "first", b"1\n2\n");
        let env = common::env(parallelism);
        let watched = FileSource::lines(folder.path()).continuous(Duration::from_millis(5));
        let lines = env.from_source(watched, Watermarks::none()).collect();
        wait(async {
            let client = env.execute_async("watch").await.unwrap();
            let mut seen = Vec::new();
            lines_until(&lines, &mut seen, 2).await;
            // A file appears in one piece when it is renamed into place.
            append(&folder.path().join("first"), "not to be read\n");
            let hidden = file(&folder, "_second", b"3\n4\n");
            std::fs::rename(hidden, folder.path().join("second")).unwrap();
            lines_until(&lines, &mut seen, 4).await;
            let hidden = file(&folder, "_third", b"5");
            std::fs::rename(hidden, folder.path().join("third")).unwrap();
            lines_until(&lines, &mut seen, 5).await;
            client.cancel().await.unwrap();
            assert!(client.result().await.is_err());
            seen.extend(lines.take().iter().map(ToString::to_string));
            assert_eq!(sorted(seen), ["1", "2", "3", "4", "5"]);
        });
    }
}
