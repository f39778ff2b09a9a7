//! From configuration to a store: which one, where, and whether the times make sense.

use crate::blob::{BlobDir, BlobError};
use crate::file::{FileStore, OpenError};
use crate::kv::Store;
use crate::leader::Timing;
use crate::memory::MemoryStore;
use crate::records::Keys;
use hurtig_core::config::{Configuration, HighAvailability, options};
use hurtig_core::time::Clock;
use hurtig_kit::BlockingThreads;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where `file` keeps its records, below the storage directory.
const RECORDS: &str = "records";

const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
/// The times of one who shares the store with nobody: a leader that was stopped for a while is the leader still.
const ALONE: Timing = Timing {
    ttl: Duration::from_secs(40 * YEAR.as_secs()),
    renew_every: YEAR,
    deadline: Duration::from_secs(20 * YEAR.as_secs()),
    retry: Duration::from_secs(60),
};

/// Why high availability could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An option that the type needs.
    #[error("`high-availability.type: {kind}` needs `{key}`; set it")]
    Missing {
        /// The type.
        kind: &'static str,
        /// The option.
        key: &'static str,
    },
    /// Times in an order in which two could lead.
    #[error("`{shorter}` ({short:?}) must be less than {of} of `{longer}` ({long:?})")]
    Times {
        /// The option that is too long.
        shorter: &'static str,
        /// Its value.
        short: Duration,
        /// Which part of the other.
        of: &'static str,
        /// The other option.
        longer: &'static str,
        /// Its value.
        long: Duration,
    },
    /// The directory could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Nor could the blobs.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// etcd cannot be reached as it is described.
    #[cfg(feature = "etcd")]
    #[error(transparent)]
    Etcd(#[from] crate::etcd::SettingsError),
    /// Built without etcd.
    #[cfg(not(feature = "etcd"))]
    #[error(
        "this program was built without etcd; build it with the feature `etcd`, or use `high-availability.type: file`"
    )]
    NoEtcd,
}

/// All that a jobmanager needs to be one of several.
#[derive(Clone, Debug)]
pub struct HighAvailabilityServices {
    /// Where records are.
    pub store: Arc<dyn Store>,
    /// Under which keys.
    pub keys: Keys,
    /// Where blobs are; with `none` nowhere.
    pub blobs: Option<BlobDir>,
    /// When leases are renewed.
    pub timing: Timing,
}

impl HighAvailabilityServices {
    /// Opens what the configuration describes. May wait for a disk; call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the configuration makes no sense, or the directory cannot be used.
    pub fn open(
        config: &Configuration,
        clock: Arc<dyn Clock>,
        threads: BlockingThreads,
    ) -> Result<Self, SetupError> {
        let keys = Keys::new(
            &config.get(&options::ETCD_PREFIX),
            &config.get(&options::CLUSTER_ID),
        );
        let kind = config.get(&options::HIGH_AVAILABILITY_TYPE);
        let blobs = match kind {
            HighAvailability::None => None,
            HighAvailability::File => Some(BlobDir::open(&storage_dir(config, "file")?)?),
            HighAvailability::Etcd => Some(BlobDir::open(&storage_dir(config, "etcd")?)?),
        };
        let store: Arc<dyn Store> = match kind {
            HighAvailability::None => Arc::new(MemoryStore::new(clock)),
            HighAvailability::File => {
                let dir = storage_dir(config, "file")?.join(RECORDS);
                Arc::new(FileStore::open(&dir, clock, threads)?)
            }
            HighAvailability::Etcd => etcd(config)?,
        };
        let timing = timing(config)?;
        Ok(Self {
            store,
            keys,
            blobs,
            timing: match kind {
                HighAvailability::None | HighAvailability::File => ALONE,
                HighAvailability::Etcd => timing,
            },
        })
    }
}

fn storage_dir(config: &Configuration, kind: &'static str) -> Result<PathBuf, SetupError> {
    let key = options::STORAGE_DIR.key();
    let dir = config
        .get(&options::STORAGE_DIR)
        .ok_or(SetupError::Missing { kind, key })?;
    // As Flink writes it.
    Ok(PathBuf::from(dir.strip_prefix("file://").unwrap_or(&dir)))
}

/// The times, if no order of events lets two lead by them.
fn timing(config: &Configuration) -> Result<Timing, SetupError> {
    let timing = Timing {
        ttl: config.get(&options::LEASE_TTL),
        renew_every: config.get(&options::LEADER_RENEWAL),
        deadline: config.get(&options::LEADER_DEADLINE),
        ..Timing::default()
    };
    let (lease, deadline, renewal) = (
        &options::LEASE_TTL,
        &options::LEADER_DEADLINE,
        &options::LEADER_RENEWAL,
    );
    let wrong = |shorter, short, of, (longer, long)| {
        Err(SetupError::Times {
            shorter,
            short,
            of,
            longer,
            long,
        })
    };
    if timing.deadline >= timing.ttl {
        return wrong(
            deadline.key(),
            timing.deadline,
            "the whole",
            (lease.key(), timing.ttl),
        );
    }
    if timing.renew_every >= timing.deadline / 2 {
        return wrong(
            renewal.key(),
            timing.renew_every,
            "half",
            (deadline.key(), timing.deadline),
        );
    }
    Ok(timing)
}

#[cfg(feature = "etcd")]
fn etcd(config: &Configuration) -> Result<Arc<dyn Store>, SetupError> {
    use crate::etcd::{EtcdSettings, EtcdStore};
    let missing = |option: &'static str| SetupError::Missing {
        kind: "etcd",
        key: option,
    };
    let mut settings = EtcdSettings::plain(config.get(&options::ETCD_ENDPOINTS));
    settings.call_timeout = config.get(&options::ETCD_TIMEOUT);
    settings.ca_file = config.get(&options::ETCD_CA_FILE).map(PathBuf::from);
    settings.identity = match (
        config.get(&options::ETCD_CERTIFICATE_FILE),
        config.get(&options::ETCD_KEY_FILE),
    ) {
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (Some(_), None) => return Err(missing(options::ETCD_KEY_FILE.key())),
        (None, Some(_)) => return Err(missing(options::ETCD_CERTIFICATE_FILE.key())),
        (None, None) => None,
    };
    settings.user = match (
        config.get(&options::ETCD_USER),
        config.get(&options::ETCD_PASSWORD),
    ) {
        (Some(user), Some(password)) => Some((user, password)),
        (Some(_), None) => return Err(missing(options::ETCD_PASSWORD.key())),
        (None, Some(_)) => return Err(missing(options::ETCD_USER.key())),
        (None, None) => None,
    };
    Ok(Arc::new(EtcdStore::new(settings)?))
}

#[cfg(not(feature = "etcd"))]
fn etcd(_: &Configuration) -> Result<Arc<dyn Store>, SetupError> {
    Err(SetupError::NoEtcd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::time::SystemClock;
    use hurtig_kit::BlockingPool;

    fn open(definitions: &[String]) -> Result<HighAvailabilityServices, SetupError> {
        let config = Configuration::builder()
            .definitions(definitions.iter().map(String::as_str))
            .build()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let pool = BlockingPool::new().unwrap();
        let opened = HighAvailabilityServices::open(&config, SystemClock::new(), pool.threads());
        drop(_entered);
        opened
    }

    fn wrong(definitions: &[&str]) -> String {
        let definitions: Vec<String> = definitions.iter().map(|text| (*text).to_owned()).collect();
        open(&definitions).unwrap_err().to_string()
    }

    #[test]
    fn what_is_missing_or_makes_no_sense_is_named() {
        assert!(wrong(&["high-availability.type=file"]).contains("high-availability.storageDir"));
        let dir = tempfile::tempdir().unwrap();
        let dir = format!("high-availability.storageDir=file://{}", dir.path().display());
        assert!(wrong(&["high-availability.type=etcd", &dir]).contains("high-availability.etcd.endpoints"));
        let user = [
            "high-availability.type=etcd",
            &dir,
            "high-availability.etcd.user=me",
        ];
        assert!(wrong(&user).contains("high-availability.etcd.password"));
        let late = wrong(&["high-availability.leader.renew-deadline=5 s"]);
        assert!(late.contains("lease-duration"), "{late}");
        let rare = wrong(&["high-availability.leader.renew-period=2 s"]);
        assert!(rare.contains("renew-deadline"), "{rare}");
    }

    #[test]
    fn each_type_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let dir = format!("high-availability.storageDir={}", dir.path().display());
        let of = |kind: &str| vec![format!("high-availability.type={kind}"), dir.clone()];
        assert!(open(&of("none")).unwrap().blobs.is_none());
        let file = open(&of("file")).unwrap();
        assert!(file.blobs.is_some());
        assert_eq!(file.keys.leader().as_str(), "/hurtig/default/election/leader");
        assert!(matches!(
            open(&of("file")),
            Err(SetupError::Open(OpenError::InUse(_)))
        ));
        let mut etcd = of("etcd");
        etcd.push("high-availability.etcd.endpoints=http://127.0.0.1:1;http://127.0.0.1:2".into());
        assert!(open(&etcd).unwrap().blobs.is_some());
    }
}
