//! What the tests of operators share: environments, random numbers, and the operator that
//! says where it is.

use hurtig::core::config::Configuration;
use hurtig::prelude::*;
use hurtig_end_to_end::waiting::wait;
use std::collections::BTreeMap;

/// An environment whose operators have this parallelism.
pub(crate) fn env(parallelism: u32) -> StreamEnv {
    let env = StreamEnv::new();
    env.set_parallelism(parallelism);
    env
}

/// An environment with options, also those of the cluster.
pub(crate) fn env_with(parallelism: u32, definitions: &[&str]) -> StreamEnv {
    let config = Configuration::builder().definitions(definitions).build().unwrap();
    let env = StreamEnv::with_config(config);
    env.set_parallelism(parallelism);
    env
}

/// Runs a program to its end.
pub(crate) fn run(env: &StreamEnv) -> JobResult {
    wait(env.execute("operators")).unwrap()
}

/// The message of a program that must fail.
pub(crate) fn fails(env: &StreamEnv) -> String {
    match wait(env.execute("operators")) {
        Ok(result) => panic!("the program should have failed: {result:?}"),
        Err(error) => error.to_string(),
    }
}

pub(crate) fn sorted<T: Ord>(mut records: Vec<T>) -> Vec<T> {
    records.sort();
    records
}

/// How often each record is there.
pub(crate) fn multiset<T: Ord>(records: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for record in records {
        *counts.entry(record).or_insert(0) += 1;
    }
    counts
}

/// Fails with the first difference, not with all records.
pub(crate) fn same<T: Ord + std::fmt::Debug, U: PartialEq + std::fmt::Debug>(
    found: &BTreeMap<T, U>,
    expected: &BTreeMap<T, U>,
    what: &str,
) {
    let missing = expected.iter().find(|(key, value)| found.get(key) != Some(value));
    if let Some((key, value)) = missing {
        panic!("{what}: {key:?} should be {value:?} and is {:?}", found.get(key));
    }
    let extra = found.iter().find(|(key, _)| !expected.contains_key(key));
    assert!(extra.is_none(), "{what}: {extra:?} should not be there");
}

/// splitmix64: the same numbers on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One of a few.
    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

/// Puts the number of the subtask that sees a record behind it.
pub(crate) struct Here;

impl<T: Send> ProcessFunction<T, (T, u32)> for Here {
    fn process(
        &mut self,
        record: T,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, (T, u32)>,
    ) -> std::result::Result<(), UserError> {
        out.emit((record, cx.info().index));
        Ok(())
    }
}

/// A record that knows its way: the number, the subtask that sent it, the subtask that got it.
pub(crate) type Way = (i64, u32, u32);

/// Sends the numbers below `count` from `producers` subtasks to `consumers` by the partitioning that
/// `route` chooses, and returns what arrived, in the order of arrival at each consumer.
pub(crate) fn ways(
    count: i64,
    (producers, consumers): (u32, u32),
    route: impl Fn(&DataStream<(i64, u32)>) -> DataStream<(i64, u32)>,
) -> Vec<Way> {
    let env = env(consumers);
    let sent = env
        .from_sequence(0, count - 1)
        .set_parallelism(producers)
        .process(|| Here)
        .set_parallelism(producers);
    let arrived = route(&sent)
        .process(|| Here)
        .map(|((number, from), to)| (number, from, to))
        .collect();
    run(&env);
    arrived.take()
}
