//! What a checkpoint holds of backlog: of each channel where it stood, and what was on its way.

use crate::rig::*;
use hurtig_core::Event;
use hurtig_dataflow::chain::Round;
use hurtig_exchange::Captured;

fn live(rig: &Rig) -> Vec<i64> {
    rig.live.lock().unwrap().clone()
}

#[test]
fn a_channel_is_captured_with_its_backlog_and_the_news_on_its_way() {
    let build = gate(2, 100);
    let mut rig = build.fresh();
    rig.event(0, Event::Backlog(true));
    rig.send(0, &[(1, 1)]);
    rig.settle();
    // On its way: the end of one backlog, the beginning of another.
    rig.send(0, &[(2, 2)]);
    rig.event(0, Event::Backlog(false));
    rig.send(0, &[(3, 3)]);
    rig.send(1, &[(101, 1)]);
    rig.event(1, Event::Backlog(true));
    rig.send(1, &[(102, 2)]);
    rig.event(0, Event::Barrier(after(ONE, 0)));
    rig.event(1, Event::Barrier(after(ONE, 0)));
    rig.settle();
    let cut = rig.core.take_cut().unwrap();
    let channels = &cut.in_flight.as_ref().unwrap().channels;
    assert_eq!([channels[0].backlog, channels[1].backlog], [true, false]);
    assert!(channels[0].elements.contains(&Captured::Backlog(false)));
    assert!(channels[1].elements.contains(&Captured::Backlog(true)));

    // No source reads backlog any more, and what was on its way is read as it was sent.
    let mut restored = build.restored(&cut, true);
    restored.send(0, &[(4, 4)]);
    restored.settle();
    let (seen, mut left) = (live(&restored), restored.left.concat());
    restored.drain(100);
    left.extend(restored.left.concat());
    assert_eq!(left.len(), 5, "{left:?}");
    for old in [2, 102] {
        assert!(!seen.contains(&old), "{seen:?}");
    }
    assert!(seen.contains(&4), "the channels of this life are in no backlog");
    assert!(!restored.core.stats()[0].backlog);
}

#[test]
fn a_task_that_begins_in_backlog_stays_in_it_from_the_replay_on() {
    let build = gate(1, 100);
    let mut rig = build.fresh();
    rig.event(0, Event::Backlog(true));
    rig.send(0, &[(1, 1)]);
    rig.event(0, Event::Barrier(after(ONE, 0)));
    rig.settle();
    let cut = rig.core.take_cut().unwrap();
    // Any turn in between would be told to the operator, which would have to finish what it put off.
    let mut restored = build.restored_in_backlog(&cut, true, &[true]);
    restored.settle();
    assert!(restored.core.stats()[0].backlog, "the replay is over");
    restored.event(0, Event::Backlog(true));
    restored.send(0, &[(2, 2)]);
    restored.settle();
    assert!(live(&restored).is_empty());
    assert_eq!(told(&mut restored), [true]);
    restored.event(0, Event::Backlog(false));
    restored.send(0, &[(3, 3)]);
    restored.event(0, Event::EndOfInput);
    restored.finish();
    assert_eq!(live(&restored), [3]);
    assert_eq!(told(&mut restored), [true, false]);
}

/// The turns that have left the task since the last call.
fn told(rig: &mut Rig) -> Vec<bool> {
    rig.drain(100);
    rig.told.clone()
}

#[test]
fn an_idle_channel_in_backlog_counts_and_one_that_has_ended_does_not() {
    let mut rig = gate(2, 100).fresh();
    rig.event(0, Event::Backlog(true));
    rig.event(0, Event::Status(hurtig_core::element::WatermarkStatus::Idle));
    rig.send(1, &[(101, 1)]);
    rig.settle();
    assert!(rig.core.stats()[0].backlog);
    rig.event(0, Event::EndOfInput);
    rig.settle();
    rig.send(1, &[(102, 2)]);
    rig.settle();
    assert_eq!(live(&rig), [102]);
    rig.event(1, Event::EndOfInput);
    assert_eq!(rig.settle(), Round::Finished);
    assert_eq!(told(&mut rig), [true, false]);
}

#[test]
fn both_inputs_of_an_operator_count() {
    let build = Build {
        two_inputs: true,
        ..gate(2, 100)
    };
    let mut rig = build.fresh();
    rig.event(1, Event::Backlog(true));
    rig.send(1, &[(101, 1)]);
    rig.settle();
    rig.event(0, Event::Backlog(true));
    rig.event(1, Event::Backlog(false));
    rig.send(0, &[(1, 1)]);
    rig.settle();
    assert!(live(&rig).is_empty());
    rig.event(0, Event::Backlog(false));
    rig.settle();
    rig.send(0, &[(2, 2)]);
    rig.settle();
    assert_eq!(live(&rig), [2]);
    assert_eq!(told(&mut rig), [true, false]);
}
