//! What a sink does in its database: staged rows, transactions and their ledger.
//!
//! A transaction of a sink is a row of `hurtig_transactions`. It is `open` while rows are staged, `prepared` from the
//! barrier of a checkpoint on, and `committed` with the rows in their table. Ids grow and are never given again, so a
//! transaction whose row is gone was committed long ago.

use crate::cell::Cell;
use hurtig_core::ids::{CheckpointId, random_number};
use hurtig_core::{Error, Result};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Committed transactions of a sink that stay in the ledger, for whoever looks into it.
const LEDGER_LENGTH: i64 = 10_000;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS hurtig_database (id INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS hurtig_transactions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        sink TEXT NOT NULL,
        subtask INTEGER NOT NULL,
        checkpoint INTEGER,
        state TEXT NOT NULL,
        statement TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS hurtig_transactions_of_sink ON hurtig_transactions (sink, state);
    CREATE TABLE IF NOT EXISTS hurtig_staged (
        transaction_id INTEGER NOT NULL,
        part INTEGER NOT NULL,
        rows BLOB NOT NULL,
        PRIMARY KEY (transaction_id, part));
";

/// Rows with one transaction of a sink.
pub(crate) type Rows = [Vec<Cell>];

/// Whose transaction it is.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) sink: String,
    pub(crate) subtask: u32,
    pub(crate) parallelism: u32,
}

impl Owner {
    /// The first subtask also answers for those of a job that had more.
    pub(crate) fn owns(&self, subtask: u32) -> bool {
        subtask == self.subtask || (self.subtask == 0 && subtask >= self.parallelism)
    }
}

/// A connection to a database with a sink's tables.
pub(crate) struct Database {
    connection: Connection,
    path: PathBuf,
    /// A random number that was given to the database when it was first used.
    pub(crate) id: i64,
}

/// An error of the database, by whose fault it is.
fn failed(doing: &str, path: &Path) -> impl Fn(rusqlite::Error) -> Error + use<> {
    use rusqlite::ErrorCode::{ConstraintViolation, DatabaseBusy, TypeMismatch};
    let message = format!("cannot {doing} database '{}'", path.display());
    move |error| {
        match error.sqlite_error_code() {
        Some(ConstraintViolation | TypeMismatch) => Error::user(format!(
            "{message}: a row is refused by a constraint; let the table accept it, or say what happens with on_conflict"
        ))
        .because(error),
        Some(DatabaseBusy) => Error::external(
            format!("{message}: others wrote for longer than busy_timeout"),
            error,
        ),
        Some(rusqlite::ErrorCode::Unknown) => Error::user(message.clone()).because(error),
        _ => Error::external(message.clone(), error),
    }
    }
}

impl Database {
    pub(crate) fn open(path: &Path, busy_timeout: Duration) -> Result<Self> {
        let open = || {
            let mut connection = Connection::open(path)?;
            connection.busy_timeout(busy_timeout)?;
            // Fails where the file system does not know how, or others are using the database for the first time too;
            // it then works as it is, and writers wait for readers.
            let _ = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
            let id = identity(&mut connection)?;
            Ok((connection, id))
        };
        let (connection, id) = open().map_err(failed("open", path))?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            id,
        })
    }

    fn failed(&self, doing: &str) -> impl Fn(rusqlite::Error) -> Error + use<> {
        failed(doing, &self.path)
    }

    /// Runs statements of the program.
    pub(crate) fn setup(&self, sql: &str) -> Result<()> {
        let done = self.connection.execute_batch(sql);
        done.map_err(self.failed("run the setup of"))
    }

    /// Sees that a statement could run.
    pub(crate) fn check(&self, statement: &str) -> Result<()> {
        let prepared = self.connection.prepare(statement).map(drop);
        prepared.map_err(self.failed(&format!("run {statement} in")))
    }

    /// Begins a transaction of the database. What it changes, and what was changed before, is on the disk when it
    /// has ended if it is `durable`; otherwise it survives the process and not the machine.
    fn begin(&mut self, durable: bool) -> rusqlite::Result<Transaction<'_>> {
        let how = if durable { "FULL" } else { "NORMAL" };
        self.connection.pragma_update(None, "synchronous", how)?;
        self.connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
    }

    /// Inserts rows at once.
    pub(crate) fn insert(&mut self, statement: &str, rows: &Rows) -> Result<()> {
        let failed = self.failed("insert into");
        let mut insert = || {
            let transaction = self.begin(true)?;
            insert_rows(&transaction, statement, rows)?;
            transaction.commit()
        };
        insert().map_err(failed)
    }

    /// Stages rows in the open transaction, which is begun if there is none; returns it.
    pub(crate) fn stage(&mut self, staging: &Staging<'_>, rows: &Rows) -> Result<i64> {
        let encoded = rmp_serde::to_vec_named(rows);
        let encoded = encoded.map_err(|e| Error::internal("cannot encode staged rows").because(e))?;
        let failed = self.failed("stage rows in");
        let mut stage = || {
            let transaction = self.begin(false)?;
            let id = match staging.open {
                Some(id) => id,
                None => {
                    transaction.execute(
                        "INSERT INTO hurtig_transactions (sink, subtask, state, statement) VALUES (?1, ?2, 'open', ?3)",
                        params![staging.owner.sink, staging.owner.subtask, staging.statement],
                    )?;
                    transaction.last_insert_rowid()
                }
            };
            transaction.execute(
                "INSERT INTO hurtig_staged (transaction_id, part, rows) VALUES (?1, ?2, ?3)",
                params![id, staging.part, encoded],
            )?;
            transaction.commit()?;
            Ok(id)
        };
        stage().map_err(failed)
    }

    /// Makes an open transaction durable: only its commit is left.
    pub(crate) fn prepare(&mut self, id: i64, checkpoint: CheckpointId) -> Result<()> {
        let failed = self.failed("prepare rows in");
        let number = checkpoint.0.cast_signed();
        let mut prepare = || {
            let transaction = self.begin(true)?;
            let changed = transaction.execute(
                "UPDATE hurtig_transactions SET state = 'prepared', checkpoint = ?2 WHERE id = ?1 AND state = 'open'",
                params![id, number],
            )?;
            transaction.commit()?;
            Ok(changed)
        };
        match prepare().map_err(failed)? {
            1 => Ok(()),
            _ => Err(self.lost(
                id,
                "was deleted while it was written; another job uses this database with the same uid",
            )),
        }
    }

    /// Commits transactions, those that are not.
    pub(crate) fn commit(&mut self, owner: &Owner, ids: &[i64]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let failed = self.failed("commit to");
        let transaction = self.begin(true).map_err(&failed)?;
        let mut strange = None;
        for id in ids {
            match commit_one(&transaction, *id).map_err(&failed)? {
                Commit::Done => {}
                Commit::Impossible(why) => strange = strange.or(Some((*id, why))),
            }
        }
        if let Some((id, why)) = strange {
            drop(transaction);
            return Err(self.lost(id, why));
        }
        let prune = "DELETE FROM hurtig_transactions WHERE sink = ?1 AND state = 'committed' AND id < ?2";
        let oldest = ids.iter().max().map_or(0, |id| id - LEDGER_LENGTH);
        transaction
            .execute(prune, params![owner.sink, oldest])
            .map_err(&failed)?;
        transaction.commit().map_err(&failed)
    }

    fn lost(&self, id: i64, why: &str) -> Error {
        Error::user(format!(
            "transaction {id} of database '{}' cannot be committed: it {why}",
            self.path.display()
        ))
    }

    /// Says that a checkpoint was taken with another database.
    pub(crate) fn another(&self) -> Error {
        Error::user(format!(
            "database '{}' is not the one that the checkpoint counts on: rows that are staged there would be lost",
            self.path.display()
        ))
    }

    /// Deletes open transactions that nobody will prepare, and if told so prepared ones but for `promised`.
    pub(crate) fn clean(&mut self, owner: &Owner, discard: bool, promised: &[i64]) -> Result<()> {
        let failed = self.failed("delete staged rows from");
        let mut clean = || {
            let transaction = self.begin(false)?;
            for (id, subtask, state) in unfinished(&transaction, &owner.sink)? {
                let discarded = discard && !promised.contains(&id);
                if !owner.owns(subtask) || (state == "prepared" && !discarded) {
                    continue;
                }
                transaction.execute("DELETE FROM hurtig_staged WHERE transaction_id = ?1", [id])?;
                let forget = match state.as_str() {
                    "open" => "DELETE FROM hurtig_transactions WHERE id = ?1",
                    _ => "UPDATE hurtig_transactions SET state = 'discarded' WHERE id = ?1",
                };
                transaction.execute(forget, [id])?;
            }
            transaction.commit()
        };
        clean().map_err(failed)
    }
}

/// What rows are staged for.
pub(crate) struct Staging<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) statement: &'a str,
    /// The open transaction, if there is one.
    pub(crate) open: Option<i64>,
    /// How many parts it has.
    pub(crate) part: u32,
}

/// Creates the tables, and finds or gives the database's number.
fn identity(connection: &mut Connection) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    let there = transaction.query_row("SELECT id FROM hurtig_database", [], |row| row.get(0));
    let id = match there.optional()? {
        Some(id) => id,
        None => {
            let id = random_number().cast_signed();
            transaction.execute("INSERT INTO hurtig_database (id) VALUES (?1)", [id])?;
            id
        }
    };
    transaction.commit()?;
    Ok(id)
}

fn unfinished(transaction: &Transaction<'_>, sink: &str) -> rusqlite::Result<Vec<(i64, u32, String)>> {
    let query = "SELECT id, subtask, state FROM hurtig_transactions WHERE sink = ?1 AND state IN ('open', 'prepared')";
    let mut statement = transaction.prepare_cached(query)?;
    let rows = statement.query_map([sink], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}

fn insert_rows(transaction: &Transaction<'_>, statement: &str, rows: &Rows) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(statement)?;
    for row in rows {
        insert.execute(rusqlite::params_from_iter(row))?;
    }
    Ok(())
}

enum Commit {
    /// Now, or before.
    Done,
    Impossible(&'static str),
}

fn commit_one(transaction: &Transaction<'_>, id: i64) -> rusqlite::Result<Commit> {
    let query = "SELECT state, statement FROM hurtig_transactions WHERE id = ?1";
    let found = transaction.query_row(query, [id], |row| Ok((row.get(0)?, row.get(1)?)));
    let Some((state, statement)): Option<(String, String)> = found.optional()? else {
        let highest = "SELECT seq FROM sqlite_sequence WHERE name = 'hurtig_transactions'";
        let highest: Option<i64> = transaction.query_row(highest, [], |row| row.get(0)).optional()?;
        return Ok(match highest {
            Some(highest) if id <= highest => Commit::Done,
            _ => Commit::Impossible("is newer than the database, which was perhaps restored from a backup"),
        });
    };
    match state.as_str() {
        "committed" => return Ok(Commit::Done),
        "prepared" => {}
        "discarded" => {
            return Ok(Commit::Impossible(
                "was discarded by a job with discard_staged(true)",
            ));
        }
        _ => return Ok(Commit::Impossible("was not prepared")),
    }
    let mut staged = transaction
        .prepare_cached("SELECT rows FROM hurtig_staged WHERE transaction_id = ?1 ORDER BY part")?;
    let mut parts = staged.query([id])?;
    while let Some(part) = parts.next()? {
        let bytes = part.get_ref(0)?.as_blob()?;
        let Ok(rows) = rmp_serde::from_slice::<Vec<Vec<Cell>>>(bytes) else {
            return Ok(Commit::Impossible("has staged rows that cannot be read"));
        };
        insert_rows(transaction, &statement, &rows)?;
    }
    transaction.execute("DELETE FROM hurtig_staged WHERE transaction_id = ?1", [id])?;
    transaction.execute(
        "UPDATE hurtig_transactions SET state = 'committed' WHERE id = ?1",
        [id],
    )?;
    Ok(Commit::Done)
}
