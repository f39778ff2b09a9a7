//! From configuration to the settings of tasks.

use crate::Error;
use hurtig_cluster::checkpoints::CheckpointSettings;
use hurtig_cluster::{
    CheckpointRetention, ClusterConfig, FailoverStrategy, JobOptions, RestartStrategyConfig, RestoreFrom,
    RestoreTarget, ScalingConfig,
};
use hurtig_core::config::{
    BufferTimeout, CheckpointingMode, ClaimMode, ConfigValue, Configuration, HighAvailability, Limit,
    RecordForm, RestartStrategy, Scheduler, SchedulerMode, SignalAction, SnapshotCompression, options,
};
use hurtig_core::ids::CheckpointId;
use hurtig_core::types::Travel;
use hurtig_dataflow::graph::{Elasticity, JobGraph, Requirements};
use hurtig_exchange::remote::{ConnectionConfig, Debloat, NetworkConfig};
use hurtig_exchange::{ChannelOptions, FlushPolicy};
use hurtig_state::StateBackend;
use hurtig_storage::{
    BlobStore, BlobStores, Compression, METADATA_NAME, MemoryStore, SavepointFormat, SnapshotFolder,
    is_whole, latest_checkpoint,
};
use hurtig_task::{BarrierSettings, CheckpointStorage, TaskSettings};
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
            travel: match config.get(&options::RECORD_FORM) {
                RecordForm::Flat => Travel::Flat,
                RecordForm::MessagePack => Travel::Named,
            },
            compression: config.get(&options::NETWORK_COMPRESSION),
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
        barriers: barriers(config),
        network: network(config),
    }
}

fn network(config: &Configuration) -> NetworkConfig {
    let millis = |option| Duration::from_millis(u64::from(config.get(option)));
    let debloat = Debloat {
        target: config.get(&options::DEBLOAT_TARGET),
        period: config.get(&options::DEBLOAT_PERIOD),
        samples: config.get(&options::DEBLOAT_SAMPLES),
        threshold_percent: config.get(&options::DEBLOAT_THRESHOLD),
    };
    let silence = config.get(&options::SILENCE_TIMEOUT);
    NetworkConfig {
        connection: ConnectionConfig {
            exclusive: config.get(&options::CREDIT_EXCLUSIVE).get(),
            floating: config.get(&options::CREDIT_FLOATING).get(),
            floating_per_channel: config.get(&options::CREDIT_FLOATING_PER_CHANNEL).get(),
            debloat: config.get(&options::DEBLOAT_ENABLED).then_some(debloat),
            quiet: silence / 4,
            ..ConnectionConfig::default()
        },
        connect_timeout: Duration::from_secs(u64::from(config.get(&options::CONNECT_TIMEOUT_SECONDS))),
        redial: millis(&options::REQUEST_BACKOFF_INITIAL),
        redial_max: millis(&options::REQUEST_BACKOFF_MAX),
        patience: config.get(&options::PARTITION_REQUEST_TIMEOUT),
        silence,
        write_bytes: config.get(&options::WRITE_BYTES).as_usize(),
    }
}

/// Refuses bounds of the network that contradict each other.
fn check_network(config: &Configuration) -> Result<(), Error> {
    let (first, longest) = (&options::REQUEST_BACKOFF_INITIAL, &options::REQUEST_BACKOFF_MAX);
    if config.get(first) > config.get(longest) {
        return Err(Error::Config(format!(
            "{} is {} and {} is {}: the first pause is longer than the longest. Lower the one or raise the other",
            first.key(),
            config.get(first),
            longest.key(),
            config.get(longest)
        )));
    }
    let (all, one) = (&options::CREDIT_FLOATING, &options::CREDIT_FLOATING_PER_CHANNEL);
    if config.is_set(one) && config.get(one) > config.get(all) {
        return Err(Error::Config(format!(
            "{} is {} and {} is {}: one channel may not have more than all of them share. Lower the one or raise the other",
            one.key(),
            config.get(one),
            all.key(),
            config.get(all)
        )));
    }
    Ok(())
}

fn barriers(config: &Configuration) -> BarrierSettings {
    let unaligned = config.get(&options::UNALIGNED_CHECKPOINTS);
    match config.get(&options::CHECKPOINTING_MODE) {
        CheckpointingMode::AtLeastOnce => BarrierSettings::AtLeastOnce,
        CheckpointingMode::ExactlyOnce if unaligned => {
            BarrierSettings::Unaligned(config.get(&options::ALIGNED_CHECKPOINT_TIMEOUT))
        }
        CheckpointingMode::ExactlyOnce => BarrierSettings::Aligned,
    }
}

/// Refuses settings of which one would silently not count.
fn check_barriers(config: &Configuration) -> Result<(), Error> {
    let at_least_once = config.get(&options::CHECKPOINTING_MODE) == CheckpointingMode::AtLeastOnce;
    if !at_least_once || !config.get(&options::UNALIGNED_CHECKPOINTS) {
        return Ok(());
    }
    let (unaligned, mode) = (
        options::UNALIGNED_CHECKPOINTS.key(),
        options::CHECKPOINTING_MODE.key(),
    );
    Err(Error::Config(format!(
        "{unaligned} is set and {mode} is AT_LEAST_ONCE, under which barriers wait for nothing that they could overtake: \
         drop one of them"
    )))
}

/// The cluster of one program, inside its process.
pub(crate) fn cluster_config(config: &Configuration) -> Result<ClusterConfig, Error> {
    let high_availability = config.get(&options::HIGH_AVAILABILITY_TYPE);
    if high_availability != HighAvailability::None {
        return Err(Error::Config(format!(
            "{key} is '{}', but this program runs in its own process: nothing records its jobs, and \
             nothing takes them over. Set {key} to 'none'; to begin where a killed program was, set {restore} to 'latest'",
            high_availability.text(),
            key = options::HIGH_AVAILABILITY_TYPE.key(),
            restore = options::RESTORE_PATH.key(),
        )));
    }
    let defaults = ClusterConfig::default();
    let threads = config.get(&options::WORKER_THREADS) as usize;
    Ok(ClusterConfig {
        worker_threads: if threads == 0 {
            defaults.worker_threads
        } else {
            threads
        },
        task_slots: config
            .is_set(&options::TASK_SLOTS)
            .then(|| config.get(&options::TASK_SLOTS)),
        cancellation_timeout: config.get(&options::CANCELLATION_TIMEOUT),
        exception_history: config.get(&options::EXCEPTION_HISTORY_SIZE) as usize,
        ..defaults
    })
}

/// Refuses a job for which there will never be slots: the cluster is the job's own.
pub(crate) fn check_slots(config: &Configuration, graph: &JobGraph) -> Result<(), Error> {
    let least = Requirements::initial(graph, elasticity(config)).slots(graph).0;
    let (needed, present) = (
        least.min(graph.slots_required()),
        config.get(&options::TASK_SLOTS),
    );
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

/// What a signal does to the job.
///
/// # Errors
/// When it would take a savepoint and nobody has said where.
pub(crate) fn on_signal(config: &Configuration) -> Result<SignalAction, Error> {
    let action = config.get(&options::ON_SIGNAL);
    if action == SignalAction::Cancel || config.get(&options::SAVEPOINT_DIR).is_some() {
        return Ok(action);
    }
    Err(Error::Config(format!(
        "{} says that a signal takes a savepoint, but nothing says where: set {} to a directory",
        options::ON_SIGNAL.key(),
        options::SAVEPOINT_DIR.key(),
    )))
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

fn failover_strategy(config: &Configuration) -> FailoverStrategy {
    use hurtig_core::config::FailoverStrategy as Setting;
    match config.get(&options::FAILOVER_STRATEGY) {
        Setting::Region => FailoverStrategy::Region,
        Setting::Full => FailoverStrategy::Full,
    }
}

/// How a job follows the slots that there are.
fn scaling(config: &Configuration) -> ScalingConfig {
    let elasticity = elasticity(config);
    // Who uses all there is does not wait for more, unless that is said.
    let at_once = |option| match elasticity == Elasticity::Reactive && !config.is_set(option) {
        true => Duration::ZERO,
        false => config.get(option),
    };
    ScalingConfig {
        elasticity,
        wait: config.get(&options::RESOURCE_WAIT),
        begin_stabilization: at_once(&options::BEGIN_STABILIZATION),
        stabilization: at_once(&options::STABILIZATION),
        cooldown: config.get(&options::COOLDOWN),
        max_delay: config.get(&options::RESCALE_DELAY),
        active_checkpoint: config.get(&options::ACTIVE_CHECKPOINT),
        max_checkpoint_failures: config.get(&options::RESCALE_CHECKPOINT_FAILURES),
    }
}

fn elasticity(config: &Configuration) -> Elasticity {
    match (
        config.get(&options::SCHEDULER_MODE),
        config.get(&options::SCHEDULER),
    ) {
        (Some(SchedulerMode::Reactive), _) => Elasticity::Reactive,
        (None, Scheduler::Adaptive) => Elasticity::Down,
        (None, Scheduler::Default) => Elasticity::None,
    }
}

/// How a job is run, and where its checkpoints are kept.
pub(crate) struct JobSetup {
    pub(crate) options: JobOptions,
    pub(crate) storage: CheckpointStorage,
    /// Whether sinks commit with checkpoints; savepoints can be taken either way.
    pub(crate) takes_checkpoints: bool,
}

impl JobSetup {
    /// Whether the job `name` goes on with what another one has left, so that output may be there: `latest` may
    /// find nothing. What cannot be read is reported by whoever restores from it.
    pub(crate) fn goes_on(&self, name: &str) -> bool {
        let restore = self.options.restore.as_ref();
        restore.is_some_and(|from| match from.checkpoint {
            RestoreTarget::Folder(_) => true,
            RestoreTarget::Latest => {
                let latest = latest_checkpoint(&**self.storage.store(), None, Some(name));
                !matches!(latest, Ok(None))
            }
        })
    }
}

/// Where a job with its state in `backend` keeps its checkpoints, and how.
pub(crate) fn job_setup(config: &Configuration, backend: &StateBackend) -> Result<JobSetup, Error> {
    check_barriers(config)?;
    check_network(config)?;
    let places = crate::stores::blob_stores(config);
    let durable = durable_store(config, &places)?;
    let restore = config
        .get(&options::RESTORE_PATH)
        .map(|path| restore_from(config, &path, durable.as_deref(), &places))
        .transpose()?;
    let interval = config.get(&options::CHECKPOINT_INTERVAL);
    let interval_during_backlog = interval_during_backlog(config)?;
    let options = JobOptions {
        restart: restart_strategy(config),
        failover: failover_strategy(config),
        checkpoints: CheckpointSettings {
            interval,
            interval_during_backlog,
            timeout: config.get(&options::CHECKPOINT_TIMEOUT),
            min_pause: config.get(&options::CHECKPOINT_MIN_PAUSE),
            tolerable_failures: attempts(config.get(&options::TOLERABLE_FAILED_CHECKPOINTS))
                .unwrap_or(u32::MAX),
        },
        retained_checkpoints: config.get(&options::RETAINED_CHECKPOINTS) as usize,
        retention: retention(config),
        restore,
        savepoint_dir: config.get(&options::SAVEPOINT_DIR),
        savepoint_format: savepoint_format(config),
        scaling: scaling(config),
    };
    let takes_checkpoints = interval.is_some() || durable.is_some();
    let store = durable.unwrap_or_else(|| Arc::new(MemoryStore::default()));
    let without = config
        .get(&options::RECOVER_WITHOUT_CHANNEL_STATE)
        .map(CheckpointId);
    let storage = CheckpointStorage::new(store, compression(config))
        .with_places(places)
        .without_in_flight_of(without);
    Ok(JobSetup {
        options,
        storage: crate::backend::with_stores(storage, config, backend),
        takes_checkpoints,
    })
}

/// The interval of checkpoints while a source reads backlog.
///
/// # Errors
/// When it is shorter than the usual one, or there is no usual one.
fn interval_during_backlog(config: &Configuration) -> Result<Option<Duration>, Error> {
    let Some(during) = config.get(&options::CHECKPOINT_INTERVAL_DURING_BACKLOG) else {
        return Ok(None);
    };
    let keys = (
        options::CHECKPOINT_INTERVAL_DURING_BACKLOG.key(),
        options::CHECKPOINT_INTERVAL.key(),
    );
    let problem = match config.get(&options::CHECKPOINT_INTERVAL) {
        None => format!(
            "{} is set and {} is not, so that no checkpoints are taken: set both, or neither",
            keys.0, keys.1
        ),
        Some(interval) if during < interval && during > Duration::ZERO => format!(
            "{} ({}) is shorter than {} ({}): it must be at least as long, or 0 for no checkpoints during backlog",
            keys.0,
            during.text(),
            keys.1,
            interval.text()
        ),
        Some(_) => return Ok(Some(during)),
    };
    Err(Error::Config(problem))
}

/// The store that survives the process, if one is set, after a look at it: a job that cannot keep its
/// checkpoints is not begun.
fn durable_store(config: &Configuration, places: &BlobStores) -> Result<Option<Arc<dyn BlobStore>>, Error> {
    let Some(dir) = config.get(&options::CHECKPOINT_DIR) else {
        return Ok(None);
    };
    let checked = places.open(&dir).and_then(|store| store.check().map(|()| store));
    let checked = checked.map_err(|error| {
        let error = hurtig_core::Error::from(error);
        Error::Config(format!("{}: {}", options::CHECKPOINT_DIR.key(), error.chain()))
    })?;
    Ok(Some(checked))
}

fn retention(config: &Configuration) -> CheckpointRetention {
    use hurtig_core::config::CheckpointRetention as Setting;
    match config.get(&options::CHECKPOINT_RETENTION) {
        Setting::RetainOnCancellation => CheckpointRetention::RetainOnCancellation,
        Setting::DeleteOnCancellation => CheckpointRetention::DeleteOnCancellation,
        Setting::NoExternalizedCheckpoints => CheckpointRetention::NoExternalizedCheckpoints,
    }
}

fn savepoint_format(config: &Configuration) -> SavepointFormat {
    use hurtig_core::config::SavepointFormat as Setting;
    match config.get(&options::SAVEPOINT_FORMAT) {
        Setting::Canonical => SavepointFormat::Canonical,
        Setting::Native => SavepointFormat::Native,
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
    store: Option<&dyn BlobStore>,
    places: &BlobStores,
) -> Result<RestoreFrom, Error> {
    let (key, dir) = (options::RESTORE_PATH.key(), options::CHECKPOINT_DIR.key());
    let checkpoint = match (path, store) {
        ("latest", Some(_)) => RestoreTarget::Latest,
        ("latest", None) => {
            return Err(Error::Config(format!(
                "{key} is 'latest' and {dir} is not set: set it to the directory that holds the checkpoints, or name \
                 the folder of one"
            )));
        }
        (path, store) => RestoreTarget::Folder(
            folder_of(store, path, places).map_err(|error| Error::Config(format!("{key}: {error}")))?,
        ),
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

/// The folder that a path names: in the checkpoint directory if it is relative and there, else by the
/// process's working directory.
fn folder_of(
    store: Option<&dyn BlobStore>,
    path: &str,
    places: &BlobStores,
) -> hurtig_storage::Result<SnapshotFolder> {
    let bare = path.trim_end_matches('/').trim_end_matches(METADATA_NAME);
    let bare = bare.trim_end_matches('/');
    if let Some(store) = store.filter(|_| !is_whole(path) && !bare.is_empty())
        && let Some(root) = store.location()
        && store.exists(&format!("{bare}/{METADATA_NAME}")).unwrap_or(false)
    {
        return SnapshotFolder::of_path(&format!("{}/{bare}", root.trim_end_matches('/')));
    }
    // A URL of a store that nobody opens is refused before a job begins.
    places.open(path)?;
    SnapshotFolder::of_path(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::config::ExchangeCompression;
    use std::path::Path;

    fn config(definitions: &[&str]) -> Configuration {
        Configuration::builder().definitions(definitions).build().unwrap()
    }

    #[test]
    fn the_network_is_as_configured_and_bounds_that_contradict_each_other_are_refused() {
        let set = config(&[
            "exchange.credit.exclusive=64kb",
            "taskmanager.network.compression.codec=LZ4",
            "exchange.records.form=messagepack",
            "taskmanager.network.netty.client.connectTimeoutSec=7",
            "exchange.silence-timeout=8s",
            "taskmanager.network.memory.buffer-debloat.enabled=true",
            "taskmanager.network.memory.buffer-debloat.target=300ms",
        ]);
        let settings = task_settings(&set);
        assert_eq!(settings.channels.travel, Travel::Named);
        assert_eq!(settings.channels.compression, ExchangeCompression::Lz4);
        assert_eq!(settings.network.connection.exclusive, 64 << 10);
        assert_eq!(settings.network.connect_timeout, Duration::from_secs(7));
        assert_eq!(settings.network.connection.quiet, Duration::from_secs(2));
        let target = settings.network.connection.debloat.map(|debloat| debloat.target);
        assert_eq!(target, Some(Duration::from_millis(300)));
        // What is not set is what the exchange has without any settings.
        let defaults = format!("{:?}", NetworkConfig::default());
        assert_eq!(format!("{:?}", task_settings(&config(&[])).network), defaults);
        let cases = [
            (
                vec!["taskmanager.network.request-backoff.initial=2000"],
                "request-backoff.max is 1000",
            ),
            (
                vec![
                    "exchange.credit.floating=1mb",
                    "exchange.credit.floating-per-channel=3mb",
                ],
                "exchange.credit.floating is 1 mb",
            ),
        ];
        for (definitions, problem) in cases {
            let refused = job_setup(&config(&definitions), &StateBackend::Heap)
                .err()
                .unwrap();
            assert!(refused.to_string().contains(problem), "{refused}");
        }
        for wrong in [
            "exchange.credit.exclusive=1kb",
            "taskmanager.network.compression.codec=LZO",
        ] {
            let refused = Configuration::builder().definitions([wrong]).build().unwrap_err();
            assert!(refused.to_string().contains("expects"), "{refused}");
        }
    }

    #[test]
    fn a_job_with_checkpoints_restarts_with_growing_delays() {
        let interval = "execution.checkpointing.interval=1s";
        let restart = |definitions: &[&str]| {
            job_setup(&config(definitions), &StateBackend::Heap)
                .unwrap()
                .options
                .restart
        };
        assert_eq!(restart(&[]), RestartStrategyConfig::None);
        assert!(matches!(
            restart(&[interval]),
            RestartStrategyConfig::ExponentialDelay { .. }
        ));
        let none = restart(&[interval, "restart-strategy.type=none"]);
        assert_eq!(none, RestartStrategyConfig::None);
    }

    #[test]
    fn the_interval_during_backlog_is_not_shorter_than_the_usual_one() {
        let (usual, during) = (
            "execution.checkpointing.interval",
            "execution.checkpointing.interval-during-backlog",
        );
        let setup = |definitions: &[String]| {
            let definitions: Vec<&str> = definitions.iter().map(String::as_str).collect();
            let setup = job_setup(&config(&definitions), &StateBackend::Heap);
            setup.map(|setup| setup.options.checkpoints.interval_during_backlog)
        };
        let of = |during_backlog: &str| setup(&[format!("{usual}=2s"), format!("{during}={during_backlog}")]);
        assert_eq!(setup(&[format!("{usual}=2s")]).unwrap(), None);
        for (text, seconds) in [("0", 0), ("0 ms", 0), ("2s", 2), ("1 min", 60)] {
            assert_eq!(of(text).unwrap(), Some(Duration::from_secs(seconds)), "{text}");
        }
        let error = of("1999 ms").unwrap_err().to_string();
        for part in [usual, during, "1999 ms", "2 s", "at least as long", "0"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = setup(&[format!("{during}=1min")]).unwrap_err().to_string();
        assert!(error.contains(during) && error.contains("is not"), "{error}");
    }

    #[test]
    fn regions_are_started_again_unless_everything_is_to_be() {
        let strategy = |definitions: &[&str]| {
            let setup = job_setup(&config(definitions), &StateBackend::Heap);
            setup.unwrap().options.failover
        };
        assert_eq!(strategy(&[]), FailoverStrategy::Region);
        let full = "jobmanager.execution.failover-strategy=full";
        assert_eq!(strategy(&[full]), FailoverStrategy::Full);
        let cluster = cluster_config(&config(&["web.exception-history-size=3"])).unwrap();
        assert_eq!(cluster.exception_history, 3);
    }

    #[test]
    fn a_program_alone_promises_no_high_availability() {
        let error = cluster_config(&config(&["high-availability.type=etcd"])).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("high-availability.type is 'etcd'") && error.contains("'none'"),
            "{error}"
        );
    }

    #[test]
    fn barriers_wait_overtake_or_do_neither() {
        let barriers = |definitions: &[&str]| task_settings(&config(definitions)).barriers;
        let (once, unaligned, timeout) = (
            "execution.checkpointing.mode=AT_LEAST_ONCE",
            "execution.checkpointing.unaligned.enabled=true",
            "execution.checkpointing.aligned-checkpoint-timeout=3s",
        );
        assert_eq!(barriers(&[timeout]), BarrierSettings::Aligned);
        assert_eq!(barriers(&[once]), BarrierSettings::AtLeastOnce);
        assert_eq!(barriers(&[unaligned]), BarrierSettings::Unaligned(Duration::ZERO));
        let after = BarrierSettings::Unaligned(Duration::from_secs(3));
        assert_eq!(barriers(&[unaligned, timeout]), after);
        let error = job_setup(&config(&[once, unaligned]), &StateBackend::Heap)
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("unaligned.enabled") && error.contains("AT_LEAST_ONCE"),
            "{error}"
        );
    }

    #[test]
    fn latest_is_claimed_and_what_was_named_is_not() {
        let dir = "execution.checkpointing.dir=/checkpoints";
        let restore = |path: &str, more: &[&str]| {
            let path = format!("execution.state-recovery.path={path}");
            let definitions: Vec<&str> = [dir, &path].into_iter().chain(more.iter().copied()).collect();
            let setup = job_setup(&config(&definitions), &StateBackend::Heap);
            setup.map(|setup| setup.options.restore.map(|from| (from.checkpoint, from.claim)))
        };
        let folder = |store: &str, folder: &str| {
            RestoreTarget::Folder(SnapshotFolder {
                store: store.to_owned(),
                folder: folder.to_owned(),
            })
        };
        let no_claim = "execution.state-recovery.claim-mode=NO_CLAIM";
        assert_eq!(
            restore("latest", &[]).unwrap(),
            Some((RestoreTarget::Latest, true))
        );
        assert_eq!(
            restore("latest", &[no_claim]).unwrap(),
            Some((RestoreTarget::Latest, false))
        );
        let job = "0123456789abcdef0123456789abcdef";
        let chk = format!("{job}/chk-1");
        for (path, want) in [
            (format!("/checkpoints/{chk}"), folder("/checkpoints", &chk)),
            (
                format!("file:///checkpoints/{chk}/"),
                folder("/checkpoints", &chk),
            ),
            (
                format!("/checkpoints/{chk}/_metadata"),
                folder("/checkpoints", &chk),
            ),
            (format!("/elsewhere/{chk}"), folder("/elsewhere", &chk)),
            ("/s/savepoint-1".to_owned(), folder("/s", "savepoint-1")),
        ] {
            assert_eq!(restore(&path, &[]).unwrap(), Some((want, false)), "{path}");
        }
        let claim = "execution.state-recovery.claim-mode=CLAIM";
        let claimed = restore("/s/savepoint-1", &[claim]).unwrap();
        assert_eq!(claimed, Some((folder("/s", "savepoint-1"), true)));
        for path in ["/", "/_metadata", "s3://bucket", "gs://bucket/save"] {
            let error = restore(path, &[]).unwrap_err().to_string();
            assert!(
                error.contains("execution.state-recovery.path") && error.contains(path),
                "{error}"
            );
        }
    }

    #[test]
    fn a_relative_path_counts_from_the_checkpoint_directory_if_it_leads_somewhere() {
        let root = tempfile::tempdir().unwrap();
        let places = BlobStores::local();
        let store = places.open(root.path().to_str().unwrap()).unwrap();
        store.put_new("save/_metadata", b"").unwrap();
        for path in ["save", "save/", "save/_metadata"] {
            let found = folder_of(Some(&*store), path, &places).unwrap();
            assert_eq!(Path::new(&found.store), root.path());
            assert_eq!(found.folder, "save");
        }
        let here = std::env::current_dir().unwrap();
        let found = folder_of(Some(&*store), "other", &places).unwrap();
        assert_eq!(Path::new(&found.store), here);
    }

    #[test]
    fn latest_is_looked_for_in_the_checkpoint_directory_only() {
        let config = |path: &str| config(&[&format!("execution.state-recovery.path={path}")]);
        let error = job_setup(&config("latest"), &StateBackend::Heap)
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("execution.checkpointing.dir is not set"),
            "{error}"
        );
        let setup = job_setup(&config("/s/savepoint-1"), &StateBackend::Heap).unwrap();
        assert!(setup.options.restore.is_some() && !setup.takes_checkpoints);
    }
}
