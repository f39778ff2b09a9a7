//! [`SqliteSink`]: which table, which columns.

use crate::cell::Cell;
use crate::database::Database;
use crate::writer::SqliteWriter;
use hurtig_core::{Error, Result};
use hurtig_dataflow::sink::{Sink, SinkWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What happens to a row that a constraint of the table refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// The job fails. It fails again when it goes on from its checkpoint, so this is for tables that accept every
    /// row, and for finding out that one does not.
    #[default]
    Fail,
    /// The row takes the place of the one that it is in conflict with: an upsert.
    Replace,
    /// The row is dropped.
    Ignore,
}

impl OnConflict {
    fn verb(self) -> &'static str {
        match self {
            OnConflict::Fail => "INSERT",
            OnConflict::Replace => "INSERT OR REPLACE",
            OnConflict::Ignore => "INSERT OR IGNORE",
        }
    }
}

/// Takes a cell from a record.
type Get<T> = Arc<dyn Fn(&T) -> Cell + Send + Sync>;

/// Writes each record as a row of a table.
///
/// **Delivery.** Exactly once in a job that takes checkpoints: rows appear when the checkpoint has completed before whose
/// barrier they came, those of a subtask in one transaction. In any other job rows are inserted as they come, and come
/// again if it restarts.
///
/// **What it needs.** The table, or [`SqliteSink::setup`] that creates it; a `uid` of the sink, by which it finds what it
/// has staged; one machine. It adds the tables `hurtig_database`, `hurtig_transactions` and `hurtig_staged` to the
/// database, and turns on the write-ahead log, with which readers and writers do not wait for each other. Writers
/// take turns: a subtask waits up to [`SqliteSink::busy_timeout`] for others and fails then.
///
/// ```
/// use hurtig_connector_sqlite::{OnConflict, SqliteSink};
/// use hurtig_dataflow::sink::Sink;
///
/// struct Count { word: String, n: i64 }
///
/// let dir = tempfile::tempdir().unwrap();
/// let sink = SqliteSink::new(dir.path().join("counts.db"), "counts")
///     .setup("CREATE TABLE IF NOT EXISTS counts (word TEXT PRIMARY KEY, n INTEGER NOT NULL)")
///     .column("word", |count: &Count| count.word.as_str().into())
///     .column("n", |count: &Count| count.n.into())
///     .on_conflict(OnConflict::Replace);
/// sink.validate().unwrap();
/// ```
pub struct SqliteSink<T> {
    pub(crate) path: PathBuf,
    table: String,
    setup: Option<String>,
    columns: Vec<(String, Get<T>)>,
    on_conflict: OnConflict,
    busy_timeout: Duration,
    pub(crate) discard_staged: bool,
}

/// How long a writer waits for others by default.
const DEFAULT_BUSY_TIMEOUT: Duration = Duration::from_secs(60);

impl<T> Clone for SqliteSink<T> {
    fn clone(&self) -> Self {
        Self {
            path: self.path.clone(),
            table: self.table.clone(),
            setup: self.setup.clone(),
            columns: self.columns.clone(),
            ..*self
        }
    }
}

impl<T> std::fmt::Debug for SqliteSink<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SqliteSink({}, {})", self.path.display(), self.statement())
    }
}

impl<T> SqliteSink<T> {
    /// Writes into `table` of the database at `path`, which is created if it does not exist.
    pub fn new(path: impl AsRef<Path>, table: &str) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            table: table.to_owned(),
            setup: None,
            columns: Vec::new(),
            on_conflict: OnConflict::default(),
            busy_timeout: DEFAULT_BUSY_TIMEOUT,
            discard_staged: false,
        }
    }

    /// Statements that run whenever a writer opens, such as `CREATE TABLE IF NOT EXISTS …`.
    #[must_use]
    pub fn setup(mut self, sql: &str) -> Self {
        self.setup = Some(sql.to_owned());
        self
    }

    /// A column, and what it has of a record.
    #[must_use]
    pub fn column(mut self, name: &str, value: impl Fn(&T) -> Cell + Send + Sync + 'static) -> Self {
        self.columns.push((name.to_owned(), Arc::new(value)));
        self
    }

    /// What happens to a row that a constraint refuses.
    #[must_use]
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }

    /// How long a writer waits for others that write (60 seconds by default).
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Whether to delete, when the job begins, rows that former jobs of this sink have staged and that the job's
    /// checkpoint does not hold (not by default). No savepoint or older checkpoint that holds them can be used
    /// then.
    #[must_use]
    pub fn discard_staged(mut self, discard: bool) -> Self {
        self.discard_staged = discard;
        self
    }

    /// The cells of a record.
    pub(crate) fn row(&self, record: &T) -> Vec<Cell> {
        self.columns.iter().map(|(_, get)| get(record)).collect()
    }

    /// The statement that inserts a row.
    pub(crate) fn statement(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|(name, _)| quoted(name)).collect();
        let places: Vec<String> = (1..=names.len()).map(|i| format!("?{i}")).collect();
        format!(
            "{} INTO {} ({}) VALUES ({})",
            self.on_conflict.verb(),
            quoted(&self.table),
            names.join(", "),
            places.join(", ")
        )
    }

    /// Opens the database and sees that a row could be inserted.
    pub(crate) fn connect(&self) -> Result<Database> {
        if self.columns.is_empty() {
            return Err(Error::user(format!(
                "the sink of table '{}' has no columns; name them with SqliteSink::column",
                self.table
            )));
        }
        let database = Database::open(&self.path, self.busy_timeout)?;
        if let Some(setup) = &self.setup {
            database.setup(setup)?;
        }
        database.check(&self.statement())?;
        Ok(database)
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl<T: Send + 'static> Sink<T> for SqliteSink<T> {
    fn validate(&self) -> Result<()> {
        self.connect().map(drop)
    }

    fn writer(&self) -> Box<dyn SinkWriter<T>> {
        Box::new(SqliteWriter::new(self.clone()))
    }

    fn blocking(&self) -> bool {
        true
    }
}
