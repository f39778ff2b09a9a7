//! What a job was configured with, from the settings that lie in its graph.

use hurtig_core::config::{
    CheckpointRetention, CheckpointingMode, ConfigOption, ConfigValue, Configuration, Limit, Redaction,
    StateBackendKind, options,
};
use hurtig_dataflow::graph::JobGraph;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The settings of a job.
pub(crate) struct Settings<'a> {
    graph: &'a JobGraph,
    config: Configuration,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl<'a> Settings<'a> {
    /// Secrets lie in no graph, and options of the cluster are none of a job.
    pub(crate) fn of(graph: &'a JobGraph) -> Self {
        let mut config = Configuration::default();
        for (key, text) in &graph.config {
            // What does not parse is what nobody has set.
            let _ = config.set_text(key, text);
        }
        Self { graph, config }
    }

    fn get<T: ConfigValue>(&self, option: &ConfigOption<T>) -> T {
        self.config.get(option)
    }

    /// How checkpoints are taken.
    pub(crate) fn checkpoints(&self) -> Value {
        let interval = self.get(&options::CHECKPOINT_INTERVAL);
        let mode = match self.get(&options::CHECKPOINTING_MODE) {
            CheckpointingMode::ExactlyOnce => "exactly_once",
            CheckpointingMode::AtLeastOnce => "at_least_once",
        };
        let retention = self.get(&options::CHECKPOINT_RETENTION);
        let backend = match self.get(&options::STATE_BACKEND) {
            StateBackendKind::HashMap => "HashMapStateBackend",
            StateBackendKind::RocksDb => "EmbeddedRocksDBStateBackend",
        };
        let storage = match self.get(&options::CHECKPOINT_DIR) {
            Some(_) => "FileSystemCheckpointStorage",
            None => "JobManagerCheckpointStorage",
        };
        let tolerable = match self.get(&options::TOLERABLE_FAILED_CHECKPOINTS) {
            Limit::AtMost(count) => i64::from(count),
            Limit::Infinite => i64::from(i32::MAX),
        };
        json!({
            "mode": mode,
            // As Flink has it: no interval is the longest.
            "interval": interval.map_or(i64::MAX as u64, millis),
            "timeout": millis(self.get(&options::CHECKPOINT_TIMEOUT)),
            "min_pause": millis(self.get(&options::CHECKPOINT_MIN_PAUSE)),
            "max_concurrent": 1,
            "externalization": {
                "enabled": retention != CheckpointRetention::NoExternalizedCheckpoints,
                "delete_on_cancellation": retention != CheckpointRetention::RetainOnCancellation,
            },
            "state_backend": backend,
            "checkpoint_storage": storage,
            "unaligned_checkpoints": self.get(&options::UNALIGNED_CHECKPOINTS),
            "tolerable_failed_checkpoints": tolerable,
            "aligned_checkpoint_timeout": millis(self.get(&options::ALIGNED_CHECKPOINT_TIMEOUT)),
            "checkpoints_after_tasks_finish": true,
            "state_changelog_enabled": false,
            "changelog_periodic_materialization_interval": 0,
            "changelog_storage": "none",
        })
    }

    /// How the job is run. Parameters are the program's own, and it may be told secrets by them.
    pub(crate) fn execution(&self, redaction: &Redaction) -> Value {
        let parameters = self.graph.parameters.iter();
        let parameters = parameters.map(|(key, value)| (key.as_str(), redaction.shown(key, value)));
        let parameters: BTreeMap<&str, &str> = parameters.collect();
        json!({
            "jid": self.graph.id.to_string(),
            "name": self.graph.name,
            "execution-config": {
                "restart-strategy": self.restart(),
                "job-parallelism": self.get(&options::PARALLELISM_DEFAULT),
                "object-reuse-mode": true,
                "user-config": parameters,
            },
        })
    }

    /// The settings of the restart strategy, for people.
    fn restart(&self) -> String {
        let key = "restart-strategy.type";
        let Some(kind) = self.graph.config.get(key).filter(|kind| !kind.is_empty()) else {
            return "Cluster level default restart strategy".to_owned();
        };
        let of_kind = format!("restart-strategy.{kind}.");
        let settings = self.graph.config.iter();
        let settings = settings.filter_map(|(key, value)| {
            let name = key.strip_prefix(&of_kind)?;
            Some(format!("{name}: {value}"))
        });
        let settings: Vec<String> = settings.collect();
        match settings.is_empty() {
            true => kind.clone(),
            false => format!("{kind} ({})", settings.join(", ")),
        }
    }

    /// All of them that are set or have a default.
    pub(crate) fn entries(&self, redaction: &Redaction) -> Value {
        let entries = self.graph.config.iter();
        entries
            .map(|(key, value)| json!({ "key": key, "value": redaction.shown(key, value) }))
            .collect()
    }
}
