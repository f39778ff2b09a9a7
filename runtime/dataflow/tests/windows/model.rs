//! What windows mean, written naively from the definitions: one list of windows for each key, every
//! question answered by looking at all of them.

use crate::case::{Assign, Case, Evict, Rec, Trig};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// A result: key, window, its values, its timestamp.
pub(crate) type Fired = (u64, (i64, i64), Vec<i64>, i64);

#[derive(Clone, Debug, Default)]
struct Win {
    start: i64,
    end: i64,
    elements: Vec<(i64, i64)>,
    count: u64,
    next: Option<i64>,
    last: Option<i64>,
    event_timers: BTreeSet<i64>,
    clock_timers: BTreeSet<i64>,
}

/// The values after which [`Trig::Odd`] purges.
pub(crate) const PURGING: [i64; 2] = [2, 5];

pub(crate) struct Model {
    pub(crate) case: Case,
    wins: BTreeMap<u64, Vec<Win>>,
    pub(crate) wm: i64,
    pub(crate) clock: i64,
    pub(crate) out: Vec<Fired>,
    pub(crate) late: Vec<(i64, Rec)>,
}

/// `k` such that `k * unit <= x < (k + 1) * unit`, by counting.
fn floor(x: i64, unit: i64) -> i64 {
    let mut k = x / unit;
    while k * unit > x {
        k -= 1;
    }
    while (k + 1) * unit <= x {
        k += 1;
    }
    k
}

pub(crate) fn windows(assign: Assign, time: i64, rec: &Rec) -> Vec<(i64, i64)> {
    match assign {
        Assign::Tumbling { size, offset } => {
            let k = floor(time - offset, size);
            vec![(k * size + offset, (k + 1) * size + offset)]
        }
        Assign::Sliding { size, slide, offset } => {
            let all = (-60..60).map(|k| k * slide + offset + floor(time, slide) * slide);
            all.filter(|s| *s <= time && time < s + size)
                .map(|s| (s, s + size))
                .collect()
        }
        Assign::Cumulating { max, step } => {
            let start = floor(time, max) * max;
            let all = (1..=max / step).map(|n| (start, start + n * step));
            all.filter(|w| time < w.1).collect()
        }
        Assign::Session { gap } => vec![(time, time + gap)],
        Assign::DynamicSession => vec![(time, time + rec.gap)],
        Assign::Parity { size } => {
            let odd = rec.value.rem_euclid(2);
            vec![(time - odd, time - odd + size), (time, time + 2 * size)]
        }
    }
}

impl Win {
    fn max(&self) -> i64 {
        self.end - 1
    }
}

impl Model {
    pub(crate) fn new(case: Case) -> Self {
        Self {
            case,
            wins: BTreeMap::new(),
            wm: i64::MIN,
            clock: 0,
            out: vec![],
            late: vec![],
        }
    }

    fn cleanup(&self, max: i64) -> i64 {
        if self.case.event_time {
            max.checked_add(self.case.lateness).unwrap_or(i64::MAX)
        } else {
            max
        }
    }

    pub(crate) fn record(&mut self, time: i64, rec: &Rec) {
        let at = if self.case.event_time { time } else { self.clock };
        let mut wanted = false;
        for (start, end) in windows(self.case.assign, at, rec) {
            let merged = if self.case.is_merging() {
                self.take_touching(rec.key, (start, end))
            } else {
                vec![]
            };
            let old: Vec<_> = merged.iter().map(|w| (w.start, w.end)).collect();
            let (start, end) = merged
                .iter()
                .fold((start, end), |(s, e), w| (s.min(w.start), e.max(w.end)));
            if self.case.event_time && self.cleanup(end - 1) <= self.wm {
                assert!(merged.is_empty());
                continue;
            }
            wanted = true;
            let mut win = self.joined(merged, old == [(start, end)], (rec.key, start, end));
            win.elements.push((time, rec.value));
            let fire = self.on_element(&mut win, time, rec.value);
            self.fired(&mut win, rec.key, fire);
            self.purge(&mut win, rec.value);
            let cleanup = self.cleanup(win.max());
            if cleanup != i64::MAX {
                self.timers(&mut win).insert(cleanup);
            }
            self.wins.entry(rec.key).or_default().push(win);
        }
        if !wanted && self.case.event_time && time.saturating_add(self.case.lateness) <= self.wm {
            self.late.push((time, rec.clone()));
        }
    }

    fn timers<'a>(&self, win: &'a mut Win) -> &'a mut BTreeSet<i64> {
        if self.case.event_time {
            &mut win.event_timers
        } else {
            &mut win.clock_timers
        }
    }

    /// Takes out all windows of the key that overlap or touch, the earliest first.
    fn take_touching(&mut self, key: u64, (start, end): (i64, i64)) -> Vec<Win> {
        let all = self.wins.remove(&key).unwrap_or_default();
        let (mut touching, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|w| w.start <= end && start <= w.end);
        self.wins.insert(key, rest);
        touching.sort_by_key(|w| w.start);
        touching
    }

    /// The window an element goes to, from those that it merged.
    fn joined(&mut self, merged: Vec<Win>, unchanged: bool, (key, start, end): (u64, i64, i64)) -> Win {
        if unchanged {
            return merged.into_iter().next().unwrap();
        }
        if merged.is_empty() {
            let wins = self.wins.entry(key).or_default();
            if let Some(i) = wins.iter().position(|w| (w.start, w.end) == (start, end)) {
                return wins.remove(i);
            }
            return Win {
                start,
                end,
                ..Win::default()
            };
        }
        let mut win = Win {
            start,
            end,
            ..Win::default()
        };
        for old in merged {
            win.elements.extend(old.elements);
            win.count += old.count;
            win.next = [win.next, old.next].into_iter().flatten().min();
        }
        let max = win.max();
        match self.case.trig {
            Trig::Default | Trig::Foreign if self.fires_by_watermark() => {
                win.event_timers.extend((max > self.wm).then_some(max));
            }
            Trig::Default | Trig::Foreign => win.clock_timers.extend((max > self.clock).then_some(max)),
            Trig::ContinuousEvent(_) => win.event_timers.extend(win.next),
            Trig::ContinuousProcessing(_) => win.clock_timers.extend(win.next),
            _ => {}
        }
        win
    }

    fn on_element(&self, win: &mut Win, time: i64, value: i64) -> bool {
        let max = win.max();
        match self.case.trig {
            Trig::Default | Trig::Foreign if self.fires_by_watermark() => {
                if max > self.wm {
                    win.event_timers.insert(max);
                }
                max <= self.wm
            }
            Trig::Default | Trig::Foreign => {
                win.clock_timers.insert(max);
                false
            }
            Trig::Count(n) => {
                win.count += 1;
                let fire = win.count >= n;
                if fire {
                    win.count = 0;
                }
                fire
            }
            Trig::ContinuousEvent(every) => {
                if max <= self.wm {
                    return true;
                }
                win.event_timers.insert(max);
                if win.next.is_none() {
                    let next = (time - time % every + every).min(max);
                    win.next = Some(next);
                    win.event_timers.insert(next);
                }
                false
            }
            Trig::ContinuousProcessing(every) => {
                if win.next.is_none() {
                    let next = (self.clock - self.clock % every + every).min(max);
                    win.next = Some(next);
                    win.clock_timers.insert(next);
                }
                false
            }
            Trig::Delta(threshold) => {
                let far = win.last.is_some_and(|last| (value - last) as f64 > threshold);
                if far || win.last.is_none() {
                    win.last = Some(value);
                }
                far
            }
            Trig::EndOfStream => {
                win.event_timers.insert(i64::MAX);
                false
            }
            Trig::Never => false,
            Trig::Odd => {
                win.event_timers.insert(time);
                win.count += 1;
                win.count % 2 == 1
            }
        }
    }

    /// Whether the default trigger, or the one of the other kind of time, asks for event time.
    fn fires_by_watermark(&self) -> bool {
        self.case.event_time == (self.case.trig == Trig::Default)
    }

    /// The custom trigger purges without firing, after elements with some values.
    fn purge(&self, win: &mut Win, value: i64) {
        if self.case.trig == Trig::Odd && PURGING.contains(&value) && win.count.is_multiple_of(2) {
            win.elements.clear();
        }
    }

    /// How many windows are to be remembered, at least and at most, and how many timers of either kind.
    pub(crate) fn remembered(&self) -> (RangeInclusive<usize>, [usize; 2]) {
        let wins = || self.wins.values().flatten();
        let forgotten = |win: &&Win| self.is_forgotten(win);
        let full = wins().filter(|win| !win.elements.is_empty()).count();
        let timers = [
            wins().map(|win| win.event_timers.len()).sum(),
            wins().map(|win| win.clock_timers.len()).sum(),
        ];
        (full..=wins().count() - wins().filter(forgotten).count(), timers)
    }

    /// A window that was purged and would be remembered for ever.
    fn is_forgotten(&self, win: &Win) -> bool {
        self.case.purging
            && self.case.evict == Evict::None
            && !self.case.is_merging()
            && self.cleanup(win.max()) == i64::MAX
            && win.elements.is_empty()
            && (win.count, win.next, win.last) == (0, None, None)
    }

    fn on_event_timer(&self, win: &mut Win, time: i64) -> bool {
        match self.case.trig {
            Trig::Default | Trig::Foreign => self.fires_by_watermark() && time == win.max(),
            Trig::ContinuousEvent(every) => {
                if time == win.max() {
                    return true;
                }
                if win.next != Some(time) {
                    return false;
                }
                let next = (time + every).min(win.max());
                win.next = Some(next);
                win.event_timers.insert(next);
                true
            }
            Trig::EndOfStream => time == i64::MAX,
            Trig::Odd => win.count.is_multiple_of(2),
            _ => false,
        }
    }

    fn on_clock_timer(&self, win: &mut Win, time: i64) -> bool {
        match self.case.trig {
            Trig::Default | Trig::Foreign => !self.fires_by_watermark() && time == win.max(),
            Trig::ContinuousProcessing(every) if win.next == Some(time) => {
                let next = (time + every).min(win.max());
                win.next = None;
                if next > time {
                    win.next = Some(next);
                    win.clock_timers.insert(next);
                }
                true
            }
            _ => false,
        }
    }

    /// Emits a window that fires, evicting, and forgets its elements when the trigger purges.
    fn fired(&mut self, win: &mut Win, key: u64, fire: bool) {
        if !fire {
            return;
        }
        if !win.elements.is_empty() {
            evict(self.case.evict, false, &mut win.elements);
            let values = win.elements.iter().map(|e| e.1).collect();
            self.out.push((key, (win.start, win.end), values, win.max()));
            evict(self.case.evict, true, &mut win.elements);
        }
        if self.case.purging {
            win.elements.clear();
        }
    }

    pub(crate) fn watermark(&mut self, wm: i64) {
        self.wm = wm;
        self.run_timers(true, wm);
    }

    pub(crate) fn clock(&mut self, now: i64) {
        self.clock = now;
        self.run_timers(false, now - 1);
    }

    fn run_timers(&mut self, event: bool, up_to: i64) {
        let timers = |w: &Win| {
            if event {
                w.event_timers.first().copied()
            } else {
                w.clock_timers.first().copied()
            }
        };
        loop {
            let due = self.wins.iter().flat_map(|(key, wins)| {
                wins.iter()
                    .enumerate()
                    .filter_map(move |(i, w)| Some((timers(w)?, *key, i)))
            });
            let Some((time, key, i)) = due.min().filter(|d| d.0 <= up_to) else {
                return;
            };
            let mut win = self.wins.get_mut(&key).unwrap().remove(i);
            let (fire, cleanup) = if event {
                win.event_timers.remove(&time);
                (self.on_event_timer(&mut win, time), self.case.event_time)
            } else {
                win.clock_timers.remove(&time);
                (self.on_clock_timer(&mut win, time), !self.case.event_time)
            };
            self.fired(&mut win, key, fire);
            if !(cleanup && time == self.cleanup(win.max())) {
                self.wins.get_mut(&key).unwrap().push(win);
            }
        }
    }
}

fn evict(how: Evict, after_call: bool, elements: &mut Vec<(i64, i64)>) {
    match how {
        Evict::Count(n, after) if after == after_call => {
            while elements.len() > n {
                elements.remove(0);
            }
        }
        Evict::Time(ms, after) if after == after_call => {
            if let Some(latest) = elements.iter().map(|e| e.0).max() {
                elements.retain(|e| e.0 > latest - ms);
            }
        }
        Evict::Delta(threshold, after) if after == after_call => {
            if let Some(&(_, last)) = elements.last() {
                elements.retain(|e| ((e.1 - last).abs() as f64) < threshold);
            }
        }
        _ => {}
    }
}
