//! What is tested: combinations of assigner, trigger, evictor and lateness, and random inputs.

use proptest::prelude::*;

/// A record: key, value, session gap of its own.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Rec {
    pub(crate) key: u64,
    pub(crate) value: i64,
    pub(crate) gap: i64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Assign {
    Tumbling {
        size: i64,
        offset: i64,
    },
    Sliding {
        size: i64,
        slide: i64,
        offset: i64,
    },
    Cumulating {
        max: i64,
        step: i64,
    },
    Session {
        gap: i64,
    },
    DynamicSession,
    /// Custom, neither grid nor session: two windows by the value's parity.
    Parity {
        size: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Trig {
    Default,
    /// That of windows in the other kind of time.
    Foreign,
    Count(u64),
    ContinuousEvent(i64),
    ContinuousProcessing(i64),
    Delta(f64),
    EndOfStream,
    Never,
    /// Custom: fires at every second element, purges at others, and registers a timer at the element's time.
    Odd,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Evict {
    None,
    Count(usize, bool),
    Time(i64, bool),
    Delta(f64, bool),
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) assign: Assign,
    pub(crate) event_time: bool,
    pub(crate) trig: Trig,
    pub(crate) purging: bool,
    pub(crate) evict: Evict,
    pub(crate) lateness: i64,
    pub(crate) side: bool,
}

impl Case {
    /// The trigger that windows have of their own.
    pub(crate) fn by_default(assign: Assign, event_time: bool, (lateness, side): (i64, bool)) -> Self {
        Self {
            assign,
            event_time,
            trig: Trig::Default,
            purging: false,
            evict: Evict::None,
            lateness,
            side,
        }
    }

    /// Whether an aggregate of such windows has an operator of its own.
    pub(crate) fn is_fast(&self) -> bool {
        self.trig == Trig::Default
            && !self.purging
            && self.evict == Evict::None
            && !matches!(self.assign, Assign::Parity { .. })
    }

    pub(crate) fn is_merging(&self) -> bool {
        matches!(self.assign, Assign::Session { .. } | Assign::DynamicSession)
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Records with times relative to a base, within one batch; `hashed`: with a hash column.
    Records(Vec<(i64, Rec)>, bool),
    /// Advances the watermark by so much.
    Watermark(i64),
    /// Advances the clock by so much.
    Clock(i64),
    /// Replaces the operator by a new one that restores its snapshot.
    Restore,
    /// The same, but the watermark starts from the beginning again.
    Restart,
}

/// How the operator is driven.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drive {
    pub(crate) fuel: u32,
    pub(crate) limit: usize,
    /// Restores after every so many returns with `More`.
    pub(crate) restore_on_more: Option<u32>,
}

pub(crate) fn drive() -> impl Strategy<Value = Drive> {
    (
        prop_oneof![Just(1_u32), Just(2), Just(5), Just(100_000)],
        prop_oneof![Just(1_usize), Just(3), Just(100_000)],
        proptest::option::of(1_u32..4),
    )
        .prop_map(|(fuel, limit, restore_on_more)| Drive {
            fuel,
            limit,
            restore_on_more,
        })
}

pub(crate) fn grid() -> impl Strategy<Value = Assign> {
    prop_oneof![
        (1_i64..12, -11_i64..12).prop_map(|(size, offset)| Assign::Tumbling {
            size,
            offset: offset % size
        }),
        (1_i64..12, 1_i64..12, -11_i64..12).prop_map(|(size, slide, offset)| Assign::Sliding {
            size,
            slide,
            offset: offset % slide
        }),
        (1_i64..5, 1_i64..4).prop_map(|(n, step)| Assign::Cumulating { max: n * step, step }),
    ]
}

pub(crate) fn session() -> impl Strategy<Value = Assign> {
    prop_oneof![
        (1_i64..8).prop_map(|gap| Assign::Session { gap }),
        Just(Assign::DynamicSession)
    ]
}

pub(crate) fn assign() -> impl Strategy<Value = Assign> {
    prop_oneof![4 => grid(), 3 => session(), 1 => (2_i64..9).prop_map(|size| Assign::Parity { size })]
}

pub(crate) fn trig() -> impl Strategy<Value = Trig> {
    prop_oneof![
        3 => Just(Trig::Default),
        1 => Just(Trig::Foreign),
        2 => (1_u64..4).prop_map(Trig::Count),
        2 => (1_i64..7).prop_map(Trig::ContinuousEvent),
        1 => (1_i64..7).prop_map(Trig::ContinuousProcessing),
        1 => (0_i64..4).prop_map(|t| Trig::Delta(t as f64)),
        1 => Just(Trig::EndOfStream),
        1 => Just(Trig::Never),
        1 => Just(Trig::Odd),
    ]
}

pub(crate) fn evict() -> impl Strategy<Value = Evict> {
    prop_oneof![
        4 => Just(Evict::None),
        2 => (0_usize..4, any::<bool>()).prop_map(|(n, after)| Evict::Count(n, after)),
        2 => (0_i64..8, any::<bool>()).prop_map(|(ms, after)| Evict::Time(ms, after)),
        2 => (-2_i64..6, any::<bool>()).prop_map(|(t, after)| Evict::Delta(t as f64, after)),
    ]
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    (
        assign(),
        prop::bool::weighted(0.75),
        trig(),
        any::<bool>(),
        evict(),
        lateness(),
        any::<bool>(),
    )
        .prop_map(|(assign, event_time, trig, purging, evict, lateness, side)| {
            let mut case = Case {
                assign,
                event_time,
                trig,
                purging,
                evict,
                lateness,
                side,
            };
            if case.is_merging() && matches!(trig, Trig::Delta(_) | Trig::EndOfStream | Trig::Odd) {
                case.trig = Trig::Default;
            }
            case
        })
}

pub(crate) fn lateness() -> impl Strategy<Value = i64> {
    prop_oneof![2 => Just(0_i64), 3 => 1_i64..15, 1 => Just(i64::MAX)]
}

fn record() -> impl Strategy<Value = (i64, Rec)> {
    (-25_i64..15, 0_u64..4, -3_i64..10, 1_i64..6)
        .prop_map(|(t, key, value, gap)| (t, Rec { key, value, gap }))
}

/// Input around a moving watermark: some records are on time, some late, some too late.
pub(crate) fn steps(restart: bool) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (prop::collection::vec(record(), 1..12), any::<bool>()).prop_map(|(r, h)| Step::Records(r, h)),
        4 => (0_i64..12).prop_map(Step::Watermark),
        3 => (1_i64..8).prop_map(Step::Clock),
        1 => Just(if restart { Step::Restart } else { Step::Restore }),
        1 => Just(Step::Restore),
    ];
    prop::collection::vec(step, 1..40)
}
