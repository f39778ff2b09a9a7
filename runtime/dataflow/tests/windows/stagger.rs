//! Tumbling windows of parallel subtasks that do not end together.

use crate::case::Rec;
use crate::driver::snapshot_of;
use hurtig_core::time::ManualClock;
use hurtig_core::{Batch, UserError};
use hurtig_dataflow::key::ByValue;
use hurtig_dataflow::operator::{
    Budget, Collector, OpenContext, Operator, Services, SideOutputs, SubtaskInfo,
};
use hurtig_dataflow::windows::spec::WindowOperatorBox;
use hurtig_dataflow::windows::*;
use hurtig_state::OperatorSnapshot;
use std::collections::BTreeSet;
use std::time::Duration;

const SIZE: i64 = 1_000;

/// Emits where a window begins and ends.
struct Bounds;

impl ProcessWindowFunction<Rec, u64, TimeWindow, (i64, i64)> for Bounds {
    type WindowState = ();
    type GlobalState = ();

    fn process(
        &mut self,
        _: &u64,
        cx: &mut WindowContext<'_, TimeWindow>,
        _: Elements<'_, Rec>,
        out: &mut Collector<(i64, i64)>,
    ) -> Result<(), UserError> {
        out.push((cx.window.start, cx.window.end));
        Ok(())
    }
}

/// A window operator of either kind, in one subtask at a time of the clock.
struct Subtask {
    operator: WindowOperatorBox<Rec, (i64, i64)>,
    services: Services,
}

impl Subtask {
    fn open(
        (stagger, general): (WindowStagger, bool),
        (index, now): (u32, i64),
        restored: Option<&OperatorSnapshot>,
    ) -> Self {
        let assigner = TumblingWindows::event_time(Duration::from_millis(SIZE as u64))
            .and_then(|windows| windows.with_offset(-100)?.with_stagger(stagger))
            .unwrap();
        let selector = ByValue::new(|rec: &Rec| rec.key);
        let spec = WindowSpec::new(assigner);
        let mut operator = match general {
            true => spec.process(selector, Bounds).unwrap(),
            false => spec.reduce_then(selector, |_: &mut Rec, _| {}, Bounds).unwrap(),
        };
        let clock = ManualClock::new();
        clock.set_wall_ms(now);
        let info = SubtaskInfo {
            index,
            ..SubtaskInfo::single("windows")
        };
        let services = Services::new(info, clock, SideOutputs::default());
        operator.open(&mut OpenContext::new(&services, restored)).unwrap();
        Self { operator, services }
    }

    fn feed(&mut self, time: i64) {
        let mut batch = Batch::new();
        batch.push(
            Rec {
                key: 1,
                value: 0,
                gap: 1,
            },
            time,
        );
        let (mut out, mut budget) = (Collector::default(), Budget::new(1_000));
        self.operator
            .process(&mut batch, self.services.cx(), &mut out, &mut budget)
            .unwrap();
    }

    /// The windows that have fired at the end of time.
    fn windows(&mut self) -> Vec<(i64, i64)> {
        let mut out = Collector::default();
        self.services.set_watermark(i64::MAX);
        self.operator
            .on_watermark(i64::MAX, self.services.cx(), &mut out, &mut Budget::new(1_000))
            .unwrap();
        std::iter::from_fn(|| out.batch().pop_front())
            .map(|(window, _)| window)
            .collect()
    }
}

/// How far the windows of a subtask are shifted, 0 to `SIZE`.
fn shift(stagger: WindowStagger, general: bool, index: u32, now: i64) -> i64 {
    let mut subtask = Subtask::open((stagger, general), (index, now), None);
    subtask.feed(5_000);
    let windows = subtask.windows();
    let [(start, end)] = windows[..] else {
        panic!("one window holds a record: {windows:?}");
    };
    assert!(
        start <= 5_000 && 5_000 < end && end - start == SIZE,
        "{start} {end}"
    );
    start.rem_euclid(SIZE)
}

#[test]
fn aligned_windows_lie_at_their_offset_everywhere() {
    for general in [false, true] {
        for index in 0..4 {
            assert_eq!(shift(WindowStagger::Aligned, general, index, 77), 900);
        }
    }
}

#[test]
fn random_windows_are_spread_and_stay_where_they_are() {
    let shifts = |general, now| -> Vec<i64> {
        (0..64)
            .map(|index| shift(WindowStagger::Random, general, index, now))
            .collect()
    };
    let first = shifts(false, 0);
    assert_eq!(first, shifts(false, 12_345), "after a restart");
    assert_eq!(first, shifts(true, 0), "by the general operator");
    assert!(first.iter().collect::<BTreeSet<_>>().len() > 55, "{first:?}");
    for quarter in 0..4 {
        let within = first.iter().filter(|shift| **shift / 250 == quarter).count();
        assert!((4..=32).contains(&within), "{within} of 64 in quarter {quarter}");
    }
}

#[test]
fn natural_windows_begin_when_their_subtask_does() {
    for general in [false, true] {
        // -100 and what has passed of a second.
        assert_eq!(shift(WindowStagger::Natural, general, 0, 7_250), 150);
        assert_eq!(shift(WindowStagger::Natural, general, 3, 7_050), 950);
        assert_eq!(shift(WindowStagger::Natural, general, 3, 7_999), 899);
    }
}

#[test]
fn windows_that_were_open_keep_their_bounds_when_a_restart_shifts_the_next() {
    for general in [false, true] {
        let natural = (WindowStagger::Natural, general);
        let mut before = Subtask::open(natural, (0, 7_250), None);
        before.feed(5_000);
        let snapshot = snapshot_of(&mut *before.operator, &before.services);
        let mut after = Subtask::open(natural, (0, 9_750), Some(&snapshot));
        after.feed(8_000);
        // Shifted by 250 - 100 before, and by 750 - 100 after.
        assert_eq!(after.windows(), [(4_150, 5_150), (7_650, 8_650)]);
    }
}

#[test]
fn only_tumbling_windows_are_staggered() {
    let ms = Duration::from_millis;
    let error = SlidingWindows::event_time(ms(10), ms(5))
        .and_then(|windows| windows.with_stagger(WindowStagger::Random))
        .unwrap_err();
    assert!(
        error.chain().contains("only tumbling windows"),
        "{}",
        error.chain()
    );
}
