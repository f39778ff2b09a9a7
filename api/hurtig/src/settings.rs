//! From configuration to the settings of tasks.

use crate::Error;
use hurtig_cluster::checkpoints::CheckpointSettings;
use hurtig_cluster::{
    CheckpointRetention, ClusterConfig, JobOptions, RestartStrategyConfig, RestoreFrom, RestoreTarget,
};
use hurtig_core::config::{
    BufferTimeout, ClaimMode, Configuration, Limit, RestartStrategy, SnapshotCompression, options,
};
use hurtig_dataflow::graph::JobGraph;
use hurtig_exchange::{ChannelOptions, FlushPolicy};
use hurtig_storage::{BlobStore, Compression, LocalStore, MemoryStore};
use hurtig_task::{CheckpointStorage, TaskSettings};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn task_settings(config: &Configuration) -> TaskSettings {
    let timeout = match config.get(&options::BUFFER_TIMEOUT) {
        _ if !config.get(&options::BUFFER_TIMEOUT_ENABLED) => None,
        BufferTimeout::OnlyWhenFull => None,
        BufferTimeout::EachRecord => Some(Duration::ZERO),
        BufferTimeout::After(timeout) => Some(timeout),
    };
    TaskSettings {
        channels: ChannelOptions {
            max_batches: config.get(&options::CHANNEL_MAX_BATCHES) as usize,
            max_bytes: config.get(&options::CHANNEL_MAX_BYTES).as_usize(),
        },
        flush: FlushPolicy {
            batch_size: config.get(&options::BATCH_SIZE) as usize,
            batch_bytes: config.get(&options::BATCH_BYTES).as_usize(),
            timeout,
            ..FlushPolicy::default()
        },
        watermark_interval: config.get(&options::AUTO_WATERMARK_INTERVAL),
        round: config.get(&options::WORKER_ROUND),
        max_metrics: config.get(&options::MAX_METRICS) as usize,
    }
}

pub(crate) fn cluster_config(config: &Configuration) -> ClusterConfig {
    let defaults = ClusterConfig::default();
    let threads = config.get(&options::WORKER_THREADS) as usize;
    ClusterConfig {
        worker_threads: if threads == 0 {
            defaults.worker_threads
        } else {
            threads
        },
        task_slots: config
            .is_set(&options::TASK_SLOTS)
            .then(|| config.get(&options::TASK_SLOTS)),
        cancellation_timeout: config.get(&options::CANCELLATION_TIMEOUT),
        ..defaults
    }
}

/// Refuses a job for which there will never be slots: the cluster is the job's own.
pub(crate) fn check_slots(config: &Configuration, graph: &JobGraph) -> Result<(), Error> {
    let (needed, present) = (graph.slots_required(), config.get(&options::TASK_SLOTS));
    if !config.is_set(&options::TASK_SLOTS) || needed <= present {
        return Ok(());
    }
    let key = options::TASK_SLOTS.key();
    Err(Error::Config(format!(
        "job '{}' needs {needed} slots and there are {present}: lower its parallelism, raise {key}, or do not \
         set it",
        graph.name
    )))
}

fn attempts(limit: Limit) -> Option<u32> {
    match limit {
        Limit::Infinite => None,
        Limit::AtMost(attempts) => Some(attempts),
    }
}

fn restart_strategy(config: &Configuration) -> RestartStrategyConfig {
    match config.get(&options::RESTART_STRATEGY) {
        // Without checkpoints a restart would do everything again, which nobody has asked for.
        None if config.get(&options::CHECKPOINT_INTERVAL).is_none() => RestartStrategyConfig::None,
        Some(RestartStrategy::None) => RestartStrategyConfig::None,
        Some(RestartStrategy::FixedDelay) => RestartStrategyConfig::FixedDelay {
            attempts: attempts(config.get(&options::FIXED_DELAY_ATTEMPTS)),
            delay: config.get(&options::FIXED_DELAY),
        },
        None | Some(RestartStrategy::ExponentialDelay) => RestartStrategyConfig::ExponentialDelay {
            initial: config.get(&options::EXPONENTIAL_INITIAL_BACKOFF),
            max: config.get(&options::EXPONENTIAL_MAX_BACKOFF),
            multiplier: config.get(&options::EXPONENTIAL_MULTIPLIER),
            reset_after: config.get(&options::EXPONENTIAL_RESET_THRESHOLD),
            jitter: config.get(&options::EXPONENTIAL_JITTER),
            attempts: attempts(config.get(&options::EXPONENTIAL_ATTEMPTS)),
        },
        Some(RestartStrategy::FailureRate) => RestartStrategyConfig::FailureRate {
            max_failures: config.get(&options::FAILURE_RATE_MAX_FAILURES),
            interval: config.get(&options::FAILURE_RATE_INTERVAL),
            delay: config.get(&options::FAILURE_RATE_DELAY),
        },
    }
}

/// How a job is run, and where its checkpoints are kept.
pub(crate) struct JobSetup {
    pub(crate) options: JobOptions,
    pub(crate) checkpoints: Option<CheckpointStorage>,
}

pub(crate) fn job_setup(config: &Configuration) -> Result<JobSetup, Error> {
    let local = config.get(&options::CHECKPOINT_DIR);
    let local = local.map(|dir| LocalStore::open(&dir)).transpose();
    let local =
        local.map_err(|error| Error::Config(format!("{}: {error}", options::CHECKPOINT_DIR.key())))?;
    let restore = config
        .get(&options::RESTORE_PATH)
        .map(|path| restore_from(config, &path, local.as_ref()))
        .transpose()?;
    let interval = config.get(&options::CHECKPOINT_INTERVAL);
    let options = JobOptions {
        restart: restart_strategy(config),
        checkpoints: CheckpointSettings {
            interval,
            timeout: config.get(&options::CHECKPOINT_TIMEOUT),
            min_pause: config.get(&options::CHECKPOINT_MIN_PAUSE),
            tolerable_failures: attempts(config.get(&options::TOLERABLE_FAILED_CHECKPOINTS))
                .unwrap_or(u32::MAX),
        },
        retained_checkpoints: config.get(&options::RETAINED_CHECKPOINTS) as usize,
        retention: retention(config),
        restore,
    };
    let store: Option<Arc<dyn BlobStore>> = match local {
        Some(local) => Some(Arc::new(local)),
        None => interval.map(|_| Arc::new(MemoryStore::default()) as Arc<dyn BlobStore>),
    };
    let compression = compression(config);
    Ok(JobSetup {
        options,
        checkpoints: store.map(|store| CheckpointStorage::new(store, compression)),
    })
}

fn retention(config: &Configuration) -> CheckpointRetention {
    use hurtig_core::config::CheckpointRetention as Setting;
    match config.get(&options::CHECKPOINT_RETENTION) {
        Setting::RetainOnCancellation => CheckpointRetention::RetainOnCancellation,
        Setting::DeleteOnCancellation => CheckpointRetention::DeleteOnCancellation,
        Setting::NoExternalizedCheckpoints => CheckpointRetention::NoExternalizedCheckpoints,
    }
}

fn compression(config: &Configuration) -> Compression {
    match config.get(&options::SNAPSHOT_COMPRESSION) {
        SnapshotCompression::None => Compression::None,
        SnapshotCompression::Lz4 => Compression::Lz4,
        SnapshotCompression::Zstd => Compression::Zstd,
    }
}

fn restore_from(
    config: &Configuration,
    path: &str,
    store: Option<&LocalStore>,
) -> Result<RestoreFrom, Error> {
    let (key, dir) = (options::RESTORE_PATH.key(), options::CHECKPOINT_DIR.key());
    let Some(store) = store else {
        return Err(Error::Config(format!(
            "{key} is '{path}' and {dir} is not set: set it to the directory that holds the checkpoint"
        )));
    };
    let checkpoint = match path {
        "latest" => RestoreTarget::Latest,
        path => RestoreTarget::Folder(folder_in(store.root(), path).ok_or_else(|| {
            Error::Config(format!(
                "{key}: '{path}' does not lie in {dir}, which is '{}': name a checkpoint in there, or set {dir} to \
                 where it lies",
                store.root().display()
            ))
        })?),
    };
    Ok(RestoreFrom {
        checkpoint,
        allow_non_restored_state: config.get(&options::IGNORE_UNCLAIMED_STATE),
        claim: match config.get(&options::CLAIM_MODE) {
            None => path == "latest",
            Some(mode) => mode == ClaimMode::Claim,
        },
    })
}

/// A folder of the store, given by a path within it, or by a whole path that leads into it.
fn folder_in(root: &Path, path: &str) -> Option<String> {
    let path = path.strip_prefix("file://").unwrap_or(path);
    let path = path
        .strip_suffix("/_metadata")
        .unwrap_or(path)
        .trim_end_matches('/');
    if path.is_empty() {
        return None;
    }
    if !path.starts_with('/') && root.join(path).is_dir() {
        return Some(path.to_owned());
    }
    let whole = std::path::absolute(path).ok()?;
    let within = whole.strip_prefix(root).ok()?.to_str()?.to_owned();
    (!within.is_empty()).then_some(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(definitions: &[&str]) -> Configuration {
        Configuration::builder().definitions(definitions).build().unwrap()
    }

    #[test]
    fn a_job_with_checkpoints_restarts_with_growing_delays() {
        let interval = "execution.checkpointing.interval=1s";
        let restart = |definitions: &[&str]| job_setup(&config(definitions)).unwrap().options.restart;
        assert_eq!(restart(&[]), RestartStrategyConfig::None);
        assert!(matches!(
            restart(&[interval]),
            RestartStrategyConfig::ExponentialDelay { .. }
        ));
        let none = restart(&[interval, "restart-strategy.type=none"]);
        assert_eq!(none, RestartStrategyConfig::None);
    }

    #[test]
    fn latest_is_claimed_and_what_was_named_is_not() {
        let dir = "execution.checkpointing.dir=/checkpoints";
        let restore = |path: &str, more: &[&str]| {
            let path = format!("execution.state-recovery.path={path}");
            let definitions: Vec<&str> = [dir, &path].into_iter().chain(more.iter().copied()).collect();
            let setup = job_setup(&config(&definitions));
            setup.map(|setup| setup.options.restore.map(|from| (from.checkpoint, from.claim)))
        };
        let folder = |path: &str| RestoreTarget::Folder(path.to_owned());
        let no_claim = "execution.state-recovery.claim-mode=NO_CLAIM";
        assert_eq!(
            restore("latest", &[]).unwrap(),
            Some((RestoreTarget::Latest, true))
        );
        assert_eq!(
            restore("latest", &[no_claim]).unwrap(),
            Some((RestoreTarget::Latest, false))
        );
        for path in [
            "/checkpoints/a/chk-1",
            "file:///checkpoints/a/chk-1/",
            "/checkpoints/a/chk-1/_metadata",
        ] {
            assert_eq!(
                restore(path, &[]).unwrap(),
                Some((folder("a/chk-1"), false)),
                "{path}"
            );
        }
        for path in ["/elsewhere/chk-1", "/_metadata", "/checkpoints", "chk-1"] {
            let error = restore(path, &[]).unwrap_err().to_string();
            assert!(
                error.contains("does not lie in execution.checkpointing.dir"),
                "{error}"
            );
        }
    }
}
