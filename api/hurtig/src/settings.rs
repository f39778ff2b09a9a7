//! From configuration to the settings of tasks.

use hurtig_core::config::{BufferTimeout, Configuration, options};
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
    }
}
