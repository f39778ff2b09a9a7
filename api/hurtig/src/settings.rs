//! From configuration to the settings of tasks.

use hurtig_cluster::{ClusterConfig, RestartStrategyConfig};
use hurtig_core::config::{BufferTimeout, Configuration, Limit, RestartStrategy, options};
use hurtig_exchange::{ChannelOptions, FlushPolicy};
use hurtig_task::TaskSettings;
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

fn attempts(limit: Limit) -> Option<u32> {
    match limit {
        Limit::Infinite => None,
        Limit::AtMost(attempts) => Some(attempts),
    }
}

pub(crate) fn restart_strategy(config: &Configuration) -> RestartStrategyConfig {
    match config.get(&options::RESTART_STRATEGY) {
        None | Some(RestartStrategy::None) => RestartStrategyConfig::None,
        Some(RestartStrategy::FixedDelay) => RestartStrategyConfig::FixedDelay {
            attempts: attempts(config.get(&options::FIXED_DELAY_ATTEMPTS)),
            delay: config.get(&options::FIXED_DELAY),
        },
        Some(RestartStrategy::ExponentialDelay) => RestartStrategyConfig::ExponentialDelay {
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
