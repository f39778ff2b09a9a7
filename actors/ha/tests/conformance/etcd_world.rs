//! Stores of a real etcd.

use crate::etcd_process::Etcd;
use crate::world::World;
use hurtig_core::time::SystemClock;
use hurtig_ha::etcd::{EtcdSettings, EtcdStore};
use hurtig_ha::kv::{Key, Store};
use std::sync::Arc;
use std::time::Duration;

/// How long an etcd may take to start. Far more than it does.
const STARTUP: Duration = Duration::from_secs(30);

impl Etcd {
    /// A store that waits half a second for each answer.
    pub(crate) fn store(&self) -> EtcdStore {
        let mut settings = EtcdSettings::plain(vec![self.url()]);
        settings.call_timeout = Duration::from_millis(500);
        EtcdStore::new(settings).unwrap()
    }

    /// Waits until it answers.
    pub(crate) async fn ready(&self) {
        let store = self.store();
        let answers = async {
            while let Err(error) = store.get(&Key::new("/ready")).await {
                assert!(
                    matches!(error, hurtig_ha::kv::StoreError::Unreachable(_)),
                    "{error}"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(STARTUP, answers)
            .await
            .expect("etcd does not start");
    }
}

/// A store of an etcd of its own.
pub(crate) async fn world() -> Option<World> {
    let etcd = Etcd::start()?;
    etcd.ready().await;
    Some(World {
        store: Arc::new(etcd.store()),
        ttl: Duration::from_secs(2),
        clock: SystemClock::new(),
        alive: Box::new(etcd),
    })
}
