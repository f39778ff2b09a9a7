use crate::testing::{Drive, read_all, write};
use crate::{FileSource, Malformed};
use hurtig_core::str::Str;
use hurtig_dataflow::source::{Source, SplitEnumerator};
use proptest::prelude::*;
use serde::Deserialize;
use std::io::Write;
use std::path::Path;

fn started<T>(source: &impl Source<T>) -> Box<dyn SplitEnumerator> {
    let mut deal = source.enumerator().unwrap();
    deal.start(1).unwrap();
    deal
}

/// The lines of `text` by the definition: pieces between LFs, a CR before one, or at the
/// very end, belonging to the line end.
fn naive_lines(text: &[u8]) -> Vec<String> {
    let pieces = naive_pieces(text).into_iter();
    pieces
        .map(|line| String::from_utf8(line.to_vec()).unwrap())
        .collect()
}

fn naive_pieces(text: &[u8]) -> Vec<&[u8]> {
    let mut pieces: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    if pieces.last().is_some_and(|last| last.is_empty()) {
        pieces.pop();
    }
    let stripped = pieces
        .into_iter()
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    stripped.collect()
}

fn strings(lines: Vec<Str>) -> Vec<String> {
    lines.into_iter().map(String::from).collect()
}

fn gz(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

const TRICKY: &str = "first\r\n\nthird is a line of more than 22 bytes\n\r\n\r\rä€𝄞\n𝄞 also longer than twenty-two bytes 𝄞\n\n\nno end";

#[test]
fn any_split_size_gives_the_same_lines() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("a", TRICKY.to_owned()),
        ("b", format!("{TRICKY}\n")),
        ("c", "\n".repeat(5)),
        ("d", String::new()),
        ("e", format!("{TRICKY}\r")),
        ("f", format!("{TRICKY}\n\r")),
    ] {
        write(dir.path(), name, &text);
        for split in 1..=text.len() as u64 + 2 {
            for block in [1, 2, 7, 64] {
                let source = FileSource::lines(dir.path().join(name))
                    .split_bytes(split)
                    .block_bytes(block);
                let lines = strings(read_all(&source).unwrap());
                assert_eq!(
                    lines,
                    naive_lines(text.as_bytes()),
                    "{name} in splits of {split}, blocks of {block}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn any_text_in_any_splits(text in "([a-c]{0,30}|\r|\n|\r\n|é|𝄞){0,40}", split in 1u64..90, block in 1usize..70) {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "f", &text);
        let source = FileSource::lines(dir.path()).split_bytes(split).block_bytes(block);
        prop_assert_eq!(strings(read_all(&source).unwrap()), naive_lines(text.as_bytes()));
    }

    /// Whatever the bytes, every byte is in one line or one malformed record, and nothing fails.
    #[test]
    fn any_bytes_in_any_splits(text in prop::collection::vec(prop_oneof![1 => Just(b'\n'), 1 => Just(b'\r'), 3 => Just(b'a'), 1 => any::<u8>()], 0..60),
                               split in 1u64..70, block in 1usize..70, longest in 1usize..20) {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "f", &text);
        let source = FileSource::lines(dir.path()).split_bytes(split).block_bytes(block).max_record_bytes(longest).malformed();
        let got: Vec<Option<String>> =
            read_all(&source).unwrap().into_iter().map(|record| record.ok().map(String::from)).collect();
        let want: Vec<Option<String>> = naive_pieces(&text).into_iter()
            .map(|line| String::from_utf8(line.to_vec()).ok().filter(|line| line.len() <= longest))
            .collect();
        prop_assert_eq!(got, want);
    }
}

/// Stops `source` behind every single call, restores it from the snapshot, once more from a snapshot
/// that is taken one call later, and reads the rest.
fn assert_restores_everywhere<T: PartialEq + std::fmt::Debug>(source: &impl Source<T>) {
    let whole = read_all(source).unwrap();
    for stop in 0.. {
        let (mut deal, mut drive, mut got) = (started(source), Drive::new(source, 2, None), Vec::new());
        for _ in 0..stop {
            got.extend(drive.turn(&mut *deal).unwrap());
        }
        let finished = drive.finished;
        for calls in [1, usize::MAX] {
            drive = Drive::new(source, 2, Some(&drive.snapshot()));
            for _ in 0..calls {
                got.extend(drive.turn(&mut *deal).unwrap());
                if drive.finished {
                    break;
                }
            }
        }
        assert_eq!(got, whole, "restored after {stop} calls");
        if finished {
            return;
        }
    }
}

#[test]
fn a_restore_behind_any_call_goes_on_exactly() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "plain.txt",
        format!("{TRICKY}\n{}\nend", "x".repeat(100)),
    );
    write(dir.path(), "packed.txt.gz", gz(TRICKY.as_bytes()));
    write(
        dir.path(),
        "packed.txt.zst",
        zstd::encode_all(TRICKY.as_bytes(), 1).unwrap(),
    );
    let lines = FileSource::lines(dir.path())
        .split_bytes(40)
        .block_bytes(16)
        .max_record_bytes(70);
    assert_restores_everywhere(&lines.clone().malformed());
    assert_restores_everywhere(&lines);
    write(
        dir.path(),
        "t.csv",
        "\n\nk,n\na,1\n\n\"b\nc\",2\nd\n\"open\nmore,3\n",
    );
    let csv = FileSource::csv::<(String, i32)>(dir.path().join("t.csv")).block_bytes(4);
    assert_restores_everywhere(&csv.clone().malformed());
    assert_restores_everywhere(&csv.one_record_per_line().split_bytes(6).malformed());
}

#[test]
fn compressed_files_of_several_members() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "a.gz",
        [gz(b"one\ntw"), gz(b"o\n"), gz(b"three")].concat(),
    );
    let frames = [&b"fo"[..], b"ur\nfive"].map(|part| zstd::encode_all(part, 1).unwrap());
    write(dir.path(), "b.ZST", frames.concat());
    let source = FileSource::lines(dir.path()).split_bytes(1);
    assert_eq!(
        strings(read_all(&source).unwrap()),
        ["one", "two", "three", "four", "five"]
    );
}

#[test]
fn a_damaged_archive_fails_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let whole = gz("line\n".repeat(1_000).as_bytes());
    write(dir.path(), "cut.gz", &whole[..whole.len() / 2]);
    let error = read_all(&FileSource::lines(dir.path())).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot decompress input file '"),
        "{error}"
    );
    assert!(error.to_string().contains("cut.gz' behind byte "), "{error}");
}

#[derive(Debug, Deserialize, PartialEq)]
struct Reading {
    sensor: Str,
    value: f64,
}

fn reading(sensor: &str, value: f64) -> Reading {
    Reading {
        sensor: sensor.into(),
        value,
    }
}

/// Good records, and offset, beginning of the reason and text of the others.
fn sorted_out<T>(records: Vec<Result<T, Malformed>>) -> (Vec<T>, Vec<(u64, String, String)>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for record in records {
        match record {
            Ok(record) => good.push(record),
            Err(m) => bad.push((
                m.offset,
                m.reason.split(':').next().unwrap().to_owned(),
                m.line.to_string(),
            )),
        }
    }
    (good, bad)
}

fn bad(offset: u64, reason: &str, line: &str) -> (u64, String, String) {
    (offset, reason.to_owned(), line.to_owned())
}

#[test]
fn csv_by_header_names_with_malformed_records_between() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        b"\xef\xbb\xbfvalue,sensor\r\n1.5,a\r\n\r\nx,b\n2,\"c\nd\"\n3\n4,\xff\n5,e,f\n6,g\n7,\"h\n8,i\n";
    write(dir.path(), "t.csv", text);
    let source = FileSource::csv::<Reading>(dir.path().join("t.csv")).block_bytes(5);
    let (good, malformed) = sorted_out(read_all(&source.clone().malformed()).unwrap());
    assert_eq!(
        good,
        [
            reading("a", 1.5),
            reading("c\nd", 2.0),
            reading("g", 6.0),
            reading("i", 8.0)
        ]
    );
    let at = |needle: &[u8]| text.windows(needle.len()).position(|w| w == needle).unwrap() as u64;
    assert_eq!(
        malformed,
        [
            bad(at(b"x,b"), "not the expected CSV", "x,b"),
            bad(at(b"3\n"), "1 fields where the header has 2", "3"),
            bad(at(b"4,"), "not the expected CSV", "4,\u{fffd}"),
            bad(at(b"5,e"), "3 fields where the header has 2", "5,e,f"),
            bad(at(b"7,"), "a quoted field does not end", "7,\"h"),
        ]
    );
    assert_eq!(read_all(&source).unwrap(), good, "the other form skips them");
}

#[test]
fn csv_in_any_splits_when_records_are_lines() {
    let dir = tempfile::tempdir().unwrap();
    let text = "sensor;value\r\na;1\n\"b;b\";2\nopen \";3\n\"c;4\nd;5";
    write(dir.path(), "t.csv", text);
    let want = [
        reading("a", 1.0),
        reading("b;b", 2.0),
        reading("open \"", 3.0),
        reading("d", 5.0),
    ];
    for split in 1..text.len() as u64 + 2 {
        let source = FileSource::csv::<Reading>(dir.path())
            .delimiter(b';')
            .one_record_per_line()
            .split_bytes(split);
        assert_eq!(read_all(&source).unwrap(), want, "in splits of {split}");
        let (_, malformed) = sorted_out(read_all(&source.malformed()).unwrap());
        assert_eq!(malformed, [bad(35, "a quoted field does not end", "\"c;4")]);
    }
}

#[test]
fn csv_without_header_by_position_and_headers_of_each_file() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "bare", "\u{feff}a,1\nb,2");
    let bare = FileSource::csv::<(String, i64)>(dir.path()).header(false);
    assert_eq!(
        read_all(&bare).unwrap(),
        [("a".to_owned(), 1), ("b".to_owned(), 2)]
    );
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "1.csv", "sensor,value\na,1\n");
    write(dir.path(), "2.csv", "value,sensor\n2,b\n");
    write(dir.path(), "3.csv", "sensor,value\n");
    write(dir.path(), "4.csv", "");
    write(dir.path(), "5.csv.gz", gz(b"value,sensor\n3,c\n"));
    let named = FileSource::csv::<Reading>(dir.path());
    assert_eq!(
        read_all(&named).unwrap(),
        [reading("a", 1.0), reading("b", 2.0), reading("c", 3.0)]
    );
    assert!(named.delimiter(b'"').validate().is_err());
}

#[cfg(unix)]
#[test]
fn csv_with_a_header_comes_through_a_pipe_once() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe.csv");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let path = pipe.clone();
    let writer = std::thread::spawn(move || std::fs::write(path, "value,sensor\n1,a\n2,b\n"));
    let found = read_all(&FileSource::csv::<Reading>(&pipe)).unwrap();
    assert_eq!(found, [reading("a", 1.0), reading("b", 2.0)]);
    writer.join().unwrap().unwrap();
}

#[test]
fn json_lines_with_malformed_records_between() {
    let dir = tempfile::tempdir().unwrap();
    let good = r#"{"sensor":"a","value":1,"extra":[]}"#;
    let text = format!(
        "\u{feff}{good}\n \t\r\n{{\"sensor\":1}}\n{good} x\n[\n{good}\r\n{}{{\"sensor\":\"b\",\"value\":2}}",
        ""
    );
    write(dir.path(), "t.jsonl", &text);
    write(dir.path(), "u.jsonl", b"{\"sensor\":\"\xff\",\"value\":1}\n");
    let source = FileSource::json_lines::<Reading>(dir.path());
    assert_eq!(
        read_all(&source).unwrap(),
        [reading("a", 1.0), reading("a", 1.0), reading("b", 2.0)]
    );
    let (_, malformed) = sorted_out(read_all(&source.malformed()).unwrap());
    assert_eq!(malformed.len(), 4);
    assert!(
        malformed
            .iter()
            .all(|(_, reason, _)| reason == "not the expected JSON"),
        "{malformed:?}"
    );
    assert_eq!(malformed[2].2, "[");
}

#[test]
fn lines_too_long_or_not_utf8_are_malformed() {
    let dir = tempfile::tempdir().unwrap();
    let long = "y".repeat(5_000);
    let text = [
        b"a\n\xc3(\n".as_slice(),
        long.as_bytes(),
        b"\r\nb\n",
        long.as_bytes(),
    ]
    .concat();
    write(dir.path(), "t", &text);
    // Two blocks of 2,503 bytes end between the CR and the LF.
    for block in [3, 100, 2_503, 10_000] {
        let source = FileSource::lines(dir.path())
            .max_record_bytes(4_999)
            .block_bytes(block)
            .malformed();
        let (good, malformed) = sorted_out(read_all(&source).unwrap());
        assert_eq!(strings(good), ["a", "b"]);
        let reason = "longer than 4999 bytes (source.max-record-bytes)";
        let start = &long[..1_024];
        assert_eq!(
            malformed,
            [
                bad(2, "not UTF-8", "\u{fffd}("),
                bad(5, reason, start),
                bad(5_009, reason, start)
            ]
        );
        let exact = FileSource::lines(dir.path())
            .max_record_bytes(5_000)
            .block_bytes(block);
        assert_eq!(read_all(&exact).unwrap().len(), 4);
    }
}

#[test]
fn a_quote_that_stays_open_costs_one_line_also_beyond_the_longest_record() {
    let dir = tempfile::tempdir().unwrap();
    let rest: String = (0..50).map(|i| format!("s{i},{i}\n")).collect();
    write(dir.path(), "t.csv", format!("sensor,value\n\"open,1\n{rest}"));
    let source = FileSource::csv::<Reading>(dir.path())
        .max_record_bytes(40)
        .block_bytes(16);
    let (good, malformed) = sorted_out(read_all(&source.malformed()).unwrap());
    assert_eq!(good.len(), 50);
    assert_eq!(
        malformed,
        [bad(
            13,
            "longer than 40 bytes (source.max-record-bytes)",
            "\"open,1"
        )]
    );
}

#[test]
fn a_line_of_many_blocks_is_read_whole_and_in_bounded_calls() {
    let dir = tempfile::tempdir().unwrap();
    let huge = "z".repeat(3 * 1024 * 1024 + 17);
    write(dir.path(), "t", format!("a\n{huge}\nb"));
    let source = FileSource::lines(dir.path()).block_bytes(64 * 1024);
    let (mut deal, mut drive) = (started(&source), Drive::new(&source, 1_000, None));
    let (mut lines, mut calls) = (Vec::new(), 0);
    while !drive.finished {
        lines.extend(drive.turn(&mut *deal).unwrap());
        calls += 1;
    }
    assert_eq!(strings(lines), ["a", &huge, "b"]);
    assert!(calls > 48, "one block a call, not the line at once");
}

#[test]
fn splits_are_numbered_and_a_reader_without_one_waits() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", "1\n");
    write(dir.path(), "b", "2\n");
    let source = FileSource::lines(dir.path()).continuous(std::time::Duration::from_secs(1));
    let (mut deal, mut drive) = (started(&source), Drive::new(&source, 10, None));
    let mut seen = Vec::new();
    for _ in 0..20 {
        let lines = drive.turn(&mut *deal).unwrap();
        seen.extend(
            lines
                .into_iter()
                .map(|line| (drive.reader.current_split(), line.to_string())),
        );
    }
    assert_eq!(seen.len(), 2);
    assert!(seen[0].0 < seen[1].0 && !drive.finished);
    write(dir.path(), "c", "3\n");
    let lines: Vec<Str> = (0..3).flat_map(|_| drive.turn(&mut *deal).unwrap()).collect();
    assert_eq!(lines, ["3"]);
}

#[test]
fn long_lines_share_their_block_and_short_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "t", format!("short\n{}\n", "l".repeat(200)));
    let lines = read_all(&FileSource::lines(dir.path())).unwrap();
    assert!(lines[0].is_inline());
    assert!(lines[1].held_bytes() > 200_000, "the block that was read");
}

#[test]
fn a_file_that_vanishes_fails_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "gone", "x");
    let source = FileSource::lines(dir.path());
    let (mut deal, mut drive) = (started(&source), Drive::new(&source, 1, None));
    std::fs::remove_file(Path::new(&dir.path().join("gone"))).unwrap();
    let error = drive.turn(&mut *deal).unwrap_err();
    assert!(
        error.to_string().starts_with("cannot read input file '"),
        "{error}"
    );
}
