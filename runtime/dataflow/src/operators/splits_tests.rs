//! Watermarks of splits, case by case and against a naive model.

use super::*;
use crate::operators::watermark::Watermarks;
use WatermarkStatus::{Active, Idle};
use hurtig_core::time::{DurationExt, NO_TIMESTAMP};

fn at(ms: u64) -> Time {
    Time::from_nanos(ms * 1_000_000)
}

fn bounded(interval_ms: u64) -> SplitWatermarks<i64> {
    let strategy = Watermarks::bounded(5.millis(), |t: &i64| *t).with_idleness(100.millis());
    SplitWatermarks::new(strategy, interval_ms.millis())
}

fn wm(watermark: i64) -> WatermarkUpdate {
    WatermarkUpdate {
        watermark: Some(watermark),
        status: None,
    }
}

fn feed(splits: &mut SplitWatermarks<i64>, split: u64, times: &[i64], ms: u64) {
    splits.on_batch(split, &mut Batch::from_records(times.to_vec()), at(ms));
}

#[test]
fn times_come_from_the_record() {
    let mut splits = bounded(0);
    let mut batch = Batch::from_records(vec![30, 10]);
    splits.on_batch(0, &mut batch, at(0));
    assert_eq!(batch.each_time(), Some(&[30, 10][..]));
    assert_eq!(splits.poll(at(0)), wm(30 - 5 - 1));
}

#[test]
fn the_slowest_split_decides_until_it_has_finished() {
    let mut splits = bounded(0);
    splits.split_added(2, at(0));
    feed(&mut splits, 1, &[1_000], 0);
    assert_eq!(
        splits.poll(at(0)),
        WatermarkUpdate::NONE,
        "split 2 has said nothing yet"
    );
    feed(&mut splits, 2, &[500], 1);
    assert_eq!(splits.poll(at(1)), wm(494));
    splits.split_finished(2);
    assert_eq!(splits.poll(at(2)), wm(994));
    feed(&mut splits, 3, &[10], 3);
    assert_eq!(splits.poll(at(3)), WatermarkUpdate::NONE, "never backwards");
    assert_eq!(splits.finish(), wm(MAX_WATERMARK));
}

#[test]
fn what_a_finished_split_knew_is_not_lost() {
    let mut splits = bounded(0);
    feed(&mut splits, 1, &[100], 0);
    splits.split_finished(1);
    assert_eq!(splits.poll(at(0)), wm(94));
}

#[test]
fn watermarks_are_sent_once_in_an_interval() {
    let mut splits = bounded(5);
    feed(&mut splits, 0, &[10], 0);
    assert_eq!(splits.poll(at(0)), wm(4));
    feed(&mut splits, 0, &[20], 1);
    assert_eq!(splits.poll(at(1)), WatermarkUpdate::NONE);
    assert_eq!(splits.next_poll(at(1)), Some(at(5)));
    assert_eq!(splits.poll(at(5)), wm(14));
}

#[test]
fn a_silent_split_turns_idle_and_lets_the_other_go_on() {
    let mut splits = bounded(0);
    feed(&mut splits, 1, &[10], 0);
    feed(&mut splits, 2, &[50], 0);
    assert_eq!(splits.poll(at(0)), wm(4));
    feed(&mut splits, 2, &[60], 60);
    assert_eq!(splits.poll(at(60)), WatermarkUpdate::NONE);
    assert_eq!(splits.next_poll(at(60)), Some(at(100)));
    assert_eq!(splits.poll(at(100)), wm(54));
    assert_eq!(
        splits.poll(at(160)),
        WatermarkUpdate {
            watermark: None,
            status: Some(Idle)
        }
    );
    feed(&mut splits, 1, &[200], 170);
    assert_eq!(
        splits.poll(at(170)),
        WatermarkUpdate {
            watermark: Some(194),
            status: Some(Active)
        }
    );
}

#[test]
fn idleness_is_not_measured_under_back_pressure() {
    let mut splits = bounded(0);
    feed(&mut splits, 1, &[10], 0);
    assert_eq!(splits.poll(at(0)), wm(4));
    splits.set_back_pressured(true, at(50));
    assert_eq!(splits.next_poll(at(60)), None);
    assert_eq!(splits.poll(at(1_000)), WatermarkUpdate::NONE);
    splits.set_back_pressured(false, at(1_050));
    assert_eq!(splits.poll(at(1_099)), WatermarkUpdate::NONE);
    assert_eq!(
        splits.poll(at(1_100)),
        WatermarkUpdate {
            watermark: None,
            status: Some(Idle)
        }
    );
}

#[test]
fn a_reader_without_splits_turns_idle_too() {
    let mut splits = bounded(0);
    assert_eq!(splits.poll(at(0)), WatermarkUpdate::NONE);
    assert_eq!(splits.next_poll(at(10)), Some(at(100)));
    assert_eq!(
        splits.poll(at(100)),
        WatermarkUpdate {
            watermark: None,
            status: Some(Idle)
        }
    );
    splits.split_added(1, at(110));
    assert_eq!(
        splits.poll(at(110)),
        WatermarkUpdate {
            watermark: None,
            status: Some(Active)
        }
    );
}

#[test]
fn punctuated_watermarks_come_from_records() {
    let strategy = Watermarks::punctuated(|t: &i64| *t, |t, time| (t % 10 == 0).then_some(time));
    let mut splits = SplitWatermarks::new(strategy, Duration::ZERO);
    feed(&mut splits, 0, &[7, 40, 41], 0);
    assert_eq!(splits.poll(at(0)), wm(40));
}

#[test]
fn none_keeps_quiet_and_custom_speaks_by_the_clock() {
    struct Counting(i64);
    impl WatermarkGenerator<i64> for Counting {
        fn on_event(&mut self, _: &i64, _: i64, out: &mut WatermarkOutput) {
            self.0 += 100;
            out.mark_active();
        }
        fn on_periodic(&mut self, out: &mut WatermarkOutput) {
            self.0 += 1;
            out.emit(self.0);
        }
        fn by_clock(&self) -> bool {
            true
        }
    }
    let mut silent = SplitWatermarks::new(Watermarks::none(), Duration::ZERO);
    feed(&mut silent, 0, &[7], 0);
    assert_eq!(silent.poll(at(0)), WatermarkUpdate::NONE);
    let mut custom = SplitWatermarks::new(Watermarks::custom(|t: &i64| *t, || Counting(0)), 5.millis());
    feed(&mut custom, 0, &[1, 2], 0);
    assert_eq!(custom.poll(at(0)), wm(201));
    assert_eq!(custom.next_poll(at(1)), Some(at(6)));
    assert_eq!(custom.poll(at(6)), wm(202));
}

#[test]
fn records_without_time_say_nothing() {
    let mut splits = SplitWatermarks::new(Watermarks::monotonous_by_record_time::<i64>(), Duration::ZERO);
    feed(&mut splits, 0, &[5], 0);
    assert_eq!(splits.poll(at(0)), WatermarkUpdate::NONE);
    let mut batch = Batch::new();
    batch.push(1, 10);
    batch.push(2, NO_TIMESTAMP);
    splits.on_batch(0, &mut batch, at(1));
    assert_eq!(splits.poll(at(1)), wm(9));
}

#[test]
fn each_split_publishes_its_watermark_and_its_time() {
    use hurtig_core::metrics::{MetricRegistry, MetricScope, MetricValue};
    let registry = MetricRegistry::new(100);
    let mut splits = bounded(0).with_metrics(registry.group(MetricScope::root()));
    let read = |split: &str, name: &str| {
        let of = |scope: &MetricScope| scope.get("split") == Some(split);
        let samples = registry.samples();
        let found = samples
            .iter()
            .find(|sample| of(&sample.scope) && sample.name == format!("watermark.{name}"));
        found.map(|sample| match &sample.value {
            MetricValue::Counter(count) => i64::try_from(*count).unwrap_or(i64::MAX),
            MetricValue::Gauge(value) => *value,
            other => panic!("{other:?}"),
        })
    };
    feed(&mut splits, 1, &[1_000], 0);
    feed(&mut splits, 2, &[500], 0);
    let _ = splits.poll(at(0));
    feed(&mut splits, 2, &[700], 90);
    let _ = splits.poll(at(90));
    splits.publish(at(90));
    assert_eq!(read("1", "currentWatermark"), Some(994));
    assert_eq!(read("2", "currentWatermark"), Some(694));
    assert_eq!(read("1", "accumulatedActiveTimeMs"), Some(90));
    // Split 1 turns idle when its time is up, and is active again at its next record.
    let _ = splits.poll(at(100));
    splits.publish(at(150));
    assert_eq!(read("1", "accumulatedActiveTimeMs"), Some(100));
    assert_eq!(read("1", "accumulatedIdleTimeMs"), Some(50));
    feed(&mut splits, 1, &[1_200], 180);
    let _ = splits.poll(at(180));
    splits.publish(at(185));
    assert_eq!(read("1", "accumulatedActiveTimeMs"), Some(105));
    assert_eq!(read("1", "accumulatedIdleTimeMs"), Some(80));
    assert_eq!(read("1", "currentWatermark"), Some(1_194));
    assert_eq!(read("2", "accumulatedActiveTimeMs"), Some(185));
    splits.split_finished(1);
    assert_eq!(
        read("1", "currentWatermark"),
        None,
        "a finished split has no metrics"
    );
    assert!(read("2", "currentWatermark").is_some());
}

fn on_event(gap: u32) -> SplitWatermarks<i64> {
    let strategy = Watermarks::bounded(5.millis(), |t: &i64| *t).with_idleness(100.millis());
    SplitWatermarks::new(strategy.with_emit_on_event(gap), 10.millis())
}

#[test]
fn with_a_gap_records_decide_when_a_watermark_is_sent_and_the_clock_does_not() {
    let mut splits = on_event(3);
    assert_eq!(splits.room(), Some(3));
    feed(&mut splits, 0, &[10, 20], 0);
    assert_eq!(splits.room(), Some(1));
    assert_eq!(splits.poll(at(0)), WatermarkUpdate::NONE, "two records");
    assert_eq!(
        splits.poll(at(50)),
        WatermarkUpdate::NONE,
        "whatever the clock says"
    );
    feed(&mut splits, 0, &[15], 50);
    assert_eq!(splits.poll(at(50)), wm(14), "behind the third, however soon");
    assert_eq!(splits.room(), Some(3));
    feed(&mut splits, 0, &[30, 40, 50], 51);
    assert_eq!(splits.poll(at(51)), wm(44), "the interval does not count");
}

#[test]
fn each_split_counts_its_own_records() {
    let mut splits = on_event(2);
    feed(&mut splits, 0, &[100], 0);
    feed(&mut splits, 1, &[10], 0);
    feed(&mut splits, 1, &[20], 0);
    assert_eq!(splits.poll(at(0)), WatermarkUpdate::NONE, "split 0 holds it back");
    assert_eq!(
        splits.room(),
        Some(1),
        "the next record may be the second of split 0"
    );
    feed(&mut splits, 0, &[200], 0);
    assert_eq!(splits.poll(at(0)), wm(14));
    splits.split_finished(1);
    assert_eq!(splits.poll(at(0)), wm(194));
    feed(&mut splits, 2, &[300], 1);
    splits.split_finished(2);
    assert_eq!(splits.poll(at(1)), WatermarkUpdate::NONE, "split 0 is at 194");
    splits.split_finished(0);
    feed(&mut splits, 3, &[400], 2);
    splits.split_finished(3);
    assert_eq!(splits.poll(at(2)), wm(394), "what a finished split knew counts");
}

#[test]
fn punctuated_watermarks_wait_for_the_gap_too() {
    let strategy = Watermarks::punctuated(|t: &i64| *t, |_, time| Some(time)).with_emit_on_event(2);
    let mut splits = SplitWatermarks::new(strategy, 0.millis());
    feed(&mut splits, 0, &[10], 0);
    assert_eq!(splits.poll(at(0)), WatermarkUpdate::NONE);
    feed(&mut splits, 0, &[20], 1);
    assert_eq!(splits.poll(at(1)), wm(20));
}

#[test]
fn idleness_goes_by_the_clock_whatever_decides_about_watermarks() {
    let mut splits = on_event(100);
    feed(&mut splits, 0, &[10], 0);
    assert_eq!(splits.poll(at(0)), WatermarkUpdate::NONE);
    assert_eq!(splits.next_poll(at(0)), Some(at(100)));
    let turned = |status| WatermarkUpdate {
        watermark: None,
        status: Some(status),
    };
    assert_eq!(splits.poll(at(100)), turned(Idle));
    feed(&mut splits, 0, &[20], 105);
    let next = splits.next_poll(at(105)).unwrap();
    assert_eq!(splits.poll(next), turned(Active));
}

#[test]
fn options_say_what_builders_say() {
    let strategy = |options: &[(&str, &str)]| {
        Watermarks::monotonous(|t: &i64| *t)
            .with_idleness(7.seconds())
            .with_options(options.iter().copied())
            .unwrap()
    };
    let said = |options: &[(&str, &str)]| {
        let strategy = strategy(options);
        (strategy.on_event_gap(), strategy.idleness())
    };
    let (emit, gap, idle) = (
        "scan.watermark.emit.strategy",
        "scan.watermark.emit.on-event.gap",
        "scan.watermark.idle-timeout",
    );
    assert_eq!(said(&[]), (None, Some(7.seconds())));
    assert_eq!(said(&[(emit, "on-event")]), (Some(1), Some(7.seconds())));
    assert_eq!(said(&[(emit, "on-event"), (gap, "5")]).0, Some(5));
    assert_eq!(said(&[(gap, "5")]).0, None, "by the clock it does not count");
    assert_eq!(said(&[(idle, "1 min")]).1, Some(60.seconds()));
    assert_eq!(said(&[(idle, "0")]).1, None);
    // A hint behind a definition changes what it mentions.
    let defined = strategy(&[(emit, "on-event"), (gap, "5")]);
    let hinted = defined.clone().with_options([(idle, "1 s")]).unwrap();
    assert_eq!(
        (hinted.on_event_gap(), hinted.idleness()),
        (Some(5), Some(1.seconds()))
    );
    assert_eq!(defined.with_emit_on_periodic().on_event_gap(), None);
    let error =
        Watermarks::none::<i64>().with_options([(gap, "many"), ("scan.watermark.alignment.group", "a")]);
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains(gap) && error.contains("many") && error.contains("not aligned yet"),
        "{error}"
    );
}
