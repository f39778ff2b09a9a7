use crate::{Compression, ParquetFormat, TimestampMillis};
use hurtig_connector_files::{FileSink, PartEncoder, PartFormat};
use hurtig_core::Batch;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::ManualClock;
use hurtig_dataflow::operator::{CheckpointEvent, OpenContext, Services, SideOutputs, SubtaskInfo};
use hurtig_dataflow::sink::Sink;
use parquet::data_type::AsBytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq)]
struct Row {
    flag: bool,
    count: u64,
    small: Option<i32>,
    ratio: f64,
    at: i64,
    name: String,
    note: Option<String>,
    raw: Vec<u8>,
}

fn format() -> ParquetFormat<Row> {
    ParquetFormat::new()
        .column("flag", |row: &Row| row.flag)
        .column("count", |row: &Row| row.count)
        .column("small", |row: &Row| row.small)
        .column("ratio", |row: &Row| row.ratio)
        .column("at", |row: &Row| TimestampMillis(row.at))
        .text("name", |row: &Row| &row.name)
        .optional_text("note", |row: &Row| row.note.as_deref())
        .bytes("raw", |row: &Row| &row.raw)
}

/// What a reader finds in a file, and how many row groups it has.
fn read(file: Vec<u8>) -> (Vec<Row>, usize) {
    let reader = SerializedFileReader::new(bytes(file)).unwrap();
    let groups = reader.num_row_groups();
    let rows = reader.get_row_iter(None).unwrap().map(|row| {
        let row = row.unwrap();
        Row {
            flag: row.get_bool(0).unwrap(),
            count: row.get_ulong(1).unwrap(),
            small: row.get_int(2).ok(),
            ratio: row.get_double(3).unwrap(),
            at: row.get_timestamp_millis(4).unwrap(),
            name: row.get_string(5).unwrap().clone(),
            note: row.get_string(6).ok().cloned(),
            raw: row.get_bytes(7).unwrap().as_bytes().to_vec(),
        }
    });
    (rows.collect(), groups)
}

fn bytes(file: Vec<u8>) -> bytes::Bytes {
    file.into()
}

fn row() -> impl Strategy<Value = Row> {
    let numbers = (
        any::<bool>(),
        any::<u64>(),
        any::<Option<i32>>(),
        -1e9..1e9f64,
        any::<i64>(),
    );
    let texts = (
        ".{0,20}",
        prop::option::of(".{0,5}"),
        prop::collection::vec(any::<u8>(), 0..9),
    );
    (numbers, texts).prop_map(|((flag, count, small, ratio, at), (name, note, raw))| Row {
        flag,
        count,
        small,
        ratio,
        at,
        name,
        note,
        raw,
    })
}

proptest! {
    #[test]
    fn a_reader_finds_what_was_written(
        rows in prop::collection::vec(row(), 0..200),
        at_once in 1..50usize,
        group in 1..20_000u64,
        codec in prop_oneof![Just(Compression::None), Just(Compression::Snappy), Just(Compression::Zstd)],
    ) {
        let mut part = format().compression(codec).row_group_bytes(group).begin(0).unwrap();
        let mut file = Vec::new();
        for some in rows.chunks(at_once) {
            part.encode(some, &mut file).unwrap();
        }
        part.finish(&mut file).unwrap();
        let (found, groups) = read(file);
        prop_assert_eq!(found, rows.clone());
        prop_assert!(groups <= rows.len());
    }
}

#[test]
fn a_row_group_is_written_when_it_is_large() {
    let row = |i: u64| Row {
        flag: true,
        count: i,
        small: None,
        ratio: 0.5,
        at: 0,
        name: "x".repeat(100),
        note: None,
        raw: Vec::new(),
    };
    let rows: Vec<Row> = (0..1_000).map(row).collect();
    let mut part = format().row_group_bytes(40_000).begin(0).unwrap();
    let mut file = Vec::new();
    let mut most = 0;
    for some in rows.chunks(10) {
        part.encode(some, &mut file).unwrap();
        most = most.max(part.buffered_bytes());
    }
    assert!(most < 40_000, "{most}");
    assert!(file.len() > 1_000, "row groups leave before the end");
    part.finish(&mut file).unwrap();
    let (found, groups) = read(file);
    assert_eq!(found, rows);
    assert!((4..8).contains(&groups), "200 KB in memory in {groups} groups");
}

#[test]
fn columns_have_names_of_their_own() {
    let said = |format: ParquetFormat<Row>| format.begin(0).unwrap_err().to_string();
    let none = said(ParquetFormat::new());
    assert_eq!(
        none,
        "a Parquet file needs columns, each with a name of its own; there are []"
    );
    let twice = said(format().column("count", |row: &Row| row.ratio));
    assert!(twice.ends_with("\"note\", \"raw\", \"count\"]"), "{twice}");
    let sink = FileSink::bulk(ParquetFormat::<Row>::new(), "/tmp/x");
    assert!(Sink::<Row>::validate(&sink).is_err(), "before the job starts");
}

#[test]
fn each_checkpoint_has_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let format = ParquetFormat::new().column("n", |n: &i64| *n);
    let sink = FileSink::bulk(format, dir.path()).part_suffix(".parquet");
    let services = Services::new(
        SubtaskInfo::single("sink"),
        ManualClock::new(),
        SideOutputs::default(),
    );
    let services = services.taking_checkpoints(true);
    let mut writer = Sink::<i64>::writer(&sink);
    writer.open(&mut OpenContext::new(&services, None)).unwrap();
    for n in 0..3 {
        let mut batch = Batch::from_records(vec![10 * n, 10 * n + 1]);
        writer.write(&mut batch, services.cx()).unwrap();
        let id = CheckpointId(n.cast_unsigned() + 1);
        writer.before_barrier(id).unwrap();
        writer.on_checkpoint(CheckpointEvent::Completed(id)).unwrap();
    }
    for n in 0..3 {
        let file = std::fs::read(dir.path().join(format!("part-0-{n}.parquet"))).unwrap();
        let reader = SerializedFileReader::new(bytes(file)).unwrap();
        let rows = reader.get_row_iter(None).unwrap();
        let rows: Vec<i64> = rows.map(|row| row.unwrap().get_long(0).unwrap()).collect();
        assert_eq!(rows, [10 * n, 10 * n + 1]);
    }
}
