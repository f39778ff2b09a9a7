//! Timers against a plain ordered set.

use super::*;
use hurtig_core::key::key_group;
use proptest::prelude::*;
use std::collections::BTreeSet;

type Model = BTreeSet<(i64, u64, u8)>;

#[derive(Clone, Debug)]
enum Op {
    Register(i64, u64, u8),
    Delete(i64, u64, u8),
    PopDue(i64),
    /// Fires all that is due; every timer with an even key registers its successor, which may be due too.
    Cascade(i64),
    Restore,
}

fn op() -> impl Strategy<Value = Op> {
    let timer = (
        prop_oneof![-3_i64..3, Just(7), Just(i64::MAX)],
        0_u64..40,
        0_u8..3,
    );
    prop_oneof![
        12 => timer.clone().prop_map(|(t, k, n)| Op::Register(t, k, n)),
        4 => timer.prop_map(|(t, k, n)| Op::Delete(t, k, n)),
        3 => (-4_i64..9).prop_map(Op::PopDue),
        1 => (-4_i64..9).prop_map(Op::Cascade),
        1 => Just(Op::Restore),
    ]
}

fn restored(timers: &TimerService<u64, u8>) -> TimerService<u64, u8> {
    let mut snapshot = OperatorSnapshot::default();
    timers.snapshot(128, &mut snapshot);
    for entry in snapshot.keyed(EVENT_SECTION) {
        let key = u64::from_be_bytes(entry.key.clone().try_into().unwrap());
        assert_eq!(u32::from(entry.group), key_group(key.stable_hash(), 128).get());
    }
    let mut fresh = TimerService::new();
    fresh.restore(&snapshot).unwrap();
    fresh
}

fn check_pop(
    timers: &mut TimerService<u64, u8>,
    model: &mut Model,
    up_to: i64,
    domain: TimeDomain,
) -> Option<(i64, u64, u8)> {
    let popped = timers
        .pop_due(domain, up_to)
        .map(|t| (t.time, t.key, t.namespace));
    let expected = model
        .first()
        .filter(|(time, ..)| *time <= up_to)
        .map(|(time, ..)| *time);
    assert_eq!(popped.map(|p| p.0), expected, "the earliest due time");
    if let Some(timer) = popped {
        assert!(model.remove(&timer), "{timer:?} was registered");
    }
    popped
}

fn apply(timers: &mut TimerService<u64, u8>, model: &mut Model, op: Op, domain: TimeDomain) {
    match op {
        Op::Register(t, k, n) => {
            assert_eq!(
                timers.register(domain, t, HashedKey::of(&k), &n),
                model.insert((t, k, n))
            );
        }
        Op::Delete(t, k, n) => {
            assert_eq!(
                timers.delete(domain, t, HashedKey::of(&k), &n),
                model.remove(&(t, k, n))
            );
        }
        Op::PopDue(up_to) => {
            check_pop(timers, model, up_to, domain);
        }
        Op::Cascade(up_to) => {
            while let Some((t, k, n)) = check_pop(timers, model, up_to, domain) {
                if k % 2 == 0 && t < 8 {
                    timers.register(domain, t + 1, HashedKey::of(&k), &n);
                    model.insert((t + 1, k, n));
                }
            }
        }
        Op::Restore => *timers = restored(timers),
    }
}

proptest! {
    #[test]
    fn timers_behave_as_an_ordered_set(ops in proptest::collection::vec((op(), any::<bool>()), 1..400)) {
        let mut timers = TimerService::<u64, u8>::new();
        let mut models = [Model::new(), Model::new()];
        for (op, event) in ops {
            let domain = if event { TimeDomain::Event } else { TimeDomain::Processing };
            apply(&mut timers, &mut models[usize::from(event)], op, domain);
            for (domain, model) in [(TimeDomain::Processing, &models[0]), (TimeDomain::Event, &models[1])] {
                prop_assert_eq!(timers.len(domain), model.len());
                prop_assert_eq!(timers.next_time(domain), model.first().map(|t| t.0));
                let listed: Model = timers.queue(domain).iter().map(|(t, _, k, n)| (t, *k, *n)).collect();
                prop_assert_eq!(&listed, model);
                for (t, k, n) in model {
                    prop_assert!(timers.contains(domain, *t, HashedKey::of(k), n));
                }
            }
        }
    }
}

#[test]
fn a_timer_registered_while_firing_fires_in_the_same_pass_when_due() {
    let mut timers = TimerService::<u64, ()>::new();
    timers.register(TimeDomain::Event, 5, HashedKey::of(&1), &());
    let mut fired = Vec::new();
    while let Some(timer) = timers.pop_due(TimeDomain::Event, 10) {
        fired.push(timer.time);
        if timer.time == 5 {
            timers.register(TimeDomain::Event, 3, HashedKey::of(&1), &());
            timers.register(TimeDomain::Event, 11, HashedKey::of(&1), &());
        }
    }
    assert_eq!(fired, [5, 3]);
    assert_eq!(timers.next_time(TimeDomain::Event), Some(11));
}

#[test]
fn snapshot_bytes_sort_by_time() {
    let mut timers = TimerService::<String, ()>::new();
    for time in [5, -1, i64::MIN, 300, i64::MAX] {
        timers.register(TimeDomain::Event, time, HashedKey::of("k"), &());
    }
    let mut snapshot = OperatorSnapshot::default();
    timers.snapshot(128, &mut snapshot);
    let namespaces: Vec<_> = snapshot
        .keyed(EVENT_SECTION)
        .iter()
        .map(|e| e.namespace.clone())
        .collect();
    assert!(namespaces.is_sorted());
    assert!(snapshot.keyed(PROCESSING_SECTION).is_empty());
}

#[test]
fn restoring_with_another_key_type_names_the_section() {
    let mut timers = TimerService::<u64, ()>::new();
    timers.register(TimeDomain::Processing, 1, HashedKey::of(&1), &());
    let mut snapshot = OperatorSnapshot::default();
    timers.snapshot(128, &mut snapshot);
    let error = TimerService::<String, ()>::new().restore(&snapshot).unwrap_err();
    assert!(error.chain().contains("timers/processing"), "{}", error.chain());
}
