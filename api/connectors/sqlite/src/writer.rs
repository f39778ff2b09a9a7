//! One subtask's writer.

use crate::cell::Cell;
use crate::database::{Database, Owner, Staging};
use crate::sink::SqliteSink;
use hurtig_core::ids::CheckpointId;
use hurtig_core::{Batch, Error, Result};
use hurtig_dataflow::operator::{CheckpointEvent, Cx, OpenContext};
use hurtig_dataflow::sink::SinkWriter;
use hurtig_state::{OperatorSnapshot, Redistribution};
use serde::{Deserialize, Serialize};

/// Name of the snapshot's section. Everybody gets the whole of it, and takes what has its number.
const PREPARED: &str = "sqlite-transactions";
/// Rows and their bytes that are collected before they go into the database.
const BUFFER_ROWS: usize = 4_096;
const BUFFER_BYTES: usize = 1024 * 1024;

/// A transaction that a checkpoint will commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Prepared {
    database: i64,
    transaction: i64,
    subtask: u32,
    checkpoint: CheckpointId,
}

pub(crate) struct SqliteWriter<T> {
    sink: SqliteSink<T>,
    statement: String,
    owner: Owner,
    database: Option<Database>,
    takes_checkpoints: bool,
    rows: Vec<Vec<Cell>>,
    bytes: usize,
    /// The open transaction and its number of parts.
    open: Option<(i64, u32)>,
    prepared: Vec<Prepared>,
}

impl<T> SqliteWriter<T> {
    pub(crate) fn new(sink: SqliteSink<T>) -> Self {
        Self {
            statement: sink.statement(),
            sink,
            owner: Owner {
                sink: String::new(),
                subtask: 0,
                parallelism: 1,
            },
            database: None,
            takes_checkpoints: false,
            rows: Vec::new(),
            bytes: 0,
            open: None,
            prepared: Vec::new(),
        }
    }

    /// Commits what the restored snapshot promises, and deletes what nobody will commit.
    fn recover(&mut self, database: &mut Database, ctx: &OpenContext<'_>) -> Result<()> {
        let promised = ctx
            .restored()
            .map_or(Ok(Vec::new()), |state| state.operator::<Prepared>(PREPARED))?;
        let own: Vec<_> = promised
            .iter()
            .filter(|prepared| self.owner.owns(prepared.subtask))
            .collect();
        if own.iter().any(|prepared| prepared.database != database.id) {
            return Err(database.another());
        }
        let mut ids: Vec<i64> = own.iter().map(|prepared| prepared.transaction).collect();
        ids.sort_unstable();
        database.commit(&self.owner, &ids)?;
        database.clean(&self.owner, self.sink.discard_staged, &ids)
    }

    /// Hands the collected rows to the database.
    fn hand_over(&mut self) -> Result<()> {
        let Some(database) = &mut self.database else {
            return Err(Error::internal("a sink was written to before it was opened"));
        };
        if self.rows.is_empty() {
            return Ok(());
        }
        if self.takes_checkpoints {
            let staging = Staging {
                owner: &self.owner,
                statement: &self.statement,
                open: self.open.map(|(id, _)| id),
                part: self.open.map_or(0, |(_, parts)| parts),
            };
            let id = database.stage(&staging, &self.rows)?;
            self.open = Some((id, staging.part + 1));
        } else {
            database.insert(&self.statement, &self.rows)?;
        }
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }
}

impl<T: Send> SinkWriter<T> for SqliteWriter<T> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let info = ctx.info();
        let name = info.uid.as_deref().unwrap_or(&info.operator);
        self.owner = Owner {
            sink: name.to_owned(),
            subtask: info.index,
            parallelism: info.parallelism,
        };
        self.takes_checkpoints = ctx.takes_checkpoints();
        let mut database = self.sink.connect()?;
        self.recover(&mut database, ctx)?;
        self.database = Some(database);
        Ok(())
    }

    fn write(&mut self, batch: &mut Batch<T>, _: Cx<'_>) -> Result<()> {
        for record in batch.records() {
            let row = self.sink.row(record);
            self.bytes += row.iter().map(Cell::bytes).sum::<usize>();
            self.rows.push(row);
        }
        batch.clear();
        if self.rows.len() >= BUFFER_ROWS || self.bytes >= BUFFER_BYTES {
            return self.hand_over();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        // Staged rows are for the next barrier: nobody sees them sooner.
        if self.takes_checkpoints {
            return Ok(());
        }
        self.hand_over()
    }

    fn before_barrier(&mut self, id: CheckpointId) -> Result<()> {
        self.hand_over()?;
        let (Some((transaction, _)), Some(database)) = (self.open.take(), &mut self.database) else {
            return Ok(());
        };
        database.prepare(transaction, id)?;
        self.prepared.push(Prepared {
            database: database.id,
            transaction,
            subtask: self.owner.subtask,
            checkpoint: id,
        });
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_operator(PREPARED, Redistribution::Union, &self.prepared)
    }

    fn on_checkpoint(&mut self, event: CheckpointEvent) -> Result<()> {
        // What was prepared for a checkpoint that was given up is committed with the next one, which holds it too.
        let CheckpointEvent::Completed(done) = event else {
            return Ok(());
        };
        let ready = self
            .prepared
            .iter()
            .filter(|prepared| prepared.checkpoint <= done);
        let ids: Vec<i64> = ready.map(|prepared| prepared.transaction).collect();
        if let Some(database) = &mut self.database {
            database.commit(&self.owner, &ids)?;
        }
        self.prepared.retain(|prepared| prepared.checkpoint > done);
        Ok(())
    }

    fn uncommitted(&self) -> bool {
        let nothing = self.rows.is_empty() && self.open.is_none() && self.prepared.is_empty();
        self.takes_checkpoints && !nothing
    }

    fn close(&mut self) -> Result<()> {
        self.flush()
    }
}
