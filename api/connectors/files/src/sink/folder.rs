//! [`FileSink`]: a folder of part files.

use super::bucket::{self, BucketAssigner, BucketBy, OneBucket};
use super::encode::{CsvEncoder, FormatEncoder, JsonLinesEncoder, LineEncoder};
use super::format::{PartFormat, Rows};
use super::names::PartNames;
use super::parts::PartWriter;
use super::rolling::RollingPolicy;
use hurtig_core::{Error, Result};
use hurtig_dataflow::sink::{Sink, SinkWriter};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Writes part files `part-<subtask>-<counter>` into a folder.
///
/// **When parts are visible.** A part is written under a hidden name and renamed when it is committed. In a job
/// that takes checkpoints, that is when a checkpoint has completed before whose barrier the part was complete,
/// which its [`RollingPolicy`] decides: each record is in the folder's visible files once, whatever fails. A job
/// that goes on from a checkpoint cuts an incomplete part to the length that the checkpoint saw and goes on with
/// it. In a job without checkpoints a part is visible when it is complete; if that job restarts from scratch, it
/// replaces the parts of its former attempts. At the end of the input every part is complete. What is renamed is
/// on the disk.
///
/// **Buckets.** Parts lie in the folder itself, or in folders below it that a [`BucketAssigner`] names.
///
/// **What is there already.** A folder that holds anything visible is refused, unless [`FileSink::overwrite`] says
/// that its part files may go. Hidden parts on which a snapshot may count (`.….pending`) stay, also those of jobs
/// that were killed; other unfinished ones (`.….inprogress`) are deleted by the next job.
///
/// ```
/// use hurtig_connector_files::{FileSink, RollingPolicy};
/// use hurtig_dataflow::sink::Sink;
/// use std::fmt::Write;
///
/// let dir = tempfile::tempdir().unwrap();
/// let lines = FileSink::lines(dir.path().join("words"));
/// let pairs = FileSink::format(dir.path().join("counts"), |(word, n): &(String, u64), line: &mut String| {
///     let _ = write!(line, "{word}\t{n}");
/// });
/// let json = FileSink::json_lines(dir.path().join("json"))
///     .overwrite(true)
///     .bucket_by(|(word, _): &(String, u64), bucket: &mut String| {
///         let _ = write!(bucket, "length={}", word.len());
///     })
///     .rolling(RollingPolicy::on_checkpoint())
///     .part_suffix(".json");
/// Sink::<String>::validate(&lines).unwrap();
/// Sink::<(String, u64)>::validate(&pairs).unwrap();
/// Sink::<(String, u64)>::validate(&json).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct FileSink<F, B = OneBucket> {
    pub(super) format: F,
    pub(super) buckets: B,
    pub(super) folder: PathBuf,
    pub(super) rolling: RollingPolicy,
    pub(super) names: PartNames,
    pub(super) overwrite: bool,
    /// By subtask the number of its first part in this job, which all attempts in this process know: what
    /// has a lower number is another job's.
    pub(super) begun: Arc<Mutex<BTreeMap<u32, u64>>>,
}

impl FileSink<Rows<LineEncoder>> {
    /// One line a record, as its `Display` says.
    pub fn lines(folder: impl Into<PathBuf>) -> Self {
        FileSink::with_encoder(LineEncoder, folder)
    }

    /// One CSV record each, with a header in every part.
    pub fn csv(folder: impl Into<PathBuf>) -> FileSink<Rows<CsvEncoder>> {
        FileSink::with_encoder(CsvEncoder::default(), folder)
    }

    /// One JSON value a line.
    pub fn json_lines(folder: impl Into<PathBuf>) -> FileSink<Rows<JsonLinesEncoder>> {
        FileSink::with_encoder(JsonLinesEncoder, folder)
    }

    /// One line a record, as `format` writes it; the line end is added.
    pub fn format<T, F>(folder: impl Into<PathBuf>, format: F) -> FileSink<Rows<FormatEncoder<F>>>
    where
        F: Fn(&T, &mut String) + Clone + Send + Sync + 'static,
    {
        FileSink::with_encoder(FormatEncoder(format), folder)
    }
}

impl<E> FileSink<Rows<E>> {
    /// A row format of your own.
    pub fn with_encoder(encoder: E, folder: impl Into<PathBuf>) -> Self {
        FileSink::new(Rows(encoder), folder, RollingPolicy::default())
    }
}

impl<F> FileSink<F> {
    /// A bulk format, such as Parquet: a part is complete at every checkpoint, whatever else the
    /// [`RollingPolicy`] says.
    pub fn bulk(format: F, folder: impl Into<PathBuf>) -> Self {
        FileSink::new(format, folder, RollingPolicy::on_checkpoint())
    }

    fn new(format: F, folder: impl Into<PathBuf>, rolling: RollingPolicy) -> Self {
        Self {
            format,
            buckets: OneBucket,
            folder: folder.into(),
            rolling,
            names: PartNames::default(),
            overwrite: false,
            begun: Arc::default(),
        }
    }
}

impl<F, B> FileSink<F, B> {
    /// When parts are complete.
    #[must_use]
    pub fn rolling(mut self, policy: RollingPolicy) -> Self {
        self.rolling = policy;
        self
    }

    /// Begins a new part when one has reached so many bytes (128 MiB by default), and otherwise as the policy
    /// says.
    #[must_use]
    pub fn part_bytes(mut self, bytes: u64) -> Self {
        self.rolling = self.rolling.part_bytes(bytes);
        self
    }

    /// What the names of parts begin with (`part` by default).
    #[must_use]
    pub fn part_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.names.prefix);
        self
    }

    /// What the names of parts end with, such as `.json` (nothing by default).
    #[must_use]
    pub fn part_suffix(mut self, suffix: &str) -> Self {
        suffix.clone_into(&mut self.names.suffix);
        self
    }

    /// Whether part files that are in the folder may be deleted (not by default). Other files stay.
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Which folder a record belongs to.
    pub fn buckets<C>(self, buckets: C) -> FileSink<F, C> {
        FileSink {
            format: self.format,
            buckets,
            folder: self.folder,
            rolling: self.rolling,
            names: self.names,
            overwrite: self.overwrite,
            begun: self.begun,
        }
    }

    /// The folder that `bucket` appends for a record.
    pub fn bucket_by<T, C>(self, bucket: C) -> FileSink<F, BucketBy<C>>
    where
        C: Fn(&T, &mut String) + Clone + Send + Sync + 'static,
    {
        self.buckets(BucketBy(bucket))
    }
}

impl<B> FileSink<Rows<CsvEncoder>, B> {
    /// Whether each part begins with the names of the columns (true by default).
    #[must_use]
    pub fn header(mut self, header: bool) -> Self {
        self.format.0.header = header;
        self
    }

    /// What separates fields (`,` by default).
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.format.0.delimiter = delimiter;
        self
    }
}

impl<T, F, B> Sink<T> for FileSink<F, B>
where
    T: Send + 'static,
    F: PartFormat<T>,
    B: BucketAssigner<T>,
{
    fn validate(&self) -> Result<()> {
        self.names.validate()?;
        self.buckets.validate()?;
        self.format.begin(0)?;
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
        Box::new(PartWriter::new(self.clone()))
    }
}

pub(super) const REMEDY: &str =
    "name another one, or allow its part files to be deleted with overwrite(true)";

/// Something that readers of the folder see. Buckets of a job that was killed before its first checkpoint hold only
/// hidden parts.
fn visible_entry(folder: &Path) -> Result<Option<String>> {
    for (name, is_folder) in super::names::entries(folder)? {
        if name.starts_with('.') {
            continue;
        }
        if !is_folder || visible_entry(&folder.join(&name))?.is_some() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

impl<F, B> FileSink<F, B> {
    /// Where a bucket's parts lie.
    ///
    /// # Errors
    /// When it is no folder below the sink's.
    pub(super) fn folder_of(&self, name: &str) -> Result<PathBuf> {
        bucket::check(name, &self.folder)?;
        Ok(self.folder.join(name))
    }
}
