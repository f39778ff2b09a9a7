//! [`RocksStore`]: states as column families.

use crate::error::{Result, RocksError};
use crate::expiry::FilterSlot;
use crate::files;
use crate::options::Tuning;
use hurtig_core::error::Result as CoreResult;
use hurtig_state::store::{ByteStore, ExpiryFilter, Op, Run, StateId, StoreFile, StoreView};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BoundColumnFamily, DBRawIteratorWithThreadMode, DBWithThreadMode, IngestExternalFileOptions,
    MultiThreaded, Options, SnapshotWithThreadMode, SstFileWriter, WriteBatch, properties,
};
use std::fs;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

pub(crate) type Db = DBWithThreadMode<MultiThreaded>;

/// Stands before the names of states, since RocksDB has a family `default` of its own.
const STATE: &str = "state.";
/// Stands there before the names of states that expire, or once did.
const EXPIRING: &str = "expiring.";
/// A state that begins to expire is moved in files of about this size.
const MOVED_FILE_BYTES: usize = 64 << 20;
/// Where runs become files before RocksDB takes them in.
const RUNS: &str = "runs";
/// A RocksDB in a directory of its own, without a log.
///
/// Families are flushed one by one, so a checkpoint would not be a cut if it met a write: writes hold
/// `cut` shared, a checkpoint holds it alone.
pub(crate) struct RocksStore {
    pub(crate) db: Db,
    dir: PathBuf,
    pub(crate) tuning: Tuning,
    /// The family of each state by its number.
    families: RwLock<Vec<Family>>,
    cut: RwLock<()>,
    runs: AtomicU64,
}

/// The family of a state.
struct Family {
    name: String,
    /// Who tells what of it has expired.
    filter: FilterSlot,
    /// Whether it may have had entries at some time.
    written: AtomicBool,
}

impl Family {
    /// One that was there when the store was opened, with entries or not.
    fn found(name: String) -> Self {
        Self {
            name,
            filter: FilterSlot::default(),
            written: AtomicBool::new(true),
        }
    }

    /// One without entries.
    fn unwritten(name: String) -> Self {
        Self {
            written: AtomicBool::new(false),
            ..Self::found(name)
        }
    }

    /// Its options, with those of all families.
    fn options(&self, options: &Options) -> Options {
        match self.name.starts_with(EXPIRING) {
            true => self.filter.options(options),
            false => options.clone(),
        }
    }
}

impl RocksStore {
    /// Opens what is in `dir`: nothing, or the files of a checkpoint.
    pub(crate) fn open(dir: &Path, tuning: Tuning) -> Result<Self> {
        let failed = || RocksError::rocks("open a store", dir);
        let known = match fs::exists(dir.join("CURRENT")) {
            Ok(true) => Db::list_cf(&tuning.options, dir).map_err(failed())?,
            _ => Vec::new(),
        };
        let own = |name: &String| name.starts_with(STATE) || name.starts_with(EXPIRING);
        let families: Vec<_> = known.into_iter().filter(own).map(Family::found).collect();
        let with_options = families
            .iter()
            .map(|family| (family.name.as_str(), family.options(&tuning.options)));
        let default = (rocksdb::DEFAULT_COLUMN_FAMILY_NAME, tuning.options.clone());
        let all = with_options.chain([default]);
        let db = Db::open_cf_with_opts(&tuning.options, dir, all).map_err(failed())?;
        let runs = dir.join(RUNS);
        fs::create_dir(&runs).map_err(RocksError::io("create the directory", &runs))?;
        Ok(Self {
            db,
            dir: dir.into(),
            tuning,
            families: RwLock::new(families),
            cut: RwLock::new(()),
            runs: AtomicU64::new(0),
        })
    }

    pub(crate) fn failed(&self, doing: &'static str) -> impl FnOnce(rocksdb::Error) -> RocksError + '_ {
        RocksError::rocks(doing, &self.dir)
    }

    pub(crate) fn family(&self, state: StateId) -> Result<Arc<BoundColumnFamily<'_>>> {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        let found = families
            .get(state.index())
            .and_then(|family| self.db.cf_handle(&family.name));
        found.ok_or_else(|| RocksError::NoState {
            path: self.dir.clone(),
            index: state.index(),
        })
    }

    /// The family of a state that is about to be written to.
    fn family_to_write(&self, state: StateId) -> Result<Arc<BoundColumnFamily<'_>>> {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(family) = families.get(state.index()) {
            family.written.store(true, Ordering::Release);
        }
        drop(families);
        self.family(state)
    }

    /// Holds checkpoints back while something is written.
    fn writing(&self) -> RwLockReadGuard<'_, ()> {
        self.cut.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_run(&self, state: StateId, run: &Run<'_>) -> Result<()> {
        let family = self.family_to_write(state)?;
        let mut batch = WriteBatch::with_capacity_bytes(run.bytes() + 16 * run.len());
        for (key, op) in run.iter() {
            match op {
                Op::Put(value) => batch.put_cf(&family, key, value),
                Op::Delete => batch.delete_cf(&family, key),
            }
        }
        let _writing = self.writing();
        self.db
            .write_opt(batch, &self.tuning.write)
            .map_err(self.failed("write"))
    }

    fn ingest_run(&self, state: StateId, run: &Run<'_>) -> Result<()> {
        if run.is_empty() {
            return Ok(());
        }
        self.ingest_file(&self.family_to_write(state)?, |table| write_run(table, run))
    }

    /// Has RocksDB take in a file, with what `fill` puts into it.
    fn ingest_file(
        &self,
        family: &Arc<BoundColumnFamily<'_>>,
        fill: impl FnOnce(&mut SstFileWriter<'_>) -> Result<(), rocksdb::Error>,
    ) -> Result<()> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let file = self.dir.join(RUNS).join(format!("{number}.sst"));
        let ingested = write_table(&self.tuning.taken_in, &file, fill).and_then(|()| {
            let mut options = IngestExternalFileOptions::default();
            options.set_move_files(true);
            let _writing = self.writing();
            self.db
                .ingest_external_file_cf_opts(family, &options, vec![&file])
        });
        if ingested.is_err() {
            // The failure at hand says more than one to clean up behind it.
            let _ = fs::remove_file(&file);
        }
        ingested.map_err(self.failed("ingest a run"))
    }

    fn scan_prefix(
        &self,
        state: StateId,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut options = (self.tuning.scan)();
        options.set_iterate_range(rocksdb::PrefixRange(prefix));
        let entries = self.db.raw_iterator_cf_opt(&self.family(state)?, options);
        self.visit_prefix(entries, prefix, visit)
    }

    fn visit_prefix(
        &self,
        mut entries: DBRawIteratorWithThreadMode<'_, Db>,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        entries.seek(prefix);
        visit_all(&mut entries, visit);
        entries.status().map_err(self.failed("scan"))
    }

    fn create_family(&self, kind: &str, name: &str) -> Result<Family> {
        let family = Family::unwritten(family_name(kind, name));
        let _writing = self.writing();
        let made = self
            .db
            .create_cf(&family.name, &family.options(&self.tuning.options));
        made.map_err(self.failed("create a state"))?;
        Ok(family)
    }

    /// Moves a state into a family whose compactions drop what has expired. A family's options cannot be changed.
    fn move_family(&self, from: &Family, name: &str) -> Result<Family> {
        let to = self.create_family(EXPIRING, name)?;
        to.written
            .store(from.written.load(Ordering::Acquire), Ordering::Release);
        let handle = |family: &Family| {
            self.db
                .cf_handle(&family.name)
                .ok_or_else(|| RocksError::NoState {
                    path: self.dir.clone(),
                    index: 0,
                })
        };
        let (old, new) = (handle(from)?, handle(&to)?);
        let mut entries = self.db.raw_iterator_cf_opt(&old, (self.tuning.scan)());
        entries.seek_to_first();
        while entries.valid() {
            self.ingest_file(&new, |table| move_some(&mut entries, table))?;
        }
        entries.status().map_err(self.failed("scan"))?;
        drop((entries, old));
        self.db.drop_cf(&from.name).map_err(self.failed("move a state"))?;
        Ok(to)
    }

    /// Compacts all of a state.
    #[cfg(test)]
    pub(crate) fn compact(&self, state: StateId) {
        let family = self.family(state).ok();
        family.inspect(|family| self.db.compact_range_cf(family, None::<&[u8]>, None::<&[u8]>));
    }

    fn make_checkpoint(&self, dir: &Path) -> Result<Vec<StoreFile>> {
        match fs::exists(dir) {
            Ok(false) => {}
            Ok(true) => {
                return Err(RocksError::Exists {
                    doing: "make a checkpoint",
                    path: dir.into(),
                });
            }
            Err(error) => return Err(RocksError::io("make a checkpoint in", dir)(error)),
        }
        let _alone = self.cut.write().unwrap_or_else(PoisonError::into_inner);
        let failed = || RocksError::rocks("make a checkpoint", dir);
        let made = Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(dir))
            .map_err(failed())
            .and_then(|()| files::checkpoint_files(dir));
        files::or_remove(made, dir)
    }
}

/// A snapshot of all families.
struct RocksView<'a> {
    store: &'a RocksStore,
    snapshot: SnapshotWithThreadMode<'a, Db>,
}

impl StoreView for RocksView<'_> {
    fn scan(
        &self,
        state: StateId,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> CoreResult<()> {
        let mut options = (self.store.tuning.scan)();
        options.set_iterate_range(rocksdb::PrefixRange(prefix));
        let family = self.store.family(state)?;
        let entries = self.snapshot.raw_iterator_cf_opt(&family, options);
        Ok(self.store.visit_prefix(entries, prefix, visit)?)
    }
}

/// Writes a new table file.
fn write_table(
    options: &Options,
    file: &Path,
    fill: impl FnOnce(&mut SstFileWriter<'_>) -> Result<(), rocksdb::Error>,
) -> Result<(), rocksdb::Error> {
    let mut table = SstFileWriter::create(options);
    table.open(file)?;
    fill(&mut table)?;
    table.finish()
}

fn write_run(table: &mut SstFileWriter<'_>, run: &Run<'_>) -> Result<(), rocksdb::Error> {
    for (key, op) in run.iter() {
        match op {
            Op::Put(value) => table.put(key, value)?,
            Op::Delete => table.delete(key)?,
        }
    }
    Ok(())
}

/// Writes entries until the table has the size of one.
fn move_some(
    entries: &mut DBRawIteratorWithThreadMode<'_, Db>,
    table: &mut SstFileWriter<'_>,
) -> Result<(), rocksdb::Error> {
    let mut bytes = 0;
    while let Some((key, value)) = entries.item().filter(|_| bytes < MOVED_FILE_BYTES) {
        table.put(key, value)?;
        bytes += key.len() + value.len();
        entries.next();
    }
    Ok(())
}

fn visit_all(
    entries: &mut DBRawIteratorWithThreadMode<'_, Db>,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) {
    while let Some((key, value)) = entries.item() {
        if visit(key, value).is_break() {
            return;
        }
        entries.next();
    }
}

/// The family of a state's name. RocksDB's names end at a zero byte, so that is written otherwise.
fn family_name(kind: &str, name: &str) -> String {
    format!("{kind}{}", name.replace('%', "%25").replace('\0', "%00"))
}

/// The state's name of a family.
fn state_name(family: &str) -> String {
    let name = [STATE, EXPIRING]
        .iter()
        .find_map(|kind| family.strip_prefix(kind));
    let name = name.unwrap_or(family);
    name.replace("%00", "\0").replace("%25", "%")
}

/// The number of a state, in whichever kind of family it is. An operator has few states.
fn find_state(families: &[Family], name: &str) -> Option<usize> {
    let named = [STATE, EXPIRING].map(|kind| family_name(kind, name));
    families.iter().position(|family| named.contains(&family.name))
}

impl ByteStore for RocksStore {
    fn open_state(&self, name: &str) -> CoreResult<StateId> {
        let mut families = self.families.write().unwrap_or_else(PoisonError::into_inner);
        let index = match find_state(&families, name) {
            Some(index) => index,
            None => {
                families.push(self.create_family(STATE, name)?);
                families.len() - 1
            }
        };
        Ok(StateId::new(index as u32))
    }

    fn open_expiring_state(&self, name: &str, filter: Arc<dyn ExpiryFilter>) -> CoreResult<StateId> {
        let mut families = self.families.write().unwrap_or_else(PoisonError::into_inner);
        let index = match find_state(&families, name) {
            Some(index) => index,
            None => {
                families.push(self.create_family(EXPIRING, name)?);
                families.len() - 1
            }
        };
        if families[index].name.starts_with(STATE) {
            families[index] = self.move_family(&families[index], name)?;
        }
        families[index].filter.set(filter);
        Ok(StateId::new(index as u32))
    }

    fn state_names(&self) -> Vec<String> {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = families.iter().map(|family| state_name(&family.name)).collect();
        names.sort();
        names
    }

    fn get(&self, state: StateId, key: &[u8], value: &mut Vec<u8>) -> CoreResult<bool> {
        value.clear();
        let family = self.family(state)?;
        let found = self.db.get_pinned_cf_opt(&family, key, &self.tuning.read);
        let found = found.map_err(self.failed("read"))?;
        value.extend_from_slice(found.as_deref().unwrap_or_default());
        Ok(found.is_some())
    }

    fn is_unwritten(&self, state: StateId) -> bool {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        let family = families.get(state.index());
        family.is_some_and(|family| !family.written.load(Ordering::Acquire))
    }

    fn multi_get(
        &self,
        state: StateId,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, Option<&[u8]>),
    ) -> CoreResult<()> {
        Ok(self.read_many(state, keys, found)?)
    }

    fn write(&self, state: StateId, run: &Run<'_>) -> CoreResult<()> {
        Ok(self.write_run(state, run)?)
    }

    fn ingest(&self, state: StateId, run: &Run<'_>) -> CoreResult<()> {
        Ok(self.ingest_run(state, run)?)
    }

    fn delete_range(&self, state: StateId, range: Range<&[u8]>) -> CoreResult<()> {
        if range.is_empty() {
            return Ok(());
        }
        let family = self.family(state)?;
        let _writing = self.writing();
        let deleted = self
            .db
            .delete_range_cf_opt(&family, range.start, range.end, &self.tuning.write);
        Ok(deleted.map_err(self.failed("delete a range"))?)
    }

    fn scan(
        &self,
        state: StateId,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> CoreResult<()> {
        Ok(self.scan_prefix(state, prefix, visit)?)
    }

    fn view(&self) -> CoreResult<Box<dyn StoreView + '_>> {
        let snapshot = self.db.snapshot();
        Ok(Box::new(RocksView {
            store: self,
            snapshot,
        }))
    }

    fn checkpoint(&self, dir: &Path) -> CoreResult<Vec<StoreFile>> {
        Ok(self.make_checkpoint(dir)?)
    }

    fn memory_used(&self) -> usize {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        let property = |family: &Family, name| {
            let family = self.db.cf_handle(&family.name)?;
            self.db.property_int_value_cf(&family, name).ok().flatten()
        };
        let names = [
            properties::SIZE_ALL_MEM_TABLES,
            properties::ESTIMATE_TABLE_READERS_MEM,
        ];
        let all = families
            .iter()
            .flat_map(|family| names.map(|name| property(family, name)));
        all.flatten().sum::<u64>() as usize
    }

    fn check(&self) -> CoreResult<()> {
        let count = self.db.property_int_value(properties::BACKGROUND_ERRORS);
        match count.map_err(self.failed("ask for errors"))?.unwrap_or(0) {
            0 => Ok(()),
            count => Err(RocksError::Background {
                path: self.dir.clone(),
                count,
            }
            .into()),
        }
    }
}

impl Drop for RocksStore {
    fn drop(&mut self) {
        self.db.cancel_all_background_work(true);
    }
}
