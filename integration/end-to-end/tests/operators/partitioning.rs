//! Which record goes where.

use crate::common::{Random, Way, env, fails, multiset, same, ways};
use std::collections::{BTreeMap, BTreeSet};

const SHAPES: [(u32, u32); 6] = [(1, 1), (1, 3), (2, 2), (2, 4), (4, 2), (3, 2)];
const COUNT: i64 = 5_000;

/// Each number once, and in order between any two subtasks.
fn complete(ways: &[Way]) {
    let numbers = multiset(ways.iter().map(|way| way.0));
    same(&numbers, &multiset(0..COUNT), "records");
    in_order(ways);
}

fn in_order(ways: &[Way]) {
    let mut last: BTreeMap<(u32, u32), i64> = BTreeMap::new();
    for &(number, from, to) in ways {
        if let Some(before) = last.insert((from, to), number) {
            assert!(
                before < number,
                "{number} came behind {before} from {from} to {to}"
            );
        }
    }
}

/// Records by producer and consumer.
fn shares(ways: &[Way]) -> BTreeMap<u32, BTreeMap<u32, usize>> {
    let mut shares: BTreeMap<u32, BTreeMap<u32, usize>> = BTreeMap::new();
    for (_, from, to) in ways {
        *shares.entry(*from).or_default().entry(*to).or_default() += 1;
    }
    shares
}

/// Every producer has served exactly these consumers, and no two of them differ by more than one.
fn dealt_evenly(ways: &[Way], consumers_of: impl Fn(u32) -> Vec<u32>) {
    for (from, shares) in shares(ways) {
        let served: Vec<u32> = shares.keys().copied().collect();
        assert_eq!(served, consumers_of(from), "consumers of producer {from}");
        let (least, most) = (shares.values().min().unwrap(), shares.values().max().unwrap());
        assert!(most - least <= 1, "producer {from} dealt {shares:?}");
    }
}

#[test]
fn rebalance_deals_out_evenly_from_every_producer_to_every_consumer() {
    for (producers, consumers) in SHAPES {
        let ways = ways(COUNT, (producers, consumers), |s| s.rebalance());
        complete(&ways);
        assert_eq!(shares(&ways).len(), producers as usize);
        dealt_evenly(&ways, |_| (0..consumers).collect());
    }
}

#[test]
fn rescale_stays_within_the_group() {
    for ((producers, consumers), consumers_of) in [
        ((1, 3), (|_| vec![0, 1, 2]) as fn(u32) -> Vec<u32>),
        ((2, 4), |from| vec![2 * from, 2 * from + 1]),
        ((4, 2), |from| vec![from / 2]),
        ((2, 2), |from| vec![from]),
    ] {
        let ways = ways(COUNT, (producers, consumers), |s| s.rescale());
        complete(&ways);
        dealt_evenly(&ways, consumers_of);
    }
}

#[test]
fn shuffle_spreads_at_random() {
    for (producers, consumers) in [(1, 2), (2, 4), (1, 3)] {
        let ways = ways(COUNT, (producers, consumers), |s| s.shuffle());
        complete(&ways);
        let n = COUNT as f64 / f64::from(producers);
        let share = 1.0 / f64::from(consumers);
        let sigma = (n * share * (1.0 - share)).sqrt();
        for (from, shares) in shares(&ways) {
            assert_eq!(shares.len(), consumers as usize);
            for (to, count) in shares {
                let off = (count as f64 - n * share).abs() / sigma;
                assert!(
                    off < 5.0,
                    "{from} to {to}: {count} records, {off} standard deviations off"
                );
            }
        }
        changes_at_random(&ways, consumers);
    }
}

/// How often two records in a row go to the same consumer: dealing out in turn would give none,
/// runs nearly all.
fn changes_at_random(ways: &[Way], consumers: u32) {
    let from_first: BTreeMap<i64, u32> = ways.iter().filter(|way| way.1 == 0).map(|w| (w.0, w.2)).collect();
    let targets: Vec<u32> = from_first.into_values().collect();
    let same = targets.windows(2).filter(|pair| pair[0] == pair[1]).count() as f64;
    let (n, p) = ((targets.len() - 1) as f64, 1.0 / f64::from(consumers));
    let off = (same - n * p).abs() / (n * p * (1.0 - p)).sqrt();
    assert!(
        off < 5.0,
        "{same} of {n} records went where the one before went: {off} standard deviations off"
    );
}

#[test]
fn broadcast_gives_everything_to_everyone() {
    for (producers, consumers) in SHAPES {
        let ways = ways(COUNT, (producers, consumers), |s| s.broadcast());
        in_order(&ways);
        for to in 0..consumers {
            let here = ways.iter().filter(|way| way.2 == to).map(|way| way.0);
            same(&multiset(here), &multiset(0..COUNT), "records of a consumer");
        }
    }
}

#[test]
fn global_gives_everything_to_the_first() {
    for (producers, consumers) in SHAPES {
        let ways = ways(COUNT, (producers, consumers), |s| s.global());
        complete(&ways);
        assert!(ways.iter().all(|way| way.2 == 0));
    }
}

#[test]
fn forward_stays_in_the_subtask() {
    for parallelism in [1, 2, 4] {
        for chained in [true, false] {
            let ways = ways(COUNT, (parallelism, parallelism), |s| {
                let forward = s.forward();
                if chained {
                    forward
                } else {
                    forward.map(|r| r).disable_chaining().forward()
                }
            });
            complete(&ways);
            assert!(ways.iter().all(|(_, from, to)| from == to));
        }
    }
}

#[test]
fn forward_between_different_parallelisms_is_a_mistake() {
    let env = env(2);
    let _ = env
        .from_sequence(0, 9)
        .forward()
        .map(|n: i64| n)
        .name("Odd")
        .set_parallelism(4)
        .collect();
    let text = fails(&env);
    assert!(text.contains("forward") && text.contains("'Odd'"), "{text}");
}

#[test]
fn a_custom_partitioner_is_obeyed_modulo_the_number_of_channels() {
    for (producers, consumers) in SHAPES {
        let ways = ways(COUNT, (producers, consumers), |s| {
            s.partition_custom(|record, channels| (record.0 as usize % 7) * channels + record.0 as usize / 3)
        });
        complete(&ways);
        for (number, _, to) in ways {
            assert_eq!(
                u64::from(to),
                (number / 3) as u64 % u64::from(consumers),
                "record {number}"
            );
        }
    }
}

#[test]
fn a_key_lives_in_one_subtask_and_keys_in_all() {
    for (producers, consumers) in SHAPES {
        let ways = ways(COUNT, (producers, consumers), |s| {
            // A keyed stream is a stream: what stands behind keeps the partitioning.
            s.key_by(|record| record.0 % 97).reduce(|kept, next| *kept = next)
        });
        let mut home: BTreeMap<i64, BTreeSet<u32>> = BTreeMap::new();
        for (number, _, to) in &ways {
            home.entry(number % 97).or_default().insert(*to);
        }
        assert_eq!(home.len(), 97);
        assert!(home.values().all(|subtasks| subtasks.len() == 1), "{home:?}");
        let used: BTreeSet<u32> = home.into_values().flatten().collect();
        assert_eq!(used.len(), consumers as usize, "97 keys reach every subtask");
        same(
            &multiset(ways.iter().map(|way| way.0)),
            &multiset(0..COUNT),
            "records",
        );
    }
}

#[test]
fn random_pipelines_of_partitioners_lose_and_double_nothing() {
    let mut random = Random(7);
    for round in 0..12 {
        let env = env(random.one_of(&[1, 2, 4]));
        env.set(
            "pipeline.batch-size",
            &random.one_of(&[1, 3, 64, 1_024]).to_string(),
        )
        .unwrap();
        let mut stream = env.from_sequence(0, 1_999);
        let mut copies = 1;
        for _ in 0..3 {
            let parallelism = random.one_of(&[1, 2, 4]);
            stream = match random.below(6) {
                0 => stream.rebalance(),
                1 => stream.rescale(),
                2 => stream.shuffle(),
                3 if copies == 1 => {
                    copies = parallelism as usize;
                    stream.broadcast()
                }
                4 => stream.global(),
                _ => stream.partition_custom(|n, channels| *n as usize % channels),
            };
            stream = stream.map(|n| n).set_parallelism(parallelism);
        }
        let arrived = stream.collect();
        crate::common::run(&env);
        let expected: BTreeMap<i64, usize> = (0..2_000).map(|n| (n, copies)).collect();
        same(&multiset(arrived.take()), &expected, &format!("round {round}"));
    }
}
