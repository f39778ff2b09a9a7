use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread::{self, ThreadId};

fn conforms(factory: &dyn ByteStoreFactory) -> std::result::Result<(), String> {
    let scratch = tempfile::tempdir().unwrap();
    let checked = catch_unwind(AssertUnwindSafe(|| conformance::check(factory, scratch.path())));
    checked.map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(_) => "panicked".into(),
    })
}

#[test]
fn the_model_conforms() {
    let scratch = tempfile::tempdir().unwrap();
    conformance::check(&ModelFactory, scratch.path());
}

/// What a [`Faulty`] store does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    KeepsDeleted,
    IngestsBelow,
    MixesStates,
    SkipsInMultiGet,
    ScansOn,
    DeletesOneMore,
    ForgetsAState,
    CallsAllShared,
    CutsStatesApart,
    OverwritesDirectories,
    ViewsWhatIsThere,
    DropsWhatLives,
    ExpiresInAnotherState,
}

const FAULTS: [Fault; 13] = [
    Fault::KeepsDeleted,
    Fault::IngestsBelow,
    Fault::MixesStates,
    Fault::SkipsInMultiGet,
    Fault::ScansOn,
    Fault::DeletesOneMore,
    Fault::ForgetsAState,
    Fault::CallsAllShared,
    Fault::CutsStatesApart,
    Fault::OverwritesDirectories,
    Fault::ViewsWhatIsThere,
    Fault::DropsWhatLives,
    Fault::ExpiresInAnotherState,
];

/// Says that everything has expired.
struct Everything;

impl ExpiryFilter for Everything {
    fn has_expired(&self, _: &[u8]) -> bool {
        true
    }
}

/// A model with a fault.
struct Faulty {
    inner: Arc<dyn ByteStore>,
    fault: Fault,
    written: Mutex<Written>,
}

/// Who has written last, and how many runs there were.
#[derive(Clone, Copy, Default)]
struct Written {
    last: Option<ThreadId>,
    runs: u64,
}

struct FaultyFactory(Fault);

impl Faulty {
    fn wrap(inner: Result<Arc<dyn ByteStore>>, fault: Fault) -> Result<Arc<dyn ByteStore>> {
        let written = Mutex::default();
        inner.map(|inner| {
            Arc::new(Self {
                inner,
                fault,
                written,
            }) as Arc<dyn ByteStore>
        })
    }
}

impl ByteStoreFactory for FaultyFactory {
    fn create(&self, dir: &Path) -> Result<Arc<dyn ByteStore>> {
        Faulty::wrap(ModelFactory.create(dir), self.0)
    }

    fn restore(&self, checkpoint: &Path, dir: &Path) -> Result<Arc<dyn ByteStore>> {
        Faulty::wrap(ModelFactory.restore(checkpoint, dir), self.0)
    }
}

impl ByteStore for Faulty {
    fn open_state(&self, name: &str) -> Result<StateId> {
        match self.fault {
            Fault::MixesStates => self
                .inner
                .open_state(&name.to_lowercase().replace("default", "a")),
            _ => self.inner.open_state(name),
        }
    }

    fn open_expiring_state(&self, name: &str, filter: Arc<dyn ExpiryFilter>) -> Result<StateId> {
        match self.fault {
            Fault::DropsWhatLives => self.inner.open_expiring_state(name, Arc::new(Everything)),
            Fault::ExpiresInAnotherState => self
                .inner
                .open_expiring_state(&format!("expiring {name}"), filter),
            _ => self.inner.open_expiring_state(name, filter),
        }
    }

    fn state_names(&self) -> Vec<String> {
        let mut names = self.inner.state_names();
        if self.fault == Fault::ForgetsAState {
            names.pop();
        }
        names
    }

    fn get(&self, state: StateId, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        self.inner.get(state, key, value)
    }

    fn multi_get(
        &self,
        state: StateId,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        self.inner.multi_get(state, keys, &mut |at, value| {
            if self.fault != Fault::SkipsInMultiGet || value.is_some() {
                found(at, value);
            }
        })
    }

    fn write(&self, state: StateId, run: &Run<'_>) -> Result<()> {
        let mut kept = RunBuilder::new();
        for (key, op) in run.iter() {
            match op {
                Op::Put(value) => kept.put(key, value),
                Op::Delete if self.fault == Fault::KeepsDeleted => {}
                Op::Delete => kept.delete(key),
            }
        }
        self.inner.write(state, &kept.sort())?;
        let mut written = self.written.lock().unwrap();
        *written = Written {
            last: Some(thread::current().id()),
            runs: written.runs + 1,
        };
        Ok(())
    }

    fn ingest(&self, state: StateId, run: &Run<'_>) -> Result<()> {
        if self.fault != Fault::IngestsBelow {
            return self.write(state, run);
        }
        let (mut fresh, mut old) = (RunBuilder::new(), Vec::new());
        for (key, op) in run.iter() {
            if let (Op::Put(value), false) = (op, self.inner.get(state, key, &mut old)?) {
                fresh.put(key, value);
            }
        }
        self.inner.write(state, &fresh.sort())
    }

    fn delete_range(&self, state: StateId, range: Range<&[u8]>) -> Result<()> {
        let end = match self.fault {
            Fault::DeletesOneMore => [range.end, &[0]].concat(),
            _ => range.end.to_vec(),
        };
        self.inner.delete_range(state, range.start..&end)
    }

    fn scan(
        &self,
        state: StateId,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.inner.scan(
            state,
            prefix,
            &mut |key, value| match (visit(key, value), self.fault) {
                (_, Fault::ScansOn) => ControlFlow::Continue(()),
                (flow, _) => flow,
            },
        )
    }

    fn view(&self) -> Result<Box<dyn StoreView + '_>> {
        match self.fault {
            Fault::ViewsWhatIsThere => Ok(Box::new(Live(self))),
            _ => self.inner.view(),
        }
    }

    fn checkpoint(&self, dir: &Path) -> Result<Vec<StoreFile>> {
        if self.fault == Fault::OverwritesDirectories && dir.exists() {
            std::fs::remove_dir_all(dir).unwrap();
        }
        if self.fault == Fault::CutsStatesApart {
            return self.checkpoint_by_state(dir);
        }
        let mut files = self.inner.checkpoint(dir)?;
        for file in &mut files {
            file.shared = self.fault == Fault::CallsAllShared;
        }
        Ok(files)
    }

    fn memory_used(&self) -> usize {
        self.inner.memory_used()
    }
}

struct Live<'a>(&'a Faulty);

impl StoreView for Live<'_> {
    fn scan(
        &self,
        state: StateId,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.0.scan(state, prefix, visit)
    }
}

impl Faulty {
    /// Reads one state, waits until a writer beside has gone on, reads the next.
    fn checkpoint_by_state(&self, dir: &Path) -> Result<Vec<StoreFile>> {
        let scratch = tempfile::tempdir().unwrap();
        let copy = ModelFactory.create(&scratch.path().join("copy"))?;
        for name in self.inner.state_names() {
            let (from, to) = (self.inner.open_state(&name)?, copy.open_state(&name)?);
            let mut run = RunBuilder::new();
            self.inner.scan(from, b"", &mut |key, value| {
                run.put(key, value);
                ControlFlow::Continue(())
            })?;
            copy.write(to, &run.sort())?;
            self.wait_for_writer();
        }
        copy.checkpoint(dir)
    }

    /// If another thread writes, waits for so many runs that both states of `cut` have gone on by more than one.
    fn wait_for_writer(&self) {
        let before = *self.written.lock().unwrap();
        let writes_beside = before.last.is_some_and(|last| last != thread::current().id());
        while writes_beside && self.written.lock().unwrap().runs < before.runs + 6 {
            thread::yield_now();
        }
    }
}

#[test]
fn every_fault_is_found() {
    for fault in FAULTS {
        assert!(
            conforms(&FaultyFactory(fault)).is_err(),
            "a store passed that {fault:?}"
        );
    }
}
