//! What a channel promises to both of its ends.

use super::*;
use crate::{HashRecords, KeptBatch};
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use hurtig_core::types::TypeInfo;

fn pair(max_batches: usize, max_bytes: usize) -> (Sender<u32>, Receiver<u32>) {
    channel(
        ChannelOptions::bounded(max_batches, max_bytes),
        Signal::new(),
        Signal::new(),
    )
}

fn batch(records: &[u32]) -> Batch<u32> {
    Batch::from_records(records.to_vec())
}

#[test]
fn elements_arrive_in_order_and_watermarks_merge_only_when_adjacent() {
    let (tx, rx) = pair(8, 1 << 20);
    tx.send_event(Event::Watermark(1));
    tx.send_event(Event::Watermark(2));
    assert!(matches!(tx.try_send(batch(&[7]), 4), SendOutcome::Sent));
    tx.send_event(Event::Watermark(3));
    assert!(matches!(rx.try_recv(), Some(Element::Event(Event::Watermark(2)))));
    assert!(matches!(rx.try_recv(), Some(Element::Batch(_))));
    assert!(matches!(rx.try_recv(), Some(Element::Event(Event::Watermark(3)))));
    assert!(rx.try_recv().is_none());
}

#[test]
fn a_full_channel_refuses_batches_by_number_and_by_bytes_and_takes_events() {
    let (tx, rx) = pair(2, 100);
    assert!(matches!(tx.try_send(batch(&[1]), 60), SendOutcome::Sent));
    assert!(matches!(tx.try_send(batch(&[2]), 60), SendOutcome::Sent));
    assert!(matches!(tx.try_send(batch(&[3]), 1), SendOutcome::Full(_)));
    tx.send_event(Event::EndOfInput);
    rx.try_recv();
    assert!(tx.has_room());
    assert_eq!(rx.backlog(), (1, 60));
    assert_eq!(tx.position(), 3);
}

/// A channel on which barriers overtake, and the bell of its producer.
fn overtaking(max_batches: usize) -> (Sender<u32>, Receiver<u32>, Signal, Signal) {
    let options = ChannelOptions::bounded(max_batches, 1 << 20);
    let barriers = BarrierMode::Overtakes;
    let (producer, consumer) = (Signal::new(), Signal::new());
    let (tx, rx) = channel(
        ChannelKind { options, barriers },
        producer.clone(),
        consumer.clone(),
    );
    (
        tx,
        rx.keeping_by(RecordCodec::new(TypeInfo::of())),
        producer,
        consumer,
    )
}

fn barrier(checkpoint: u64) -> Barrier {
    Barrier {
        checkpoint: CheckpointId(checkpoint),
        overtakes: Some(Time::ZERO),
    }
}

#[test]
fn an_announcement_names_the_boundary_and_nothing_is_taken_before_it_was_seen() {
    let (tx, rx, _, consumer) = overtaking(4);
    tx.try_send(batch(&[1]), 1);
    assert!(!consumer.take_announced());
    tx.send_event(Event::Barrier(barrier(9)));
    tx.try_send(batch(&[2]), 1);
    assert!(consumer.take_announced() && !consumer.take_announced());
    assert!(rx.try_recv().is_none());
    let announced = rx.take_announcement().unwrap();
    assert_eq!((announced.barrier, announced.boundary), (barrier(9), 1));
    assert!(rx.take_announcement().is_none());
    assert!(matches!(rx.try_recv(), Some(Element::Batch(_))));
}

#[test]
fn a_barrier_that_may_not_overtake_is_queued() {
    let aligned = Barrier::from(CheckpointId(1));
    let (tx, rx, ..) = overtaking(4);
    tx.send_event(Event::Barrier(aligned));
    assert!(matches!(rx.try_recv(), Some(Element::Event(Event::Barrier(found))) if found == aligned));
    let (tx, rx) = pair(4, 100);
    tx.send_event(Event::Barrier(barrier(2)));
    assert!(matches!(rx.try_recv(), Some(Element::Event(Event::Barrier(found))) if found == barrier(2)));
}

#[test]
fn what_was_before_an_announcement_stays_as_it_is() {
    let (tx, rx, ..) = overtaking(4);
    tx.send_event(Event::Watermark(1));
    tx.send_event(Event::Barrier(barrier(1)));
    tx.send_event(Event::Watermark(2));
    tx.send_event(Event::Watermark(3));
    let boundary = rx.take_announcement().unwrap().boundary;
    let mut captured = Vec::new();
    assert_eq!(rx.capture(0, boundary, &mut captured).unwrap(), (1, false));
    assert_eq!(captured, [Captured::Watermark(1)]);
    assert!(matches!(rx.try_recv(), Some(Element::Event(Event::Watermark(1)))));
    assert!(matches!(rx.try_recv(), Some(Element::Event(Event::Watermark(3)))));
}

/// Whoever captures has looked at all channels before, and a barrier may have been announced since.
#[test]
fn a_capture_ends_at_a_barrier_that_was_announced_meanwhile() {
    let (tx, rx, ..) = overtaking(8);
    tx.try_send(batch(&[1]), 1);
    tx.try_send(batch(&[2]), 1);
    assert!(rx.take_announcement().is_none());
    tx.send_event(Event::Barrier(barrier(1)));
    tx.try_send(batch(&[3]), 1);
    tx.send_event(Event::EndOfInput);
    let mut captured = Vec::new();
    assert_eq!(rx.capture(0, u64::MAX, &mut captured).unwrap(), (2, false));
    assert_eq!(captured.len(), 2);
    let boundary = rx.take_announcement().unwrap().boundary;
    assert_eq!(rx.capture(2, boundary, &mut captured).unwrap(), (2, false));
    assert_eq!(captured.len(), 2);
}

#[test]
fn a_capture_takes_nothing_and_comes_back_the_same() {
    let (tx, rx, ..) = overtaking(4);
    let mut hashed = Batch::new();
    hashed.push_hashed(7, 70, 1);
    hashed.push_hashed(8, 80, 2);
    tx.try_send(batch(&[1, 2]), 1);
    tx.try_send(hashed, 1);
    tx.send_event(Event::EndOfInput);
    let mut captured = Vec::new();
    assert_eq!(rx.capture(0, 1, &mut captured).unwrap(), (1, false));
    assert_eq!(rx.capture(1, u64::MAX, &mut captured).unwrap(), (3, true));
    let batches = captured.iter().map(|one| match one {
        Captured::Batch(kept) => kept,
        other => panic!("{other:?}"),
    });
    let kept: Vec<&KeptBatch> = batches.collect();
    let types = TypeInfo::<u32>::of();
    let mut all = kept[0].decode(&types, None::<fn(u64) -> bool>).unwrap();
    assert_eq!(all.records(), [1, 2]);
    assert!(all.hashes().is_empty());
    let second = Some(|hash| hash == 2);
    kept[0].decode(&types, second).unwrap_err();
    let mut some = kept[1].decode(&types, second).unwrap();
    assert_eq!(some.records(), [8]);
    assert_eq!(some.hashes(), [2]);
    assert_eq!(some.time(0), 80);
    assert_eq!(rx.backlog().0, 2);
    let mut taken = 0;
    while rx.try_recv().is_some() {
        taken += 1;
    }
    assert_eq!(taken, 3);
}

struct Doubled;

impl HashRecords<u32> for Doubled {
    fn hash_all(&self, records: &[u32], hashes: &mut Vec<u64>) {
        hashes.extend(records.iter().map(|record| u64::from(*record) * 2));
    }
}

#[test]
fn records_with_keys_are_kept_with_hashes_also_when_they_came_without() {
    let (tx, rx, ..) = overtaking(4);
    let rx = rx.keeping_by(RecordCodec::hashed_by(TypeInfo::of(), Some(Arc::new(Doubled))));
    let mut hashed = Batch::new();
    hashed.push_hashed(5, 0, 99);
    tx.try_send(batch(&[1, 2]), 1);
    tx.try_send(hashed, 1);
    let mut captured = Vec::new();
    rx.capture(0, u64::MAX, &mut captured).unwrap();
    let mut element = rx.try_recv().unwrap();
    captured.extend(rx.encode(&mut element).unwrap());
    let hashes = captured.iter().map(|one| match one {
        Captured::Batch(kept) => kept
            .decode(&TypeInfo::<u32>::of(), Some(|hash| hash != 2))
            .unwrap(),
        other => panic!("{other:?}"),
    });
    let hashes: Vec<Vec<u64>> = hashes.map(|batch| batch.hashes().to_vec()).collect();
    assert_eq!(hashes, [vec![4], vec![99], vec![4]]);
}

#[test]
fn a_task_that_may_overdraw_finds_four_times_the_room() {
    let (tx, rx, producer, _) = overtaking(2);
    let fill = || {
        (0..100)
            .take_while(|_| matches!(tx.try_send(batch(&[1]), 1), SendOutcome::Sent))
            .count()
    };
    assert_eq!(fill(), 2);
    producer.overdraw(true);
    assert_eq!(fill(), 6);
    producer.overdraw(false);
    assert!(!tx.has_room());
    (0..7).for_each(|_| drop(rx.try_recv()));
    assert!(tx.has_room());
}

#[test]
fn either_end_notices_that_the_other_has_gone() {
    let (tx, rx) = pair(1, 1);
    tx.try_send(batch(&[1]), 1);
    drop(tx);
    assert!(!rx.is_abandoned());
    rx.try_recv();
    assert!(rx.is_abandoned());
    let (tx, rx) = pair(1, 1);
    drop(rx);
    assert!(matches!(tx.try_send(batch(&[1]), 1), SendOutcome::Gone));
    assert!(tx.has_room());
}
