use super::*;
use crate::error::Delivery;
use crate::frame::{FrameDecoder, Header, MAX_FRAME_BODY, encode_frame};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const TERMS: Terms = Terms {
    version: 1,
    max_message: 300_000,
    max_in_flight: 64,
    max_queued_bytes: 64 << 20,
    heartbeat_interval: Duration::from_secs(2),
    heartbeat_timeout: Duration::from_secs(8),
};

fn secs(seconds: u64) -> Time {
    Time::ZERO.after(Duration::from_secs(seconds))
}

fn message(id: u64, lane: Lane, size: usize) -> Outgoing {
    let patience = Duration::from_secs(10);
    Outgoing {
        id,
        lane,
        stamp: None,
        trace: TraceContext::default(),
        endpoint: "rm".into(),
        message: "register",
        since: 1,
        body: vec![u8::try_from(id % 251).unwrap(); size],
        deadline: id
            .is_multiple_of(2)
            .then(|| (Time::ZERO.after(patience), patience)),
        bytes: None,
        slot: None,
    }
}

/// One end: a brain, the bytes on their way to it, and its effects.
struct End {
    brain: ConnectionBrain,
    decoder: FrameDecoder,
    wire: Vec<u8>,
    effects: Vec<Effect>,
}

impl End {
    fn new(terms: Terms) -> Self {
        Self {
            brain: ConnectionBrain::new(terms, "the peer".to_owned(), Time::ZERO),
            decoder: FrameDecoder::new(),
            wire: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// Takes up to `bytes` of those on their way.
    fn read(&mut self, now: Time, bytes: usize) {
        let count = bytes.min(self.wire.len());
        self.decoder.push(&self.wire.drain(..count).collect::<Vec<_>>());
        loop {
            match self.decoder.next_frame() {
                Ok(None) => return,
                frame => {
                    let failed = frame.is_err();
                    let frame = frame.map(|frame| frame.unwrap());
                    self.brain.received(now, frame, &mut self.effects);
                    if failed {
                        return;
                    }
                }
            }
        }
    }

    fn delivered(&mut self) -> Vec<Incoming> {
        let taken = self
            .effects
            .extract_if(.., |effect| matches!(effect, Effect::Deliver(_)));
        taken
            .map(|effect| match effect {
                Effect::Deliver(incoming) => *incoming,
                _ => unreachable!(),
            })
            .collect()
    }
}

struct Pair {
    a: End,
    b: End,
    now: Time,
}

impl Pair {
    fn new() -> Self {
        let (a, b) = (End::new(TERMS), End::new(TERMS));
        Self {
            a,
            b,
            now: Time::ZERO,
        }
    }

    /// Carries everything both ways, until nothing moves.
    fn settle(&mut self) {
        loop {
            self.a.brain.output(self.now, &mut self.b.wire);
            self.b.brain.output(self.now, &mut self.a.wire);
            if self.a.wire.is_empty() && self.b.wire.is_empty() {
                return;
            }
            self.a.read(self.now, usize::MAX);
            self.b.read(self.now, usize::MAX);
        }
    }
}

fn frame(kind: Kind, sequence: u64, id: u64, change: impl FnOnce(&mut Header)) -> Frame {
    let mut header = Header::new(1, kind, id);
    header.sequence = sequence;
    if matches!(kind, Kind::Ask | Kind::Tell) {
        (header.endpoint, header.message) = ("rm".to_owned(), "register".to_owned());
        header.timeout_ms = u32::from(kind == Kind::Ask) * 1_000;
    }
    change(&mut header);
    Frame { header, body: vec![] }
}

use crate::frame::Frame;

/// What a brain does with these frames.
fn closes(frames: Vec<Frame>) -> Option<CloseReason> {
    let (mut brain, mut effects) = (ConnectionBrain::new(TERMS, "p".to_owned(), Time::ZERO), vec![]);
    frames
        .into_iter()
        .for_each(|frame| brain.received(Time::ZERO, Ok(frame), &mut effects));
    effects.into_iter().find_map(|effect| match effect {
        Effect::Close(reason) => Some(reason),
        _ => None,
    })
}

#[test]
fn an_ask_is_delivered_answered_and_resolved() {
    let mut pair = Pair::new();
    pair.a.brain.send(message(2, Lane::Control, 10));
    pair.settle();
    let asked = pair.b.delivered();
    assert_eq!(
        (asked[0].kind, asked[0].body.len(), asked[0].deadline),
        (Kind::Ask, 10, Some(secs(10)))
    );
    pair.b.brain.answer(2, Ok(vec![7]));
    pair.settle();
    assert_eq!(pair.a.effects, [Effect::Resolve(2, Ok(vec![7]))]);
    pair.b.brain.answer(2, Ok(vec![8]));
    pair.settle();
    assert_eq!(pair.a.effects.len(), 1, "a second answer goes nowhere");
}

#[test]
fn a_large_message_does_not_hold_up_other_lanes() {
    let mut pair = Pair::new();
    pair.a.brain.send(message(1, Lane::Bulk, 4 * MAX_FRAME_BODY));
    pair.a.brain.send(message(3, Lane::Bulk, 1));
    pair.a.brain.send(message(5, Lane::Control, 1));
    pair.settle();
    let order: Vec<u64> = pair.b.delivered().iter().map(|incoming| incoming.id).collect();
    assert_eq!(order, [5, 1, 3]);
}

#[test]
fn a_withdrawn_ask_is_never_sent_or_taken_back_over_there() {
    let mut pair = Pair::new();
    pair.a.brain.send(message(2, Lane::Control, 1));
    pair.a.brain.cancel(2);
    assert!(pair.a.brain.is_flushed(), "nothing of it has left");
    pair.a.brain.send(message(4, Lane::Control, 1));
    pair.settle();
    pair.a.brain.cancel(4);
    pair.settle();
    assert_eq!(pair.b.effects.last(), Some(&Effect::Withdraw(4)));
    // In the middle of its chunks.
    pair.a.brain.send(message(6, Lane::Control, 200_000));
    pair.a.brain.output(Time::ZERO, &mut pair.b.wire);
    pair.a.brain.cancel(6);
    pair.a.brain.send(message(9, Lane::Control, 1));
    pair.settle();
    let ids: Vec<u64> = pair.b.delivered().iter().map(|incoming| incoming.id).collect();
    assert_eq!(ids, [4, 9]);
}

#[test]
fn deadlines_end_asks_on_both_sides() {
    let mut pair = Pair::new();
    pair.a.brain.send(message(2, Lane::Control, 1));
    pair.settle();
    assert_eq!(pair.a.brain.wakeup(), secs(2), "the next ping");
    // Something is heard now and then, so that only the deadline passes.
    for second in 1..=9 {
        pair.now = secs(second);
        pair.a.brain.tick(pair.now, &mut pair.a.effects);
        pair.b.brain.tick(pair.now, &mut pair.b.effects);
        pair.settle();
    }
    assert_eq!(pair.a.brain.wakeup(), secs(10));
    pair.a.effects.clear();
    pair.a.brain.tick(secs(10), &mut pair.a.effects);
    pair.b.brain.tick(secs(10), &mut pair.b.effects);
    assert_eq!(
        pair.a.effects,
        [Effect::Resolve(
            2,
            Err(RpcError::Timeout(Duration::from_secs(10)))
        )]
    );
    assert!(pair.b.effects.contains(&Effect::Withdraw(2)));
}

#[test]
fn an_ask_without_time_left_is_not_sent() {
    let mut pair = Pair::new();
    pair.a.brain.send(message(2, Lane::Control, 1));
    pair.now = secs(10);
    pair.settle();
    assert_eq!(pair.b.delivered(), []);
}

#[test]
fn silence_is_death_and_pings_are_answered_by_their_number() {
    let mut pair = Pair::new();
    pair.a.brain.tick(secs(2), &mut pair.a.effects);
    pair.settle();
    assert_eq!(pair.b.effects, [Effect::Pinged(1)]);
    pair.b.brain.pong(1, vec![9]);
    pair.now = secs(3);
    pair.settle();
    assert_eq!(pair.a.effects, [Effect::Progress(vec![9])]);
    assert_eq!(pair.a.brain.last_heard(), secs(3));
    pair.a.brain.tick(secs(10), &mut pair.a.effects);
    assert_eq!(pair.a.effects.len(), 1, "eight seconds have not passed");
    pair.a.brain.tick(secs(11), &mut pair.a.effects);
    assert_eq!(
        pair.a.effects.last(),
        Some(&Effect::Close(CloseReason::Silent(Duration::from_secs(8))))
    );
}

#[test]
fn more_asks_than_are_served_at_once_are_refused_by_themselves() {
    let terms = Terms {
        max_in_flight: 2,
        ..TERMS
    };
    let mut pair = Pair {
        b: End::new(terms),
        ..Pair::new()
    };
    (1..=3).for_each(|number| pair.a.brain.send(message(number * 2, Lane::Control, 1)));
    pair.settle();
    assert!(matches!(
        pair.a.effects[..],
        [Effect::Resolve(6, Err(RpcError::Overloaded { .. }))]
    ));
    assert_eq!(pair.b.delivered().len(), 2);
}

#[test]
fn what_is_too_large_is_refused_by_itself_and_kept_nowhere() {
    let terms = Terms {
        max_message: 100_000,
        ..TERMS
    };
    let mut pair = Pair {
        b: End::new(terms),
        ..Pair::new()
    };
    pair.a.brain.send(message(2, Lane::Control, 200_000));
    pair.a.brain.send(message(3, Lane::Control, 150_000));
    pair.a.brain.send(message(5, Lane::Control, 5));
    pair.settle();
    assert!(
        matches!(
            pair.a.effects[..],
            [
                Effect::Resolve(
                    2,
                    Err(RpcError::TooLarge {
                        size: 200_000,
                        limit: 100_000,
                        ..
                    })
                ),
                Effect::TellRefused(RpcError::TooLarge { .. })
            ]
        ),
        "{:?}",
        pair.a.effects
    );
    assert_eq!(pair.b.delivered().len(), 1);
}

#[test]
fn a_reply_that_is_too_large_is_an_error_of_the_ask() {
    let terms = Terms {
        max_message: 100_000,
        ..TERMS
    };
    let mut pair = Pair {
        a: End::new(terms),
        ..Pair::new()
    };
    pair.a.brain.send(message(2, Lane::Control, 1));
    pair.settle();
    pair.b.brain.answer(2, Ok(vec![0; 200_000]));
    pair.settle();
    assert!(matches!(
        pair.a.effects[..],
        [Effect::Resolve(2, Err(RpcError::TooLarge { .. }))]
    ));
}

#[test]
fn what_was_not_sent_survives_the_end_and_what_was_sent_is_unknown() {
    let mut pair = Pair::new();
    pair.a.brain.send(message(2, Lane::Control, 1));
    pair.a.brain.output(Time::ZERO, &mut pair.b.wire);
    pair.a.brain.send(message(4, Lane::Bulk, 9));
    pair.a.brain.send(message(3, Lane::Control, 9));
    let (mut effects, brain) = (vec![], pair.a.brain);
    let unsent: Vec<u64> = brain
        .close(&CloseReason::Closed, &mut effects)
        .iter()
        .map(|message| message.id)
        .collect();
    assert_eq!(unsent, [3, 4]);
    let [
        Effect::Resolve(
            2,
            Err(RpcError::Unreachable {
                delivery: Delivery::Unknown,
                ..
            }),
        ),
    ] = &effects[..]
    else {
        panic!("{effects:?}");
    };
}

#[test]
fn frames_that_do_not_go_together_end_the_connection() {
    let ping = |sequence| frame(Kind::Ping, sequence, 1, |_| {});
    assert_eq!(closes(vec![ping(1), ping(2)]), None);
    let violation = |frames| matches!(closes(frames), Some(CloseReason::Violation(_)));
    assert!(violation(vec![ping(1), ping(1)]), "repeated");
    assert!(violation(vec![ping(2)]), "lost");
    assert!(
        violation(vec![frame(Kind::Ping, 1, 1, |header| header.version = 2)]),
        "version"
    );
    let ask = |sequence| frame(Kind::Ask, sequence, 4, |_| {});
    assert!(violation(vec![ask(1), ask(2)]), "one id twice");
    let chunk = |sequence, id| Frame {
        body: vec![0],
        ..frame(Kind::Chunk, sequence, id, |_| {})
    };
    assert!(violation(vec![chunk(1, 4)]), "a chunk of nothing");
    let part = |sequence| {
        let first = frame(Kind::Ask, sequence, 4, |header| {
            (header.more, header.total) = (true, u32::try_from(MAX_FRAME_BODY).unwrap() + 2);
        });
        Frame {
            body: vec![0; MAX_FRAME_BODY],
            ..first
        }
    };
    assert!(
        violation(vec![part(1), chunk(2, 5)]),
        "a chunk of another message"
    );
    assert!(violation(vec![part(1), chunk(2, 4)]), "too few chunks");
    assert!(violation(vec![part(1), ask(2)]), "a message within a message");
    assert!(
        violation(vec![frame(Kind::Hello, 1, 0, |_| {})]),
        "a handshake in the middle"
    );
    assert!(matches!(
        closes(vec![frame(Kind::Goodbye, 1, 0, |_| {})]),
        Some(CloseReason::Goodbye(_))
    ));
}

#[test]
fn a_peer_that_reads_no_answers_is_not_read_from() {
    let mut pair = Pair::new();
    for id in 0..2 * TERMS.max_in_flight {
        assert!(pair.b.brain.wants_input());
        pair.b.brain.refuse(
            Lane::Control,
            u64::try_from(id).unwrap(),
            &RpcError::overloaded("x"),
        );
    }
    assert!(!pair.b.brain.wants_input());
    pair.settle();
    assert!(pair.b.brain.wants_input());
}

#[test]
fn replies_that_nobody_reads_are_bounded_in_bytes() {
    let terms = Terms {
        max_queued_bytes: 500_000,
        ..TERMS
    };
    let mut pair = Pair {
        b: End::new(terms),
        ..Pair::new()
    };
    (1..=3).for_each(|number| pair.a.brain.send(message(number * 2, Lane::Control, 1)));
    pair.settle();
    (1..=3).for_each(|number| pair.b.brain.answer(number * 2, Ok(vec![0; 200_000])));
    pair.settle();
    let refused = |effect: &&Effect| matches!(effect, Effect::Resolve(6, Err(RpcError::Overloaded { .. })));
    assert_eq!(
        pair.a.effects.iter().filter(refused).count(),
        1,
        "{:?}",
        pair.a.effects.len()
    );
    assert_eq!(pair.a.effects.len(), 3);
}

#[derive(Clone, Debug)]
enum Step {
    Send { lane: usize, size: usize, ask: bool },
    Cancel(prop::sample::Index),
    Answer(prop::sample::Index, usize),
    Write,
    Read(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![4 => 0usize..100, 1 => 60_000usize..200_000];
    let step = prop_oneof![
        4 => (0usize..3, size.clone(), any::<bool>()).prop_map(|(lane, size, ask)| Step::Send { lane, size, ask }),
        1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        2 => (any::<prop::sample::Index>(), size).prop_map(|(index, size)| Step::Answer(index, size)),
        2 => Just(Step::Write),
        3 => (1usize..150_000).prop_map(Step::Read),
        1 => (1u64..900).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

/// What the model knows of the asks and tells of one end.
#[derive(Default)]
struct Model {
    /// Ids in the order of sending.
    sent: [Vec<u64>; 3],
    arrived: [Vec<u64>; 3],
    resolved: BTreeMap<u64, usize>,
    cancelled: BTreeSet<u64>,
    serving: Vec<u64>,
}

impl Model {
    fn observe(&mut self, pair: &mut Pair) {
        for incoming in pair.b.delivered() {
            let size = incoming.body.len();
            assert_eq!(
                incoming.body,
                vec![u8::try_from(incoming.id % 251).unwrap(); size]
            );
            self.arrived[incoming.lane.index()].push(incoming.id);
            if incoming.kind == Kind::Ask {
                self.serving.push(incoming.id);
            }
        }
        for effect in pair.a.effects.drain(..) {
            match effect {
                Effect::Resolve(id, _) => *self.resolved.entry(id).or_default() += 1,
                Effect::Pinged(_) | Effect::Progress(_) => {}
                other => panic!("{other:?}"),
            }
        }
        for effect in pair.b.effects.drain(..) {
            match effect {
                Effect::Withdraw(id) => self.serving.retain(|served| *served != id),
                Effect::Pinged(id) => pair.b.brain.pong(id, vec![]),
                other => panic!("{other:?}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is sent, withdrawn, answered and delayed: lanes keep their order, nothing is delivered twice or changed, and each
    /// ask that is not withdrawn is resolved exactly once.
    #[test]
    fn lanes_keep_their_order_and_asks_are_resolved_once(steps in steps()) {
        let (mut pair, mut model, mut next) = (Pair::new(), Model::default(), 2u64);
        for step in steps {
            match step {
                Step::Send { lane, size, ask } => {
                    next += 2;
                    let id = if ask { next } else { next + 1 };
                    let mut message = message(id, Lane::ALL[lane], size);
                    let patience = Duration::from_secs(5);
                    message.deadline = ask.then(|| (pair.now.after(patience), patience));
                    model.sent[lane].push(id);
                    pair.a.brain.send(message);
                }
                Step::Cancel(index) => {
                    let open: Vec<u64> = model.sent.iter().flatten().copied()
                        .filter(|id| id.is_multiple_of(2) && !model.resolved.contains_key(id)).collect();
                    if !open.is_empty() {
                        let id = open[index.index(open.len())];
                        pair.a.brain.cancel(id);
                        model.cancelled.insert(id);
                    }
                }
                Step::Answer(index, size) => if !model.serving.is_empty() {
                    let id = model.serving.remove(index.index(model.serving.len()));
                    pair.b.brain.answer(id, Ok(vec![0; size]));
                },
                Step::Write => {
                    pair.a.brain.output(pair.now, &mut pair.b.wire);
                    pair.b.brain.output(pair.now, &mut pair.a.wire);
                }
                Step::Read(bytes) => {
                    pair.a.read(pair.now, bytes);
                    pair.b.read(pair.now, bytes);
                }
                Step::Wait(millis) => {
                    pair.now = pair.now.after(Duration::from_millis(millis));
                    // So long a silence would be a death; that is another test.
                    pair.settle();
                    pair.a.brain.tick(pair.now, &mut pair.a.effects);
                    pair.b.brain.tick(pair.now, &mut pair.b.effects);
                    pair.settle();
                }
            }
            model.observe(&mut pair);
        }
        for _ in 0..8 {
            pair.now = pair.now.after(Duration::from_secs(1));
            pair.settle();
            pair.a.brain.tick(pair.now, &mut pair.a.effects);
            pair.b.brain.tick(pair.now, &mut pair.b.effects);
            model.observe(&mut pair);
        }
        for (sent, arrived) in model.sent.iter().zip(&model.arrived) {
            let mut rest = sent.iter();
            for id in arrived {
                prop_assert!(rest.any(|other| other == id), "{} out of order or twice in {:?}, sent {:?}", id, arrived, sent);
            }
            let tells = |ids: &[u64]| ids.iter().filter(|id| !id.is_multiple_of(2)).count();
            prop_assert_eq!(tells(sent), tells(arrived));
            for id in sent.iter().filter(|id| id.is_multiple_of(2)) {
                let times = model.resolved.get(id).copied().unwrap_or_default();
                let expected = if model.cancelled.contains(id) { 0..=1 } else { 1..=1 };
                prop_assert!(expected.contains(&times), "ask {} was resolved {} times", id, times);
            }
        }
        prop_assert!(model.serving.is_empty(), "{:?} are still served", model.serving);
    }

    /// Frames in any order, kind and shape: effects or an end, and no panic.
    #[test]
    fn any_sequence_of_legal_frames_is_survived(
        kinds in prop::collection::vec((3usize..13, 0u64..4, 0usize..3, any::<bool>(), any::<bool>()), 1..30),
    ) {
        let (mut brain, mut effects, mut decoder) = (ConnectionBrain::new(TERMS, "p".to_owned(), Time::ZERO), vec![], FrameDecoder::new());
        brain.send(message(2, Lane::Report, 70_000));
        for (sequence, (kind, id, lane, more, body)) in kinds.into_iter().enumerate() {
            let kind = Kind::of(u8::try_from(kind + 1).unwrap()).unwrap();
            let mut frame = frame(kind, u64::try_from(sequence).unwrap() + 1, id, |_| {});
            if matches!(kind, Kind::Goodbye | Kind::Notice) {
                frame.header.id = 0;
            }
            if matches!(kind, Kind::Ask | Kind::Tell | Kind::Reply | Kind::Chunk) {
                frame.header.lane = Lane::ALL[lane];
                frame.header.more = more;
                frame.body = vec![0; if more { MAX_FRAME_BODY } else { usize::from(body || kind == Kind::Chunk) }];
            }
            if kind != Kind::Chunk {
                frame.header.total = u32::try_from(frame.body.len()).unwrap() + u32::from(more && frame.header.more);
            }
            let mut bytes = Vec::new();
            encode_frame(&frame.header, &frame.body, &mut bytes);
            decoder.push(&bytes);
            let frame = decoder.next_frame().unwrap().unwrap();
            brain.received(Time::ZERO, Ok(frame), &mut effects);
            brain.output(Time::ZERO, &mut Vec::new());
        }
        prop_assert!(effects.iter().filter(|effect| matches!(effect, Effect::Close(_))).count() <= 1);
        prop_assert!(effects.iter().filter(|effect| matches!(effect, Effect::Resolve(..))).count() <= 1);
    }
}
