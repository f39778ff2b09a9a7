//! Keyed operators over a store ask it for the state of many records at once, however few a call processes.
#![allow(clippy::unwrap_used, reason = "a test stops where its helpers find nothing")]

use hurtig_core::time::ManualClock;
use hurtig_core::{Batch, Result};
use hurtig_dataflow::key::ByValue;
use hurtig_dataflow::operator::*;
use hurtig_dataflow::operators::KeyedFold;
use hurtig_state::store::{ByteStore, ByteStoreFactory, ModelFactory, Run, StateId, StoreFile, StoreView};
use hurtig_state::{CacheMemory, ScratchDir, StateBackend, StoreBackend};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Look-ups of one key, and of many.
#[derive(Debug, Default)]
struct LookUps {
    single: AtomicUsize,
    several: AtomicUsize,
}

impl LookUps {
    fn take(&self) -> (usize, usize) {
        let take = |count: &AtomicUsize| count.swap(0, Ordering::Relaxed);
        (take(&self.single), take(&self.several))
    }
}

#[derive(Default)]
struct Counting(Arc<LookUps>);

impl ByteStoreFactory for Counting {
    fn create(&self, dir: &Path) -> Result<Arc<dyn ByteStore>> {
        Ok(Arc::new(Counted(ModelFactory.create(dir)?, self.0.clone())))
    }

    fn restore(&self, checkpoint: &Path, dir: &Path) -> Result<Arc<dyn ByteStore>> {
        Ok(Arc::new(Counted(
            ModelFactory.restore(checkpoint, dir)?,
            self.0.clone(),
        )))
    }
}

struct Counted(Arc<dyn ByteStore>, Arc<LookUps>);

impl ByteStore for Counted {
    fn open_state(&self, name: &str) -> Result<StateId> {
        self.0.open_state(name)
    }

    fn state_names(&self) -> Vec<String> {
        self.0.state_names()
    }

    fn get(&self, state: StateId, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        self.1.single.fetch_add(1, Ordering::Relaxed);
        self.0.get(state, key, value)
    }

    fn multi_get(
        &self,
        state: StateId,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        self.1.several.fetch_add(1, Ordering::Relaxed);
        self.0.multi_get(state, keys, found)
    }

    fn write(&self, state: StateId, run: &Run<'_>) -> Result<()> {
        self.0.write(state, run)
    }

    fn delete_range(&self, state: StateId, range: Range<&[u8]>) -> Result<()> {
        self.0.delete_range(state, range)
    }

    fn scan(
        &self,
        state: StateId,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.0.scan(state, prefix, visit)
    }

    fn view(&self) -> Result<Box<dyn StoreView + '_>> {
        self.0.view()
    }

    fn checkpoint(&self, dir: &Path) -> Result<Vec<StoreFile>> {
        self.0.checkpoint(dir)
    }

    fn memory_used(&self) -> usize {
        self.0.memory_used()
    }
}

/// Hands over a batch of keys in calls with fuel for ten records; what came out.
fn process(
    operator: &mut impl Operator<u64, u64>,
    services: &Services,
    keys: impl Iterator<Item = u64>,
) -> Vec<u64> {
    let mut input = Batch::from_records(keys.collect());
    let mut out = Collector::with_limit(10_000);
    while !input.is_empty() {
        let left = input.len();
        let mut budget = Budget::new(10);
        operator
            .process(&mut input, services.cx(), &mut out, &mut budget)
            .unwrap();
        assert!(left - input.len() <= 10, "more than the fuel allows");
        assert!(input.len() < left, "a call that does nothing");
    }
    out.batch().drain(usize::MAX).collect()
}

#[test]
fn state_is_asked_for_at_once_however_few_records_a_call_processes() {
    let factory = Counting::default();
    let look_ups = factory.0.clone();
    let dir = tempfile::tempdir().unwrap();
    let root = ScratchDir::in_dir(dir.path()).unwrap();
    // Room for some 2,700 keys.
    let backend = StoreBackend::new(Arc::new(factory), root, CacheMemory::new(100_000));
    let side = SideOutputs::default();
    let services = Services::new(SubtaskInfo::single("count"), ManualClock::new(), side)
        .keeping_state_in(StateBackend::Store(backend));
    let mut count = KeyedFold::new(
        Arc::new(ByValue::new(|n: &u64| *n)),
        Arc::new(|| 0_u64),
        Arc::new(|_: &u64, acc: &mut u64, _: &u64| {
            *acc += 1;
            *acc
        }),
    );
    count.open(&mut OpenContext::new(&services, None)).unwrap();

    // Ten times what memory has room for, and then all of it once more.
    let (first, second) = (0..10, 0..10);
    for batch in first {
        let keys = batch * 2_000..(batch + 1) * 2_000;
        assert!(
            process(&mut count, &services, keys)
                .iter()
                .all(|&count| count == 1)
        );
    }
    look_ups.take();
    for batch in second {
        let keys = batch * 2_000..(batch + 1) * 2_000;
        assert!(
            process(&mut count, &services, keys)
                .iter()
                .all(|&count| count == 2)
        );
    }
    let (single, several) = look_ups.take();
    // 512 records at a time, and more once that turns out to be quick, for which a quarter of the memory has room.
    assert!(several <= 40, "{several} look-ups of several keys");
    assert!(single <= 100, "{single} look-ups of one key");
}
