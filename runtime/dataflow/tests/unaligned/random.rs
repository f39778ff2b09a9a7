//! Whatever happens in a run, a restore from any of its cuts is the uninterrupted run.

use crate::rig::*;
use hurtig_core::element::WatermarkStatus;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::MAX_WATERMARK;
use hurtig_core::{Barrier, Event, Result};
use hurtig_dataflow::chain::*;
use hurtig_exchange::BarrierMode;
use proptest::prelude::*;
use std::time::Duration;

/// What happens next in a run.
#[derive(Clone, Debug)]
enum Step {
    /// Records on a channel, which follow its earlier ones.
    Send(usize, i64),
    /// The channel's watermark.
    Watermark(usize),
    Idle(usize),
    /// What the channel brings turns to backlog, or ceases to be.
    Backlog(usize),
    Barrier(usize),
    Round,
    Drain(usize),
    Advance(u64),
}

fn step(inputs: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..inputs, 1_i64..4).prop_map(|(input, n)| Step::Send(input, n)),
        2 => (0..inputs).prop_map(Step::Watermark),
        1 => (0..inputs).prop_map(Step::Idle),
        2 => (0..inputs).prop_map(Step::Backlog),
        2 => (0..inputs).prop_map(Step::Barrier),
        4 => Just(Step::Round),
        1 => (1_usize..6).prop_map(Step::Drain),
        1 => (1_u64..4).prop_map(Step::Advance),
    ]
}

/// What the producer of a channel has sent: record `n` of it has the time `10 * n`.
#[derive(Clone, Debug, Default)]
struct Producer {
    sent: i64,
    idle: bool,
    /// How many were sent before the barrier of [`ONE`], and how far the watermark was.
    cut: Option<(i64, i64)>,
    watermark: i64,
    backlog: bool,
    /// The same before the barrier of [`ONE`].
    backlog_at_cut: bool,
    /// Which of its records are backlog.
    old: Vec<i64>,
}

impl Producer {
    /// One that has sent so many records in earlier lives.
    fn begin(sent: i64) -> Self {
        Self {
            sent,
            watermark: i64::MIN,
            ..Self::default()
        }
    }

    fn all(&self, input: i64) -> Vec<i64> {
        (0..self.sent).map(|n| input * 1_000 + n).collect()
    }

    fn send(&mut self, rig: &Rig, input: usize, n: i64) {
        if std::mem::take(&mut self.idle) {
            rig.event(input, Event::Status(WatermarkStatus::Active));
        }
        let records: Vec<(i64, i64)> = (self.sent..self.sent + n)
            .map(|n| (input as i64 * 1_000 + n, 10 * n))
            .collect();
        rig.send(input, &records);
        if self.backlog {
            self.old.extend(records.iter().map(|(record, _)| record));
        }
        self.sent += n;
    }

    fn turn(&mut self, rig: &Rig, input: usize, backlog: bool) {
        if std::mem::replace(&mut self.backlog, backlog) != backlog {
            rig.event(input, Event::Backlog(backlog));
        }
    }

    fn watermark(&mut self, rig: &Rig, input: usize) {
        let watermark = 10 * self.sent - 5;
        if !self.idle && watermark > self.watermark {
            self.watermark = watermark;
            rig.event(input, Event::Watermark(watermark));
        }
    }

    fn barrier(&mut self, rig: &Rig, input: usize, barrier: Barrier) {
        if self.cut.is_none() {
            self.cut = Some((self.sent, self.watermark));
            self.backlog_at_cut = self.backlog;
            rig.event(input, Event::Barrier(barrier));
        }
    }
}

fn per_channel(records: &[i64], inputs: usize) -> Vec<Vec<i64>> {
    let of = |input: i64| records.iter().copied().filter(move |n| n / 1_000 == input);
    (0..inputs as i64).map(|input| of(input).collect()).collect()
}

/// Whether any of these records came while the task was not in backlog.
fn taken_for_live(rig: &Rig, old: &[i64]) -> bool {
    rig.live.lock().unwrap().iter().any(|record| old.contains(record))
}

fn follow(rig: &mut Rig, producers: &mut [Producer], steps: &[Step], barrier: Option<Barrier>) {
    for step in steps {
        match *step {
            Step::Send(input, n) if rig.inputs[input].has_room() => producers[input].send(rig, input, n),
            Step::Send(..) => {}
            Step::Watermark(input) => producers[input].watermark(rig, input),
            Step::Idle(input) => {
                if !std::mem::replace(&mut producers[input].idle, true) {
                    rig.event(input, Event::Status(WatermarkStatus::Idle));
                }
            }
            Step::Backlog(input) => {
                let backlog = !producers[input].backlog;
                producers[input].turn(rig, input, backlog);
            }
            Step::Barrier(input) => {
                if let Some(barrier) = barrier {
                    producers[input].barrier(rig, input, barrier);
                }
            }
            Step::Round => drop(rig.round()),
            Step::Drain(n) => rig.drain(n),
            Step::Advance(ms) => rig.clock.advance(Duration::from_millis(ms)),
        }
    }
}

/// Lives that each end with a checkpoint, from which the next one begins.
fn live(
    build: &Build,
    lives: &[Vec<Step>],
    overtakes: Option<u64>,
    same_channels: bool,
) -> Result<(), TestCaseError> {
    let inputs = build.modes.len();
    let mut cut: Option<TaskCut> = None;
    let (mut sent, mut seen) = (vec![0; inputs], Vec::new());
    for (life, steps) in (1..).zip(lives) {
        let mut rig = match &cut {
            None => build.fresh(),
            Some(cut) => build.restored(cut, same_channels),
        };
        let mut producers: Vec<Producer> = sent.iter().map(|&sent| Producer::begin(sent)).collect();
        let last = life == lives.len() as u64;
        let id = CheckpointId(life);
        let barrier = overtakes.map_or(id.into(), |ms| after(id, ms));
        follow(&mut rig, &mut producers, steps, (!last).then_some(barrier));
        if last {
            (0..inputs).for_each(|input| rig.event(input, Event::EndOfInput));
            rig.finish();
            let all: Vec<Vec<i64>> = (0..).zip(&producers).map(|(at, one)| one.all(at)).collect();
            seen.extend(rig.left.concat());
            prop_assert_eq!(per_channel(&seen, inputs), all);
            return Ok(());
        }
        for (input, producer) in producers.iter_mut().enumerate() {
            producer.barrier(&rig, input, barrier);
            sent[input] = producer.cut.unwrap().0;
        }
        let mut taken = rig.core.take_cut();
        for _ in 0..10_000 {
            if taken.is_some() && rig.barrier_seen {
                break;
            }
            rig.round();
            rig.drain(3);
            taken = taken.or_else(|| rig.core.take_cut());
        }
        seen.extend(&rig.left[0]);
        let taken = taken.unwrap();
        prop_assert_eq!(&logged(&taken, "seen"), &seen);
        let idles = lives.iter().flatten().any(|step| matches!(step, Step::Idle(_)));
        prop_assert!(
            idles || logged(&taken, "late").is_empty(),
            "records of a replay were late"
        );
        cut = Some(taken);
    }
    Ok(())
}

fn play(build: &Build, steps: &[Step], barrier: Barrier, same_channels: bool) -> Result<(), TestCaseError> {
    let inputs = build.modes.len();
    let mut rig = build.fresh();
    let mut producers = vec![Producer::begin(0); inputs];
    follow(&mut rig, &mut producers, steps, Some(barrier));
    for (input, producer) in producers.iter_mut().enumerate() {
        producer.barrier(&rig, input, barrier);
        rig.event(input, Event::EndOfInput);
    }
    let mut cut = None;
    for _ in 0..10_000 {
        cut = cut.or_else(|| rig.core.take_cut());
        if rig.round() == Round::Finished {
            break;
        }
        rig.drain(3);
    }
    rig.drain(usize::MAX);
    let cut = cut.or_else(|| rig.core.take_cut()).unwrap();
    prop_assert_eq!(
        &logged(&cut, "seen"),
        &rig.left[0],
        "what left before the barrier is what was seen"
    );
    let all: Vec<Vec<i64>> = producers
        .iter()
        .enumerate()
        .map(|(input, producer)| producer.all(input as i64))
        .collect();
    prop_assert_eq!(
        &per_channel(&rig.left.concat(), inputs),
        &all,
        "the uninterrupted run"
    );
    let old: Vec<i64> = producers
        .iter()
        .flat_map(|producer| producer.old.clone())
        .collect();
    prop_assert!(!taken_for_live(&rig, &old), "backlog was taken for live");

    // The restored run: what was sent behind the barriers is sent again.
    let backlog: Vec<bool> = producers.iter().map(|producer| producer.backlog_at_cut).collect();
    let mut restored = build.restored_in_backlog(&cut, same_channels, &backlog);
    for (input, producer) in producers.iter().enumerate() {
        let (sent, _) = producer.cut.unwrap();
        let mut again = Producer::begin(sent);
        again.backlog = producer.backlog_at_cut;
        while again.sent < producer.sent {
            let old = producer.old.contains(&(input as i64 * 1_000 + again.sent));
            again.turn(&restored, input, old);
            again.send(&restored, input, 1);
            again.watermark(&restored, input);
        }
        restored.event(input, Event::EndOfInput);
    }
    restored.finish();
    let at_end = restored.core.stats();
    prop_assert!(!at_end.last().unwrap().backlog, "an end is no backlog");
    prop_assert!(
        !taken_for_live(&restored, &old),
        "backlog was taken for live after the restore"
    );
    let seen = [logged(&cut, "seen"), restored.left[0].clone()].concat();
    prop_assert_eq!(&per_channel(&seen, inputs), &all, "the restored run");
    prop_assert_eq!(restored.core.stats().last().unwrap().watermark, MAX_WATERMARK);
    if !steps.iter().any(|step| matches!(step, Step::Idle(_))) {
        let late = logged(&cut, "late");
        prop_assert!(late.is_empty(), "late: {:?}", late);
    }
    Ok(())
}

fn build() -> impl Strategy<Value = Build> {
    let mode = prop_oneof![4 => Just(BarrierMode::Overtakes), 1 => Just(BarrierMode::Blocks)];
    let modes = prop::collection::vec(mode, 2..4);
    (modes, any::<bool>(), 1_usize..4).prop_map(|(modes, two_inputs, room)| Build {
        modes,
        two_inputs,
        room,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]
    #[test]
    fn a_restore_from_any_cut_is_the_uninterrupted_run(
        build in build(),
        steps in prop::collection::vec(step(2), 0..60),
        overtakes in prop::option::weighted(0.9, 0_u64..6),
        same_channels in any::<bool>(),
    ) {
        let barrier = overtakes.map_or(ONE.into(), |ms| after(ONE, ms));
        play(&build, &steps, barrier, same_channels)?;
    }

    #[test]
    fn any_number_of_restores_is_the_uninterrupted_run(
        build in build(),
        lives in prop::collection::vec(prop::collection::vec(step(2), 0..40), 2..5),
        overtakes in prop::option::weighted(0.9, 0_u64..6),
        same_channels in any::<bool>(),
    ) {
        live(&build, &lives, overtakes, same_channels)?;
    }
}
