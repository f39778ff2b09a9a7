//! The closed list of benches, and what each must reach.

use std::fmt;

/// What a bench measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `map`, `filter` and a sink in one chain.
    StatelessChain,
    /// Running counts over this many keys.
    KeyedCount {
        /// Distinct keys.
        keys: u64,
    },
    /// Counts in tumbling windows.
    Tumbling,
    /// Counts in sliding windows.
    Sliding,
    /// Counts by session.
    Session,
    /// 16 sources become one stream.
    Union,
    /// Running counts of words.
    Strings,
    /// Delay of each record while ten million keys enter a table.
    TableGrowth,
    /// Delay of each record over one exchange.
    Latency {
        /// Records a second, all subtasks together.
        rate: u64,
    },
    /// Running counts in two workers, so that half of what is shuffled crosses, beside the same in one.
    Crossing {
        /// Distinct keys.
        keys: u64,
    },
    /// Delay of each record over one shuffle between two workers.
    CrossingLatency {
        /// Records a second, all subtasks together.
        rate: u64,
    },
    /// Updates of a table of which a snapshot is being written.
    HashmapUpdate,
    /// Running counts with a checkpoint every second, beside the same without.
    Checkpointed(Backend),
    /// Running counts in RocksDB with all values in its cache, beside those in memory.
    RocksDbCached,
    /// Updates of values in RocksDB with memory for a tenth of them.
    RocksDbBeyondCache {
        /// Values, each of some 110 bytes with its key.
        keys: u64,
        /// Bytes of memory for all caches.
        memory: u64,
    },
    /// Delay of each record of a running count with a checkpoint every second.
    CheckpointDelay,
    /// How fast a job is back that begins with a savepoint.
    Restore(Backend, Values),
}

impl Kind {
    /// Rounds that are enough where one takes minutes.
    pub(crate) fn most_rounds(self) -> usize {
        match self {
            Self::RocksDbBeyondCache { keys, .. } if keys > 10_000_000 => 3,
            _ => usize::MAX,
        }
    }
}

/// What a job keeps for each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// A number.
    Numbers,
    /// 100 bytes.
    Texts,
}

/// Where a job keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// In memory.
    HashMap,
    /// In RocksDB, behind caches.
    RocksDb,
}

/// The least or most that a row may show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    /// Engine total ÷ parallelism ÷ fastest loop on one thread.
    LoopRatio(f64),
    /// Engine total ÷ that of a peer.
    PeerRatio(f64),
    /// Delay in milliseconds.
    DelayMs(f64),
    /// Delay ÷ that of the machine's own, where the machine takes most of the time that there is.
    DelayRatio(f64),
    /// The figure itself, at parallelism 2.
    OfTwo(f64),
}

/// A bench; its ids are `<name>.p1` and `<name>.p2`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bench {
    /// Its name.
    pub name: &'static str,
    /// What it measures.
    pub kind: Kind,
    /// What it must reach, at both parallelisms.
    pub bar: Option<Bar>,
}

/// The parallelisms of each bench.
pub(crate) const PARALLELISMS: [u32; 2] = [1, 2];

/// What a keyed count must reach of Timely's rate, and at which parallelism.
pub(crate) const TIMELY_BAR: (f64, u32) = (0.9, 2);

/// All benches.
pub(crate) const BENCHES: [Bench; 27] = [
    bench("stateless_chain", Kind::StatelessChain, Some(Bar::LoopRatio(0.5))),
    bench(
        "keyed_count_1m",
        Kind::KeyedCount { keys: 1 << 20 },
        Some(Bar::LoopRatio(0.6)),
    ),
    bench(
        "keyed_count_1k",
        Kind::KeyedCount { keys: 1 << 10 },
        Some(Bar::LoopRatio(0.6)),
    ),
    bench("tumbling_count_1k", Kind::Tumbling, Some(Bar::LoopRatio(0.5))),
    bench("sliding_count_1k", Kind::Sliding, None),
    bench("session_count", Kind::Session, None),
    bench("union_16", Kind::Union, None),
    bench("string_count", Kind::Strings, None),
    bench("table_growth", Kind::TableGrowth, Some(Bar::DelayMs(5.0))),
    bench(
        "latency_10k",
        Kind::Latency { rate: 10_000 },
        Some(Bar::DelayMs(5.0)),
    ),
    bench(
        "latency_200k",
        Kind::Latency { rate: 200_000 },
        Some(Bar::DelayMs(5.0)),
    ),
    bench(
        "latency_1m",
        Kind::Latency { rate: 1_000_000 },
        Some(Bar::DelayMs(5.0)),
    ),
    bench(
        "crossing_count_1m",
        Kind::Crossing { keys: 1 << 20 },
        Some(Bar::PeerRatio(0.5)),
    ),
    bench(
        "crossing_count_1k",
        Kind::Crossing { keys: 1 << 10 },
        Some(Bar::PeerRatio(0.5)),
    ),
    bench(
        "crossing_latency_8m",
        Kind::CrossingLatency { rate: 8_000_000 },
        Some(Bar::DelayMs(20.0)),
    ),
    bench("hashmap_update", Kind::HashmapUpdate, Some(Bar::LoopRatio(0.6))),
    bench(
        "checkpoint_throughput_hashmap",
        Kind::Checkpointed(Backend::HashMap),
        Some(Bar::PeerRatio(0.9)),
    ),
    bench("rocksdb_cached", Kind::RocksDbCached, Some(Bar::PeerRatio(0.7))),
    bench(
        "rocksdb_beyond_cache",
        beyond_cache(10_000_000, 110_000_000),
        Some(Bar::LoopRatio(2.0)),
    ),
    bench(
        "rocksdb_5gb",
        beyond_cache(49_000_000, 512 << 20),
        Some(Bar::LoopRatio(2.0)),
    ),
    bench(
        "soak_rocksdb_20gb",
        beyond_cache(196_000_000, 2 << 30),
        Some(Bar::LoopRatio(2.0)),
    ),
    bench(
        "keyed_count_rocksdb",
        Kind::Checkpointed(Backend::RocksDb),
        Some(Bar::PeerRatio(0.75)),
    ),
    bench("sync_phase", Kind::CheckpointDelay, Some(Bar::DelayMs(10.0))),
    bench(
        "restore_hashmap",
        restore(Backend::HashMap, Values::Numbers),
        Some(Bar::OfTwo(5e6)),
    ),
    bench(
        "restore_hashmap_100b",
        restore(Backend::HashMap, Values::Texts),
        Some(Bar::OfTwo(250.0)),
    ),
    bench(
        "restore_rocksdb",
        restore(Backend::RocksDb, Values::Numbers),
        Some(Bar::OfTwo(5e6)),
    ),
    bench(
        "restore_rocksdb_100b",
        restore(Backend::RocksDb, Values::Texts),
        Some(Bar::OfTwo(250.0)),
    ),
];

const fn restore(backend: Backend, values: Values) -> Kind {
    Kind::Restore(backend, values)
}

const fn beyond_cache(keys: u64, memory: u64) -> Kind {
    Kind::RocksDbBeyondCache { keys, memory }
}

const fn bench(name: &'static str, kind: Kind, bar: Option<Bar>) -> Bench {
    Bench { name, kind, bar }
}

/// A machine that takes more than this part of a delay's bar by itself cannot show whether it holds.
const MACHINE_SHARE: f64 = 0.8;
/// The bar on such a machine: what it leaves elsewhere.
const MACHINE_BAR: Bar = Bar::DelayRatio(1.0 / MACHINE_SHARE);

impl Bar {
    /// The bar where threads that do nothing else need so long.
    pub(crate) fn beside(self, machine: f64) -> Self {
        match self {
            Bar::DelayMs(most) if machine > MACHINE_SHARE * most => MACHINE_BAR,
            bar => bar,
        }
    }

    /// Whether a row with this ratio and value reaches it.
    pub(crate) fn passed(self, value: f64, ratio: f64) -> bool {
        match self {
            Bar::LoopRatio(least) | Bar::PeerRatio(least) => ratio >= least,
            Bar::DelayMs(most) => value <= most,
            Bar::DelayRatio(most) => ratio <= most,
            Bar::OfTwo(least) => value >= least,
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bar::LoopRatio(least) | Bar::PeerRatio(least) => write!(f, "ratio >= {least}"),
            Bar::DelayMs(most) => write!(f, "<= {most} ms"),
            Bar::DelayRatio(most) => write!(f, "ratio <= {most}"),
            Bar::OfTwo(least) => write!(f, ">= {least}"),
        }
    }
}

/// What the ids of benches begin with that take long and a lot of disk.
const SOAK: &str = "soak_";

/// The benches and parallelisms whose id begins with one of `prefixes`; for none all but the soaks.
///
/// # Errors
/// A prefix that no id has.
pub(crate) fn select(prefixes: &[String]) -> Result<Vec<(Bench, u32)>, String> {
    let all = BENCHES.iter().flat_map(|bench| PARALLELISMS.map(|p| (*bench, p)));
    let id = |bench: &Bench, p: u32| format!("{}.p{p}", bench.name);
    let fits = |bench: &Bench, p: u32, prefix: &str| id(bench, p).starts_with(prefix);
    if let Some(unknown) = prefixes
        .iter()
        .find(|prefix| !all.clone().any(|(b, p)| fits(&b, p, prefix)))
    {
        let names = BENCHES.map(|bench| bench.name).join(", ");
        return Err(format!(
            "no bench's id begins with `{unknown}`; there are {names}, each with .p1 and .p2"
        ));
    }
    let selected = |(bench, p): &(Bench, u32)| prefixes.iter().any(|prefix| fits(bench, *p, prefix));
    let usual = |(bench, _): &(Bench, u32)| prefixes.is_empty() && !bench.name.starts_with(SOAK);
    Ok(all.filter(|one| usual(one) || selected(one)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(prefixes: &[&str]) -> Result<Vec<String>, String> {
        let prefixes: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
        Ok(select(&prefixes)?
            .iter()
            .map(|(bench, p)| format!("{}.p{p}", bench.name))
            .collect())
    }

    #[test]
    fn prefixes_select() {
        assert_eq!(ids(&[]).map(|ids| ids.len()), Ok(52));
        assert_eq!(ids(&["soak"]).map(|ids| ids.len()), Ok(2));
        assert_eq!(
            ids(&["keyed_count_1k.p2"]),
            Ok(vec!["keyed_count_1k.p2".to_owned()])
        );
        assert_eq!(ids(&["latency", "union"]).map(|ids| ids.len()), Ok(8));
        assert!(ids(&["latency", "unoin"]).is_err_and(|e| e.contains("`unoin`") && e.contains("union_16")));
    }

    #[test]
    fn bars_look_at_what_they_bound() {
        assert!(Bar::LoopRatio(0.5).passed(1e9, 0.5) && !Bar::LoopRatio(0.5).passed(1e9, 0.49));
        assert!(Bar::DelayMs(5.0).passed(5.0, 9.0) && !Bar::DelayMs(5.0).passed(5.1, 0.1));
        assert_eq!(Bar::DelayMs(5.0).beside(4.0), Bar::DelayMs(5.0));
        let slow = Bar::DelayMs(5.0).beside(4.1);
        assert!(slow.passed(5.1, 1.25) && !slow.passed(5.3, 1.3));
    }
}
