//! Snapshots of the general window operator.

use super::super::function::is_stateless;
use super::super::snapshot::{KeyReader, key_bytes};
use super::super::{Trigger, WindowAssigner, WindowLogic};
use super::WindowOperator;
use super::slots::{Slot, position};
use crate::key::KeySelector;
use crate::timers::TimerService;

use hurtig_core::key::decode_exact;
use hurtig_core::{Error, Result};
use hurtig_state::encoded::put_entry;
use hurtig_state::snapshot::decode;
use hurtig_state::{OperatorSnapshot, ScanBudget, StateShape, StateShapes, StateValue};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;

/// Section of windows: contents, trigger state and per-window state by key and window.
const WINDOWS: &str = "windows";
/// Section of state that all windows of a key share.
const GLOBALS: &str = "windows/global";

#[derive(Serialize)]
struct WindowOut<'a, C, T, L> {
    contents: &'a Option<C>,
    trigger: &'a T,
    state: &'a L,
}

#[derive(Deserialize)]
struct WindowIn<C, T, L> {
    contents: Option<C>,
    trigger: T,
    state: L,
}

impl<In, Out, S, A, T, L> WindowOperator<In, Out, S, A, T, L>
where
    In: StateValue,
    S: KeySelector<In>,
    A: WindowAssigner<In>,
    T: Trigger<In, A::Window>,
    L: WindowLogic<In, S::Borrowed, A::Window, Out>,
{
    /// The types of the sections.
    pub(super) fn shapes() -> StateShapes {
        let mut shapes = TimerService::<S::Key, A::Window>::shapes();
        let windows = StateShape::keyed::<S::Key, WindowIn<L::Contents, T::State, L::WindowState>>();
        shapes.insert(WINDOWS.to_owned(), windows.by::<A::Window>());
        if !is_stateless::<L::GlobalState>() {
            let globals = StateShape::keyed::<S::Key, L::GlobalState>();
            shapes.insert(GLOBALS.to_owned(), globals);
        }
        shapes
    }

    pub(super) fn write(&mut self, snapshot: &mut OperatorSnapshot) {
        self.keys.begin_scan(Box::new(|key, slots, out| {
            for Slot {
                window,
                contents,
                trigger,
                local,
            } in slots
            {
                let value = WindowOut {
                    contents,
                    trigger,
                    state: local,
                };
                put_entry(out, key, &key_bytes(window), &value)?;
            }
            Ok(slots.len() as u64)
        }));
        if !is_stateless::<L::GlobalState>() {
            self.globals.begin_scan(Box::new(|key, value, out| {
                put_entry(out, key, &[], value)?;
                Ok(1)
            }));
        }
        self.timers.snapshot(self.keys.max_parallelism(), snapshot);
    }

    pub(super) fn continue_writing(
        &mut self,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        if let Some(entries) = self.keys.continue_scan(budget)? {
            snapshot.put_encoded(WINDOWS, entries);
        }
        if let Some(entries) = self.globals.continue_scan(budget)? {
            snapshot.put_encoded(GLOBALS, entries);
        }
        Ok(!self.keys.is_scanning() && !self.globals.is_scanning())
    }

    pub(super) fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        let reader = KeyReader::new(self.keys.groups(), self.keys.max_parallelism());
        snapshot.section(WINDOWS).visit(|entry| {
            let Some((hash, key)) = reader.key::<S::Key>(entry)? else {
                return Ok(());
            };
            let window: A::Window = decode_exact(entry.namespace).map_err(|e| {
                Error::user("cannot restore a window: the assigner is of another kind").because(e)
            })?;
            let WindowIn {
                contents,
                trigger,
                state,
            } = decode(entry.value)?;
            let slots = self.keys.upsert::<S::Borrowed>(hash, key.borrow(), Vec::new);
            match position(slots, &window) {
                Ok(_) => {
                    return Err(Error::user(format!(
                        "window {window:?} of one key is restored twice"
                    )));
                }
                Err(at) => slots.insert(
                    at,
                    Slot {
                        window,
                        contents,
                        trigger,
                        local: state,
                    },
                ),
            }
            Ok(())
        })?;
        snapshot.section(GLOBALS).visit(|entry| {
            let Some((hash, key)) = reader.key::<S::Key>(entry)? else {
                return Ok(());
            };
            self.globals.insert(hash, key, decode(entry.value)?);
            Ok(())
        })?;
        self.timers.restore_groups(snapshot, self.keys.groups())
    }
}
