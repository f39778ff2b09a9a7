//! Bucket assigners: which folder of the output a record belongs to.

use hurtig_core::time::NO_TIMESTAMP;
use hurtig_core::{Error, Result};
use jiff::Timestamp;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{Offset, TimeZone};
use std::path::{Component, Path};

/// When a record came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketTime {
    /// Its event time in milliseconds since 1970, if it has one.
    pub event_ms: Option<i64>,
    /// The wall clock in milliseconds since 1970.
    pub processing_ms: i64,
}

impl BucketTime {
    pub(super) fn new(event_ms: i64, processing_ms: i64) -> Self {
        Self {
            event_ms: (event_ms != NO_TIMESTAMP).then_some(event_ms),
            processing_ms,
        }
    }
}

/// Says which folder below the sink's a record belongs to: its bucket.
///
/// A bucket is a relative path, such as `2026-03-01--14` or `country=de/hour=14`; the empty one is the sink's folder
/// itself. Paths that would leave the folder, or be hidden in it, fail the job.
pub trait BucketAssigner<T>: Clone + Send + Sync + 'static {
    /// Whether everything belongs to the sink's folder itself.
    const ONE: bool = false;

    /// Checks what can be checked before the job starts.
    ///
    /// # Errors
    /// A setting that no record can have a bucket with.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Appends the record's bucket to `bucket`, which is empty.
    ///
    /// # Errors
    /// A record that belongs to no bucket; the job fails.
    fn assign(&mut self, record: &T, time: BucketTime, bucket: &mut String) -> Result<()>;
}

/// Everything belongs to the sink's folder itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneBucket;

impl<T> BucketAssigner<T> for OneBucket {
    const ONE: bool = true;

    fn assign(&mut self, _: &T, _: BucketTime, _: &mut String) -> Result<()> {
        Ok(())
    }
}

/// A bucket that a closure writes; see [`FileSink::bucket_by`](crate::FileSink::bucket_by).
#[derive(Clone)]
pub struct BucketBy<F>(pub(super) F);

impl<F> std::fmt::Debug for BucketBy<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BucketBy")
    }
}

impl<T, F: Fn(&T, &mut String) + Clone + Send + Sync + 'static> BucketAssigner<T> for BucketBy<F> {
    fn assign(&mut self, record: &T, _: BucketTime, bucket: &mut String) -> Result<()> {
        (self.0)(record, bucket);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Domain {
    Processing,
    Event,
}

/// A bucket for each hour, or whatever a format tells apart.
///
/// The format is strftime's: `%Y-%m-%d--%H`, Flink's `yyyy-MM-dd--HH`, unless another is given. Times are in UTC
/// unless an offset is given.
///
/// ```
/// use hurtig_connector_files::{DateTimeBuckets, FileSink};
/// use hurtig_dataflow::sink::Sink;
///
/// let hourly = FileSink::lines("/tmp/hurtig-doc/hourly").buckets(DateTimeBuckets::processing_time());
/// let daily = DateTimeBuckets::event_time().format("day=%Y-%m-%d").offset_hours(1);
/// let daily = FileSink::json_lines("/tmp/hurtig-doc/daily").buckets(daily);
/// Sink::<String>::validate(&hourly).unwrap();
/// Sink::<String>::validate(&daily).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct DateTimeBuckets {
    domain: Domain,
    format: String,
    offset: Offset,
    /// The second that was formatted last, and its bucket.
    last: Option<(i64, String)>,
}

const HOURLY: &str = "%Y-%m-%d--%H";

impl DateTimeBuckets {
    fn new(domain: Domain) -> Self {
        Self {
            domain,
            format: HOURLY.to_owned(),
            offset: Offset::UTC,
            last: None,
        }
    }

    /// By the wall clock when a record is written.
    pub fn processing_time() -> Self {
        Self::new(Domain::Processing)
    }

    /// By the time of the record. One without a time fails the job.
    pub fn event_time() -> Self {
        Self::new(Domain::Event)
    }

    /// Another format, in the words of strftime. What it tells apart below a second is not told apart.
    #[must_use]
    pub fn format(mut self, format: &str) -> Self {
        format.clone_into(&mut self.format);
        self
    }

    /// Formats times at so many hours east of Greenwich.
    ///
    /// # Panics
    /// Beyond 25 hours to either side.
    #[must_use]
    pub fn offset_hours(mut self, hours: i8) -> Self {
        self.offset = Offset::constant(hours);
        self
    }

    fn text(&self, second: i64) -> Result<String> {
        let wrong =
            |error| Error::user(format!("cannot format a time as bucket '{}'", self.format)).because(error);
        let time = Timestamp::from_second(second).map_err(wrong)?;
        let zoned = time.to_zoned(TimeZone::fixed(self.offset));
        let broken = BrokenDownTime::from(&zoned);
        broken.to_string(&self.format).map_err(wrong)
    }
}

impl<T> BucketAssigner<T> for DateTimeBuckets {
    fn validate(&self) -> Result<()> {
        check(&self.text(0)?, Path::new("."))
    }

    fn assign(&mut self, _: &T, time: BucketTime, bucket: &mut String) -> Result<()> {
        let ms = match self.domain {
            Domain::Processing => time.processing_ms,
            Domain::Event => time.event_ms.ok_or_else(|| {
                Error::user("a record without a time belongs to no bucket by event time: give the source watermarks, or use DateTimeBuckets::processing_time()")
            })?,
        };
        let second = ms.div_euclid(1_000);
        match &self.last {
            Some((last, text)) if *last == second => bucket.push_str(text),
            _ => {
                let text = self.text(second)?;
                bucket.push_str(&text);
                self.last = Some((second, text));
            }
        }
        Ok(())
    }
}

/// Refuses buckets that would leave `folder`, or be hidden in it.
pub(super) fn check(bucket: &str, folder: &Path) -> Result<()> {
    let plain = |component: Component<'_>| match component {
        Component::Normal(name) => !name.as_encoded_bytes().starts_with(b"."),
        _ => false,
    };
    let tidy = bucket.is_empty() || !(bucket.ends_with('/') || bucket.contains("//"));
    if tidy && !bucket.contains('\0') && Path::new(bucket).components().all(plain) {
        return Ok(());
    }
    Err(Error::user(format!(
        "bucket {bucket:?} is no folder below '{}': a bucket is a relative path of names that do not begin with a dot",
        folder.display()
    )))
}
