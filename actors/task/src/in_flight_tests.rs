//! Whose records in flight are whose after a restore.

use super::*;
use crate::checkpoint::{CheckpointStorage, StoredTask};
use crate::interface::{OperatorRestore, TaskRestore};
use hurtig_core::Batch;
use hurtig_core::ids::{
    AllocationId, AttemptNumber, CheckpointId, ExecutionId, JobId, NodeId, SubtaskId, VertexId,
};
use hurtig_core::key::{KeyGroupRange, key_group, subtask_of_group};
use hurtig_core::types::TypeInfo;
use hurtig_dataflow::chain::{CutTimes, TaskCut};
use hurtig_exchange::{Captured, KeptBatch, RecordCodec};
use hurtig_storage::{Compression, MemoryStore, SubtaskState};
use proptest::prelude::*;
use std::sync::Arc;

const GROUPS: u32 = 16;

fn task(index: u32, parallelism: u32) -> TaskDescriptor {
    TaskDescriptor {
        job: JobId::from_u128(1),
        execution: ExecutionId {
            subtask: SubtaskId {
                vertex: VertexId::from_u128(1),
                index,
            },
            attempt: AttemptNumber(0),
        },
        name: String::new(),
        operators: Vec::new(),
        parallelism,
        max_parallelism: GROUPS,
        key_groups: KeyGroupRange::of_subtask(index, parallelism, GROUPS),
        slot: AllocationId::from_u128(1),
        blocking: false,
        generation: 0,
        inputs: Vec::new(),
        outputs: Vec::new(),
        restore: None,
        backlog: false,
        peers: Vec::new(),
    }
}

/// The channels of a task with a keyed input, and with another one whose records belong to nobody.
fn channels(producers: u32) -> Vec<ChannelName> {
    let of = |input: u8, edge: &'static str, keyed| {
        (0..producers).map(move |producer| ChannelName {
            input,
            edge: edge.to_owned(),
            producer,
            keyed,
        })
    };
    of(0, "keyed", true).chain(of(1, "any", false)).collect()
}

/// A batch of records, with the hashes of their keys or without.
fn kept(records: &[u64], keyed: bool) -> Captured {
    let mut batch = Batch::new();
    for &record in records {
        match keyed {
            true => batch.push_hashed(record, 0, hash(record)),
            false => batch.push(record, 0),
        }
    }
    Captured::Batch(KeptBatch::encode(&mut batch, &RecordCodec::new(TypeInfo::of())).unwrap())
}

fn hash(record: u64) -> u64 {
    record.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn owner(record: u64, parallelism: u32) -> u32 {
    subtask_of_group(key_group(hash(record), GROUPS), parallelism, GROUPS)
}

/// What the subtasks of a task had in flight, each from all producers: numbers from 0 on, and their number.
fn taken(parallelism: u32, producers: u32, each: u64) -> (Vec<OperatorSnapshot>, u64) {
    let mut states = vec![OperatorSnapshot::default(); parallelism as usize];
    let count = each * u64::from(producers);
    for (subtask, state) in (0..).zip(&mut states) {
        let of = |name: &ChannelName| {
            let own = (0..count).filter(|n| (n % u64::from(producers)) == u64::from(name.producer));
            let own = own.filter(|n| match name.keyed {
                true => owner(*n, parallelism) == subtask,
                false => n / u64::from(producers) % u64::from(parallelism) == u64::from(subtask),
            });
            ChannelState {
                watermark: 7,
                idle: false,
                backlog: false,
                elements: vec![kept(&own.collect::<Vec<u64>>(), name.keyed)],
            }
        };
        let channels = channels(producers);
        let in_flight = InFlight {
            watermark: i64::from(subtask),
            channels: channels.iter().map(of).collect(),
        };
        put(in_flight, &channels, state).unwrap();
    }
    (states, count)
}

fn found(states: &[OperatorSnapshot]) -> Found {
    let mut found = Found::default();
    for (subtask, state) in (0..).zip(states) {
        let mut state = state.clone();
        found.take_from(subtask, &mut state).unwrap();
        assert!(state.operator.is_empty(), "no operator is to see it");
    }
    found
}

/// The records that a task reads again, of each of its inputs.
fn replayed(restored: &InFlightRestore) -> [Vec<u64>; 2] {
    let mut read = [Vec::new(), Vec::new()];
    for channel in &restored.channels {
        for element in &channel.state.elements {
            let Captured::Batch(kept) = element else {
                panic!("{element:?}")
            };
            let keep = channel.keep.as_ref();
            let keep = keep.map(|keys| |hash| keys.groups.contains(&(key_group(hash, GROUPS).get() as u16)));
            let mut batch = kept.decode(&TypeInfo::<u64>::of(), keep).unwrap();
            read[usize::from(channel.input)].extend_from_slice(batch.records());
        }
    }
    read
}

proptest! {
    #[test]
    fn each_record_belongs_to_one_task_at_any_parallelism(
        (from, to) in (1_u32..6, 1_u32..6),
        producers in 1_u32..4,
        each in 0_u64..30,
    ) {
        let (states, count) = taken(from, producers, each);
        let mut all = [Vec::new(), Vec::new()];
        for index in 0..to {
            let restored = found(&states).deal(from, &task(index, to), &channels(producers)).unwrap();
            let Some(restored) = restored else { continue };
            prop_assert_eq!(restored.same_channels, from == to);
            let [keyed, any] = replayed(&restored);
            prop_assert!(keyed.iter().all(|n| owner(*n, to) == index), "a record of another task's keys");
            all[0].extend(keyed);
            all[1].extend(any);
        }
        for mut read in all {
            read.sort_unstable();
            prop_assert_eq!(read, (0..count).collect::<Vec<u64>>());
        }
    }
}

#[test]
fn event_time_begins_where_the_slowest_was_and_nowhere_if_one_has_not_said() {
    let (states, _) = taken(3, 1, 9);
    let watermark = |found: Found, task| found.deal(3, &task, &channels(1)).unwrap().unwrap().watermark;
    assert_eq!(watermark(found(&states), task(2, 3)), 2, "its own");
    assert_eq!(watermark(found(&states), task(1, 2)), 0);
    assert_eq!(watermark(found(&states[1..]), task(0, 2)), i64::MIN);
}

#[test]
fn other_producers_are_other_channels() {
    let (states, _) = taken(2, 2, 9);
    let restored = found(&states)
        .deal(2, &task(1, 2), &channels(3))
        .unwrap()
        .unwrap();
    assert!(!restored.same_channels);
    assert_eq!(restored.channels.len(), 4);
}

#[test]
fn records_in_flight_are_restored_unless_they_are_not_wanted() {
    let (channels, one) = (channels(2), CheckpointId(1));
    let storage = CheckpointStorage::new(Arc::new(MemoryStore::default()), Compression::Lz4);
    let (task, state) = (task(0, 1), |at: &ChannelName| ChannelState {
        watermark: 5,
        idle: at.producer == 1,
        backlog: at.producer == 0,
        elements: vec![Captured::Watermark(9)],
    });
    let in_flight = InFlight {
        watermark: 3,
        channels: channels.iter().map(state).collect(),
    };
    let stored = StoredTask {
        job: task.job,
        execution: task.execution,
        completed: CheckpointId::default(),
        given_up: [].into(),
        skip: 1,
        channels: channels.clone().into(),
    };
    let cut = TaskCut {
        checkpoint: one,
        operators: vec![OperatorSnapshot::default(); 2],
        in_flight: Some(in_flight.clone()),
        times: CutTimes::default(),
    };
    let part = storage.store_cut(&stored, cut).unwrap();
    let figures = part.figures.unwrap();
    // As it was encoded: the file is compressed.
    assert!(figures.in_flight_bytes > 0, "{figures:?}");
    let handle = part.handle;
    let state = SubtaskState {
        handle,
        ..SubtaskState::default()
    };
    let restore = TaskRestore {
        checkpoint: one,
        finished: false,
        store: None,
        stopped: false,
        operators: vec![Some(OperatorRestore {
            parallelism: 1,
            max_parallelism: GROUPS,
            shapes: [].into(),
            subtasks: [(0, state)].into(),
        })],
    };
    let task = TaskDescriptor {
        operators: vec![NodeId(0)],
        ..task
    };
    let load = |storage: &CheckpointStorage| match storage.load(&task, &restore, &channels) {
        Ok(restored) => restored.in_flight,
        Err(failed) => panic!("{}", failed.error.chain()),
    };
    let restored = load(&storage).unwrap();
    let states = restored.channels.into_iter().map(|channel| channel.state);
    assert_eq!((restored.watermark, restored.same_channels), (3, true));
    assert_eq!(states.collect::<Vec<_>>(), in_flight.channels);
    let other = storage.clone().without_in_flight_of(Some(CheckpointId(2)));
    assert!(load(&other).is_some());
    assert_eq!(load(&storage.without_in_flight_of(Some(one))), None);
}

#[test]
fn records_of_an_edge_that_is_gone_are_not_lost_in_silence() {
    let (states, _) = taken(1, 1, 3);
    let error = found(&states)
        .deal(1, &task(0, 1), &channels(1)[..1])
        .unwrap_err();
    assert!(
        error.contains("'any'") && error.contains("recover-without-channel-state"),
        "{error}"
    );
}
