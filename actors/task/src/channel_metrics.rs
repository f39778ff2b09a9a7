//! What a task publishes about its channels, under Flink's names.
//!
//! How full they are is looked up when somebody asks; what has crossed them is copied when the task reports.

use crate::metrics::Counted;
use hurtig_core::metrics::MetricGroup;
use hurtig_exchange::{Waiting, Watched};
use std::sync::Arc;

/// The ends of a task's channels.
#[derive(Debug, Default)]
pub(crate) struct ChannelEnds {
    pub(crate) inputs: Vec<Watched>,
    pub(crate) outputs: Vec<Watched>,
}

/// What has come in by channels of one kind.
struct Arrived {
    is_remote: bool,
    batches: Counted,
    bytes: Counted,
}

/// The metrics of a task's channels.
pub(crate) struct ChannelMetrics {
    inputs: Arc<[Watched]>,
    arrived: [Arrived; 2],
}

impl ChannelMetrics {
    /// Registers them; `credit` is the most that waits of a channel from another worker.
    pub(crate) fn new(group: &MetricGroup, ends: ChannelEnds, credit: u64) -> Self {
        let (inputs, outputs): (Arc<[Watched]>, Arc<[Watched]>) = (ends.inputs.into(), ends.outputs.into());
        let input = Sums::new(group, "Shuffle.Netty.Input.Buffers", &inputs);
        input.sum("inputQueueLength", |waiting| waiting.batches as f64);
        input.sum("inputQueueSize", |waiting| waiting.bytes as f64);
        input.usage("inPoolUsage", move |channel| match channel.is_remote() {
            true => credit as f64,
            false => channel.max_bytes() as f64,
        });
        let output = Sums::new(group, "Shuffle.Netty.Output.Buffers", &outputs);
        output.sum("outputQueueLength", |waiting| waiting.batches as f64);
        output.sum("outputQueueSize", |waiting| waiting.bytes as f64);
        output.usage("outPoolUsage", |channel| channel.max_bytes() as f64);
        group.computed("isBackPressured", move || {
            let is_full = |channel: &Watched| channel.look().is_some_and(|waiting| waiting.is_full);
            f64::from(u8::from(outputs.iter().any(is_full)))
        });
        let arrived = [("Local", false), ("Remote", true)].map(|(place, is_remote)| Arrived {
            is_remote,
            batches: Counted::new(group, &format!("numBuffersIn{place}")),
            bytes: Counted::new(group, &format!("numBytesIn{place}")),
        });
        Self { inputs, arrived }
    }

    /// Publishes what was counted; returns the bytes that have come in.
    pub(crate) fn update(&self) -> u64 {
        for kind in &self.arrived {
            let of_kind = self
                .inputs
                .iter()
                .filter(|channel| channel.is_remote() == kind.is_remote);
            let taken = of_kind.filter_map(Watched::look).map(|waiting| waiting.taken);
            let (batches, bytes) = taken.fold((0, 0), |(b, n), (batches, bytes)| (b + batches, n + bytes));
            kind.batches.raise(batches);
            kind.bytes.raise(bytes);
        }
        self.arrived.iter().map(|kind| kind.bytes.total()).sum()
    }
}

/// Metrics that are sums over channels.
struct Sums<'a> {
    group: &'a MetricGroup,
    scope: &'static str,
    channels: &'a Arc<[Watched]>,
}

impl<'a> Sums<'a> {
    fn new(group: &'a MetricGroup, scope: &'static str, channels: &'a Arc<[Watched]>) -> Self {
        Self {
            group,
            scope,
            channels,
        }
    }

    fn sum(&self, name: &str, of: impl Fn(Waiting) -> f64 + Send + Sync + 'static) {
        let channels = self.channels.clone();
        let sum = move || channels.iter().filter_map(Watched::look).map(&of).sum();
        self.group.computed(&format!("{}.{name}", self.scope), sum);
    }

    /// The bytes that wait as a share of those that may, `room` of each channel.
    fn usage(&self, name: &str, room: impl Fn(&Watched) -> f64 + Send + Sync + 'static) {
        let channels = self.channels.clone();
        let usage = move || {
            let looked = channels
                .iter()
                .filter_map(|channel| Some((channel.look()?.bytes as f64, room(channel))));
            let (waiting, may) = looked.fold((0.0, 0.0), |(w, m), (waiting, may)| (w + waiting, m + may));
            if may > 0.0 { waiting / may } else { 0.0 }
        };
        self.group.computed(&format!("{}.{name}", self.scope), usage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_core::Batch;
    use hurtig_core::metrics::{MetricRegistry, MetricScope, MetricValue};
    use hurtig_core::types::TypeInfo;
    use hurtig_exchange::{ChannelOptions, RecordCodec, SendOutcome, Signal, channel, channel_out};

    #[test]
    fn what_waits_and_what_has_come_is_published() {
        let options = ChannelOptions::bounded(2, 1_000);
        let (sender, receiver) = channel::<u64>(options, Signal::new(), Signal::new());
        let codec = RecordCodec::new(TypeInfo::of());
        let (away, _outlet) = channel_out::<u64>(options, codec, Signal::new(), Signal::new());
        let registry = MetricRegistry::new(100);
        let ends = ChannelEnds {
            inputs: vec![receiver.watched()],
            outputs: vec![sender.watched(), away.watched()],
        };
        let metrics = ChannelMetrics::new(&registry.group(MetricScope::root()), ends, 5_000);
        let value = |name: &str| {
            metrics.update();
            let samples = registry.samples();
            let sample = samples.iter().find(|sample| sample.name == name).unwrap();
            match sample.value {
                MetricValue::Counter(count) => count as f64,
                MetricValue::Computed(value) => value,
                ref other => panic!("{name} is {other:?}"),
            }
        };
        assert!(matches!(
            sender.try_send(Batch::from_records(vec![1]), 300),
            SendOutcome::Sent
        ));
        assert_eq!(value("Shuffle.Netty.Input.Buffers.inputQueueLength"), 1.0);
        assert_eq!(value("Shuffle.Netty.Input.Buffers.inPoolUsage"), 0.3);
        assert_eq!(
            value("Shuffle.Netty.Output.Buffers.outPoolUsage"),
            0.15,
            "of both"
        );
        assert_eq!(value("isBackPressured"), 0.0);
        assert!(matches!(
            sender.try_send(Batch::from_records(vec![2]), 300),
            SendOutcome::Sent
        ));
        assert_eq!(
            value("isBackPressured"),
            1.0,
            "two batches are as many as may wait"
        );
        assert!(receiver.try_recv().is_some());
        assert_eq!(value("Shuffle.Netty.Input.Buffers.inputQueueSize"), 300.0);
        assert_eq!(
            (value("numBuffersInLocal"), value("numBytesInLocal")),
            (1.0, 300.0)
        );
        assert_eq!(value("numBytesInRemote"), 0.0);
        assert_eq!(metrics.update(), 300, "what still waits has not been read");
        drop((sender, receiver));
        assert_eq!(
            value("Shuffle.Netty.Input.Buffers.inputQueueLength"),
            0.0,
            "it is over"
        );
        assert_eq!(metrics.update(), 300, "what was counted stays");
    }
}
