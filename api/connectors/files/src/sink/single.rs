//! [`SingleFileSink`]: one file, complete at the end of the job.

use super::encode::{CsvEncoder, Encoder, FormatEncoder, JsonLinesEncoder, LineEncoder};
use super::output::{Output, create_folder, is_special};
use hurtig_core::ids::CheckpointId;
use hurtig_core::{Batch, Error, Result};
use hurtig_dataflow::operator::{CheckpointEvent, Cx, OpenContext};
use hurtig_dataflow::sink::{Sink, SinkWriter};
use hurtig_state::{OperatorSnapshot, Redistribution};
use std::fs;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// Name of the snapshot's section: the length of the file that the snapshot covers.
const LENGTH: &str = "single-file-length";

/// Writes one file, which appears under its name when the job has ended: for bounded jobs, with
/// parallelism 1. Until then it is `.<name>.inprogress` beside it, which is deleted when the job is
/// cancelled or fails. The folder is created if need be. A link stays a link, and what it points to is
/// replaced; a pipe or a device (`/dev/stdout`) is written to as the records come.
///
/// A restore on the same machine goes on at the length that the snapshot saw, so that each record is
/// in the file once. An existing file that is not empty is refused unless [`Self::overwrite`] allows
/// it; it stays as it was until the new one is complete.
///
/// ```
/// use hurtig_connector_files::SingleFileSink;
/// use hurtig_dataflow::sink::Sink;
/// use std::fmt::Write;
///
/// let sink = SingleFileSink::format("/tmp/hurtig-doc/counts.tsv", |(word, n): &(String, u64), line: &mut String| {
///     let _ = write!(line, "{word}\t{n}");
/// });
/// sink.validate().unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct SingleFileSink<E> {
    encoder: E,
    path: PathBuf,
    overwrite: bool,
}

impl SingleFileSink<LineEncoder> {
    /// One line a record, as its `Display` says.
    pub fn lines(path: impl Into<PathBuf>) -> Self {
        Self::with_encoder(LineEncoder, path)
    }

    /// One CSV record each, with a header.
    pub fn csv(path: impl Into<PathBuf>) -> SingleFileSink<CsvEncoder> {
        SingleFileSink::with_encoder(CsvEncoder::default(), path)
    }

    /// One JSON value a line.
    pub fn json_lines(path: impl Into<PathBuf>) -> SingleFileSink<JsonLinesEncoder> {
        SingleFileSink::with_encoder(JsonLinesEncoder, path)
    }

    /// One line a record, as `format` writes it; the line end is added.
    pub fn format<T, F>(path: impl Into<PathBuf>, format: F) -> SingleFileSink<FormatEncoder<F>>
    where
        F: Fn(&T, &mut String) + Clone + Send + Sync + 'static,
    {
        SingleFileSink::with_encoder(FormatEncoder(format), path)
    }
}

impl<E> SingleFileSink<E> {
    /// A format of your own.
    pub fn with_encoder(encoder: E, path: impl Into<PathBuf>) -> Self {
        Self {
            encoder,
            path: path.into(),
            overwrite: false,
        }
    }

    /// Whether an existing file may be replaced (not by default).
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }
}

impl SingleFileSink<CsvEncoder> {
    /// Whether the file begins with the names of the columns (true by default).
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

fn check(path: &Path, overwrite: bool) -> Result<()> {
    let shown = path.display();
    if path.file_name().is_none() {
        return Err(Error::user(format!("output file '{shown}' has no file name")));
    }
    match fs::metadata(path) {
        Err(_) => Ok(()),
        Ok(about) if about.is_dir() => Err(Error::user(format!(
            "output file '{shown}' is a folder; name a file"
        ))),
        Ok(about) if about.len() > 0 && !overwrite => {
            let text = "name another one, or allow it to be replaced with overwrite(true)";
            Err(Error::user(format!(
                "output file '{shown}' exists and is not empty; {text}"
            )))
        }
        Ok(_) => Ok(()),
    }
}

impl<T: Send + 'static, E: Encoder<T>> Sink<T> for SingleFileSink<E> {
    fn validate(&self) -> Result<()> {
        check(&self.path, self.overwrite)
    }

    fn parallelism_limit(&self) -> Option<u32> {
        Some(1)
    }

    fn blocking(&self) -> bool {
        is_special(&self.path)
    }

    fn writer(&self) -> Box<dyn SinkWriter<T>> {
        Box::new(SingleWriter {
            sink: self.clone(),
            output: None,
            prepared: None,
            committed: None,
            takes_checkpoints: false,
            record: PhantomData,
        })
    }
}

struct SingleWriter<T, E> {
    sink: SingleFileSink<E>,
    output: Option<Output>,
    /// The length at the last barrier.
    prepared: Option<(CheckpointId, u64)>,
    /// The length that a restore would go on with.
    committed: Option<u64>,
    takes_checkpoints: bool,
    record: PhantomData<fn(T)>,
}

impl<T: Send, E: Encoder<T>> SinkWriter<T> for SingleWriter<T, E> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let path = &self.sink.path;
        if ctx.info().parallelism > 1 {
            let text = format!(
                "output file '{}' can be written by one subtask only",
                path.display()
            );
            return Err(Error::user(format!(
                "{text}; set the sink's parallelism to 1, or use FileSink"
            )));
        }
        let ours = ctx.info().attempt > 0 || ctx.restored().is_some();
        check(path, self.sink.overwrite || ours)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            create_folder(folder)?;
        }
        self.takes_checkpoints = ctx.takes_checkpoints();
        let lengths = ctx
            .restored()
            .map_or(Ok(Vec::new()), |snapshot| snapshot.operator::<u64>(LENGTH))?;
        self.output = Some(match lengths.first() {
            Some(&length) => Output::resume_any(path.clone(), length)?,
            None => Output::create(path.clone())?,
        });
        Ok(())
    }

    fn write(&mut self, batch: &mut Batch<T>, _cx: Cx<'_>) -> Result<()> {
        let Some(output) = &mut self.output else {
            return Err(Error::internal("a sink was written to before it was opened"));
        };
        let first = output.length() == 0;
        self.sink
            .encoder
            .encode(batch.records(), first, &mut output.buffer)?;
        batch.clear();
        output.write_if_full()
    }

    fn flush(&mut self) -> Result<()> {
        self.output.as_mut().map_or(Ok(()), Output::flush)
    }

    fn before_barrier(&mut self, id: CheckpointId) -> Result<()> {
        let Some(output) = &mut self.output else {
            return Ok(());
        };
        output.sync()?;
        self.prepared = Some((id, output.length()));
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        // Otherwise a cancelled job would delete what the snapshot tells the next one to go on with.
        self.output.iter_mut().for_each(Output::keep);
        let lengths: Vec<u64> = self.output.iter().map(Output::length).collect();
        snapshot.put_operator(LENGTH, Redistribution::Split, &lengths)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<()> {
        if let (CheckpointEvent::Completed(done), Some((id, length))) = (event, self.prepared)
            && done == id
        {
            self.committed = Some(length);
        }
        Ok(())
    }

    /// The file is shown when a restore could not take anything back.
    fn uncommitted(&self) -> bool {
        let length = self.output.as_ref().map(Output::length);
        self.takes_checkpoints && length.is_some() && length != self.committed
    }

    fn close(&mut self) -> Result<()> {
        self.output.take().map_or(Ok(()), Output::finish)
    }
}
