//! A store whose state has got a time-to-live since, or has lost it.

use super::CachedTable;
use crate::store::RunBuilder;
use crate::store::key::group_prefix;
use crate::ttl::stamps::Stamps;
use hurtig_core::error::Result;
use hurtig_core::key::OwnedKey;
use std::ops::ControlFlow;

impl<K: OwnedKey, V: 'static> CachedTable<K, V> {
    /// Gives the values that a restored store has the times that they should have, `now`, or takes them away. For a
    /// table that has not been used.
    ///
    /// All values of a state have times or none has: a state is converted as a whole. So the first one tells.
    ///
    /// *Cost*: one look at the store, or all of the state is written.
    ///
    /// # Errors
    /// When the store fails, or has what is no value.
    pub(crate) fn convert_stored(&mut self, to: Stamps, now: i64) -> Result<()> {
        let layout = self.backing.codec().layout();
        let (store, state) = self.backing.store();
        let mut converts = Ok(false);
        store.scan(state, &[], &mut |_, value| {
            converts = layout.converts(value, to);
            ControlFlow::Break(())
        })?;
        if converts? {
            for group in self.table.groups() {
                self.convert_group(group, (to, now))?;
            }
        }
        Ok(())
    }

    /// Converts the values of a key group, which are in memory meanwhile.
    fn convert_group(&mut self, group: u16, (to, now): (Stamps, i64)) -> Result<()> {
        let layout = self.backing.codec().layout();
        let (store, state) = self.backing.store();
        let (mut run, mut failed) = (RunBuilder::new(), None);
        store.scan(state, &group_prefix(group), &mut |key, value| {
            let converted = run.put_with(key, |out| layout.convert(out, value, (to, now)));
            failed = converted.err();
            match failed {
                None => ControlFlow::Continue(()),
                Some(_) => ControlFlow::Break(()),
            }
        })?;
        failed.map_or(Ok(()), Err)?;
        self.backing.bring_in(&run.sort())
    }
}
