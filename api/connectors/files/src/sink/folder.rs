//! [`FileSink`]: a folder of part files.

use super::encode::{CsvEncoder, Encoder, FormatEncoder, JsonLinesEncoder, LineEncoder};
use super::output::{Output, complete, create_folder, failed};
use hurtig_core::ids::CheckpointId;
use hurtig_core::{Batch, Error, Result};
use hurtig_dataflow::operator::{CheckpointEvent, Cx, OpenContext, SubtaskInfo};
use hurtig_dataflow::sink::{Sink, SinkWriter};
use hurtig_state::{OperatorSnapshot, Redistribution};
use serde::{Deserialize, Serialize};
use std::fs;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// Writes part files `part-<subtask>-<counter>` into a folder.
///
/// A part is written as `.part-….inprogress` and renamed when it is committed. In a job that takes
/// checkpoints, that is when the checkpoint has completed before whose barrier it was written: each record
/// is in the folder's visible files once, whatever fails. In any other job it is when the part has the size
/// of [`FileSink::part_bytes`] and at the end; a job that restarts from scratch replaces the parts of its
/// former attempts. What is renamed is on the disk; what nobody will commit is deleted.
///
/// A folder that holds anything visible is refused, unless [`FileSink::overwrite`] says that its part
/// files may go.
///
/// ```
/// use hurtig_connector_files::FileSink;
/// use hurtig_dataflow::sink::Sink;
/// use std::fmt::Write;
///
/// let dir = tempfile::tempdir().unwrap();
/// let lines = FileSink::lines(dir.path().join("words"));
/// let pairs = FileSink::format(dir.path().join("counts"), |(word, n): &(String, u64), line: &mut String| {
///     let _ = write!(line, "{word}\t{n}");
/// });
/// let json = FileSink::json_lines(dir.path().join("json")).overwrite(true);
/// Sink::<String>::validate(&lines).unwrap();
/// Sink::<(String, u64)>::validate(&pairs).unwrap();
/// Sink::<(String, u64)>::validate(&json).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct FileSink<E> {
    encoder: E,
    folder: PathBuf,
    part_bytes: u64,
    overwrite: bool,
}

/// Size at which a part is complete by default, as Flink's rolling policy has it.
const DEFAULT_PART_BYTES: u64 = 128 * 1024 * 1024;

impl FileSink<LineEncoder> {
    /// One line a record, as its `Display` says.
    pub fn lines(folder: impl Into<PathBuf>) -> Self {
        Self::with_encoder(LineEncoder, folder)
    }

    /// One CSV record each, with a header in every part.
    pub fn csv(folder: impl Into<PathBuf>) -> FileSink<CsvEncoder> {
        FileSink::with_encoder(CsvEncoder::default(), folder)
    }

    /// One JSON value a line.
    pub fn json_lines(folder: impl Into<PathBuf>) -> FileSink<JsonLinesEncoder> {
        FileSink::with_encoder(JsonLinesEncoder, folder)
    }

    /// One line a record, as `format` writes it; the line end is added.
    pub fn format<T, F>(folder: impl Into<PathBuf>, format: F) -> FileSink<FormatEncoder<F>>
    where
        F: Fn(&T, &mut String) + Clone + Send + Sync + 'static,
    {
        FileSink::with_encoder(FormatEncoder(format), folder)
    }
}

impl<E> FileSink<E> {
    /// A format of your own.
    pub fn with_encoder(encoder: E, folder: impl Into<PathBuf>) -> Self {
        Self {
            encoder,
            folder: folder.into(),
            part_bytes: DEFAULT_PART_BYTES,
            overwrite: false,
        }
    }

    /// Begins a new part when one has reached so many bytes (128 MiB by default).
    #[must_use]
    pub fn part_bytes(mut self, bytes: u64) -> Self {
        self.part_bytes = bytes;
        self
    }

    /// Whether part files that are in the folder may be deleted (not by default). Other files stay.
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }
}

impl FileSink<CsvEncoder> {
    /// Whether each part begins with the names of the columns (true by default).
    #[must_use]
    pub fn header(mut self, header: bool) -> Self {
        self.encoder.header = header;
        self
    }

    /// What separates fields (`,` by default).
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.encoder.delimiter = delimiter;
        self
    }
}

impl<T: Send + 'static, E: Encoder<T>> Sink<T> for FileSink<E> {
    fn validate(&self) -> Result<()> {
        let path = self.folder.display();
        match fs::metadata(&self.folder) {
            Err(_) => Ok(()),
            Ok(about) if !about.is_dir() => Err(Error::user(format!(
                "output folder '{path}' is a file; name a folder"
            ))),
            Ok(_) if self.overwrite => Ok(()),
            Ok(_) => match visible_entry(&self.folder)? {
                None => Ok(()),
                Some(name) => Err(Error::user(format!(
                    "output folder '{path}' is not empty: it holds '{name}'; {REMEDY}"
                ))),
            },
        }
    }

    fn writer(&self) -> Box<dyn SinkWriter<T>> {
        let sink = self.clone();
        Box::new(PartWriter {
            sink,
            prefix: String::new(),
            counter: 0,
            part: None,
            takes_checkpoints: false,
            pending: Vec::new(),
            record: PhantomData,
        })
    }
}

const REMEDY: &str = "name another one, or allow its part files to be deleted with overwrite(true)";

fn visible_entry(folder: &Path) -> Result<Option<String>> {
    let names = names(folder)?;
    Ok(names.into_iter().find(|name| !name.starts_with('.')))
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let list = || {
        let entries = fs::read_dir(folder)?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<_>>()
    };
    let message = || format!("cannot read output folder '{}'", folder.display());
    list().map_err(|e| Error::external(message(), e))
}

/// Subtask and counter of a part file, and whether it is complete.
fn parse(name: &str) -> Option<(u32, u64, bool)> {
    let hidden = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(".inprogress"));
    let (subtask, counter) = hidden.unwrap_or(name).strip_prefix("part-")?.split_once('-')?;
    Some((subtask.parse().ok()?, counter.parse().ok()?, hidden.is_none()))
}

/// Name of the snapshot's section.
const PENDING: &str = "pending-parts";

/// A complete part that no checkpoint has committed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct PendingPart {
    name: String,
    /// The checkpoint that commits it; `None` before its barrier.
    checkpoint: Option<CheckpointId>,
}

/// Writes the parts of one subtask.
struct PartWriter<T, E> {
    sink: FileSink<E>,
    /// `part-<subtask>-`.
    prefix: String,
    /// Number of the next part.
    counter: u64,
    part: Option<Output>,
    takes_checkpoints: bool,
    /// Complete parts that wait for a checkpoint.
    pending: Vec<PendingPart>,
    record: PhantomData<fn(T)>,
}

impl<T, E: Encoder<T>> PartWriter<T, E> {
    /// Whether a part is this subtask's to commit or delete. The first one also answers for subtasks of
    /// a job that had more.
    fn owns(subtask: u32, info: &SubtaskInfo) -> bool {
        subtask == info.index || (info.index == 0 && subtask >= info.parallelism)
    }

    /// Commits what the checkpoint promised, deletes what former attempts or, if that is allowed, former
    /// jobs left, and finds the first number that is free.
    fn clean(&mut self, ctx: &OpenContext<'_>) -> Result<()> {
        let restored = ctx.restored().is_some();
        let promised = ctx
            .restored()
            .map_or(Ok(Vec::new()), |state| state.operator::<PendingPart>(PENDING))?;
        let own = |name: &str| parse(name).filter(|(subtask, ..)| Self::owns(*subtask, ctx.info()));
        for part in promised.iter().filter(|part| own(&part.name).is_some()) {
            complete(&self.sink.folder.join(&part.name))?;
        }
        for name in names(&self.sink.folder)? {
            let Some((subtask, counter, complete)) = own(&name) else {
                continue;
            };
            let path = self.sink.folder.join(&name);
            if complete && restored {
                if subtask == ctx.info().index {
                    self.counter = self.counter.max(counter + 1);
                }
            } else if complete && !self.sink.overwrite && ctx.info().attempt == 0 {
                return Err(Error::user(format!(
                    "output file '{}' exists; {REMEDY}",
                    path.display()
                )));
            } else {
                fs::remove_file(&path).map_err(failed("delete", &path))?;
            }
        }
        Ok(())
    }

    /// Begins the next part.
    fn next_part(&mut self) -> Result<Output> {
        let name = format!("{}{}", self.prefix, self.counter);
        self.counter += 1;
        Output::create(self.sink.folder.join(name))
    }

    /// The part that is being written is complete.
    fn complete_part(&mut self) -> Result<()> {
        let Some(part) = self.part.take() else {
            return Ok(());
        };
        if !self.takes_checkpoints {
            return part.finish();
        }
        let target = part.prepare()?;
        let name = target.file_name().unwrap_or_default();
        self.pending.push(PendingPart {
            name: name.to_string_lossy().into_owned(),
            checkpoint: None,
        });
        Ok(())
    }
}

impl<T: Send, E: Encoder<T>> SinkWriter<T> for PartWriter<T, E> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        create_folder(&self.sink.folder)?;
        self.prefix = format!("part-{}-", ctx.info().index);
        self.takes_checkpoints = ctx.takes_checkpoints();
        self.clean(ctx)
    }

    fn write(&mut self, batch: &mut Batch<T>, _cx: Cx<'_>) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut part = match self.part.take() {
            Some(part) => part,
            None => self.next_part()?,
        };
        let first = part.length() == 0;
        self.sink
            .encoder
            .encode(batch.records(), first, &mut part.buffer)?;
        batch.clear();
        if part.length() >= self.sink.part_bytes {
            self.part = Some(part);
            return self.complete_part();
        }
        self.part.insert(part).write_if_full()
    }

    fn flush(&mut self) -> Result<()> {
        self.part.as_mut().map_or(Ok(()), Output::flush)
    }

    fn before_barrier(&mut self, id: CheckpointId) -> Result<()> {
        self.complete_part()?;
        let new = self.pending.iter_mut().filter(|part| part.checkpoint.is_none());
        new.for_each(|part| part.checkpoint = Some(id));
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        // Everybody gets the whole list, and takes what has its number.
        snapshot.put_operator(PENDING, Redistribution::Union, &self.pending)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<()> {
        // Parts of a checkpoint that was given up are committed by the next one, which holds them too.
        let CheckpointEvent::Completed(done) = event else {
            return Ok(());
        };
        let committed = |part: &PendingPart| part.checkpoint.is_some_and(|id| id <= done);
        for part in self.pending.iter().filter(|part| committed(part)) {
            complete(&self.sink.folder.join(&part.name))?;
        }
        self.pending.retain(|part| !committed(part));
        Ok(())
    }

    fn uncommitted(&self) -> bool {
        self.takes_checkpoints && (self.part.is_some() || !self.pending.is_empty())
    }

    fn close(&mut self) -> Result<()> {
        self.complete_part()
    }
}
