//! Session windows with an accumulator for each session and one timer for it.

use super::{AccOf, lateness_clock};
use crate::key::KeySelector;
use crate::operator::{Budget, Collector, Cx, OpenContext, Operator, Progress};
use crate::timers::{HashedKey, TimeDomain, Timer, TimerQueue};
use crate::windows::assigner::session;
use crate::windows::late::Lateness;
use crate::windows::snapshot::{KeyReader, key_bytes};
use crate::windows::{IncrementalLogic, TimeWindow, Window, WindowAssigner, ensure_hashes};

use hurtig_core::key::{OwnedKey, decode_exact};
use hurtig_core::time::MAX_WATERMARK;
use hurtig_core::{Batch, Error, Result};
use hurtig_state::encoded::put_entry;
use hurtig_state::snapshot::decode;
use hurtig_state::{AggregateFunction, GroupedTable, OperatorSnapshot, ScanBudget, StateShape, StateValue};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;

/// Section of sessions by key and window.
const SESSIONS: &str = "sessions";

/// One session of one key.
///
/// # Invariants
/// A timer of the key is registered at `armed`, unless that is [`MAX_WATERMARK`], and `armed` is not
/// later than when something is due: the end while `fired` is false, else the cleanup.
#[derive(Debug)]
struct Session<Acc> {
    window: TimeWindow,
    acc: Acc,
    fired: bool,
    armed: i64,
}

#[derive(Serialize)]
struct SessionOut<'a, Acc> {
    acc: &'a Acc,
    fired: bool,
}

#[derive(Deserialize)]
struct SessionIn<Acc> {
    acc: Acc,
    fired: bool,
}

/// What [`SessionWindowOperator`] is made of.
pub struct SessionParts<In, A, W, L> {
    /// Says the gap of an element.
    pub assigner: A,
    /// How the assigner calls a window.
    pub name: fn(TimeWindow) -> W,
    /// What is kept and emitted.
    pub logic: L,
    /// How long sessions wait.
    pub late: Lateness<In>,
}

/// Sessions with an incremental function under the default trigger.
///
/// A key's sessions are a small vector; a session that grows keeps the timer it has, which finds
/// out when it fires that it is early and is armed again.
pub struct SessionWindowOperator<In, Out, S, A, L>
where
    In: StateValue,
    S: KeySelector<In>,
    A: WindowAssigner<In>,
    L: IncrementalLogic<In, S::Borrowed, A::Window, Out>,
{
    selector: S,
    domain: TimeDomain,
    parts: SessionParts<In, A, A::Window, L>,
    keys: GroupedTable<S::Key, Vec<Session<AccOf<In, S::Borrowed, A::Window, Out, L>>>>,
    timers: TimerQueue<S::Key, ()>,
    out: std::marker::PhantomData<fn() -> Out>,
}

impl<In, Out, S, A, L> SessionWindowOperator<In, Out, S, A, L>
where
    In: StateValue,
    S: KeySelector<In>,
    A: WindowAssigner<In>,
    L: IncrementalLogic<In, S::Borrowed, A::Window, Out>,
{
    /// The operator of these parts, keyed by `selector`.
    pub fn new(selector: S, mut parts: SessionParts<In, A, A::Window, L>) -> Self {
        let domain = parts.assigner.domain();
        parts.late.for_domain(domain);
        Self {
            selector,
            domain,
            parts,
            keys: GroupedTable::new(0..1, 1),
            timers: TimerQueue::default(),
            out: std::marker::PhantomData,
        }
    }

    /// `numLateRecordsDropped`.
    pub fn late_records_dropped(&self) -> u64 {
        self.parts.late.dropped()
    }

    fn element(
        &mut self,
        (element, time, hash): (In, i64, u64),
        cx: Cx<'_>,
        out: &mut Collector<Out>,
    ) -> Result<()> {
        let at = match self.domain {
            TimeDomain::Event => time,
            TimeDomain::Processing => cx.processing_time(),
        };
        let clock = lateness_clock(self.domain, cx.watermark());
        let window = session(at, self.parts.assigner.session_gap(&element))?;
        let Self {
            selector,
            parts,
            keys,
            timers,
            ..
        } = self;
        let placed = selector.with_key(&element, |key| {
            let sessions = keys.upsert(hash, key, Vec::new);
            let placed = place(sessions, window, parts.logic.aggregate(), (&parts.late, clock));
            match placed {
                Some(index) => arm(
                    &mut sessions[index],
                    &parts.late,
                    timers,
                    HashedKey::new(hash, key),
                ),
                None if sessions.is_empty() => drop(keys.remove(hash, key)),
                None => {}
            }
            placed
        });
        let Some(index) = placed else {
            if self.domain == TimeDomain::Event {
                self.parts.late.reject(element, time, cx);
            }
            return Ok(());
        };
        self.add((element, hash), index, clock, (cx, out))
    }

    /// Adds an element to its session, which fires at once when it is past its end.
    fn add(
        &mut self,
        (element, hash): (In, u64),
        index: usize,
        clock: i64,
        port: (Cx<'_>, &mut Collector<Out>),
    ) -> Result<()> {
        let Self {
            selector,
            parts: SessionParts { logic, name, .. },
            keys,
            ..
        } = self;
        // A key is only copied for an element that is late and fires its session.
        let (sessions, late_key) = selector.with_key(&element, |key| {
            let sessions = keys.get_mut(hash, key);
            let late = sessions
                .as_ref()
                .is_some_and(|s| s[index].window.max_timestamp() <= clock);
            (sessions, late.then(|| key.to_owned()))
        });
        let Some(session) = sessions.and_then(|sessions| sessions.get_mut(index)) else {
            unreachable!("the session was just placed")
        };
        logic.aggregate().add(&mut session.acc, element);
        match late_key {
            Some(key) => logic.emit_result(key.borrow(), &name(session.window), &session.acc, port),
            None => Ok(()),
        }
    }

    fn fire(&mut self, up_to: i64, cx: Cx<'_>, out: &mut Collector<Out>, b: &mut Budget) -> Result<Progress> {
        while self.timers.next_time().is_some_and(|time| time <= up_to) {
            if out.full() || cx.side_full() || !b.spend() {
                return Ok(Progress::More);
            }
            if let Some(Timer { time, hash, key, .. }) = self.timers.pop_due(up_to) {
                self.timer((time, hash, key), cx, out)?;
            }
        }
        Ok(Progress::Done)
    }

    /// A timer of a key: its sessions that are armed for this time fire, go, or are armed again.
    fn timer(
        &mut self,
        (time, hash, key): (i64, u64, S::Key),
        cx: Cx<'_>,
        out: &mut Collector<Out>,
    ) -> Result<()> {
        let Self {
            parts: SessionParts {
                logic, name, late, ..
            },
            keys,
            timers,
            ..
        } = self;
        let Some(sessions) = keys.get_mut::<S::Borrowed>(hash, key.borrow()) else {
            return Ok(());
        };
        let mut index = 0;
        while index < sessions.len() {
            let session = &mut sessions[index];
            if session.armed != time {
                index += 1;
                continue;
            }
            if !session.fired && session.window.max_timestamp() <= time {
                logic.emit_result(key.borrow(), &name(session.window), &session.acc, (cx, out))?;
                session.fired = true;
            }
            if session.fired && late.cleanup_time(&session.window) <= time {
                sessions.remove(index);
                continue;
            }
            session.armed = MAX_WATERMARK;
            arm::<_, _, S::Key, S::Borrowed>(session, late, timers, HashedKey::new(hash, key.borrow()));
            index += 1;
        }
        if sessions.is_empty() {
            keys.remove::<S::Borrowed>(hash, key.borrow());
        }
        Ok(())
    }

    fn schedule(&self, cx: Cx<'_>) {
        if self.domain == TimeDomain::Processing
            && let Some(time) = self.timers.next_time()
        {
            cx.schedule(time.saturating_add(1));
        }
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        let reader = KeyReader::new(self.keys.groups(), self.keys.max_parallelism());
        snapshot.section(SESSIONS).visit(|entry| {
            let Some((hash, key)) = reader.key::<S::Key>(entry)? else {
                return Ok(());
            };
            let window: TimeWindow = decode_exact(entry.namespace)
                .map_err(|e| Error::user("cannot restore a session's window").because(e))?;
            let SessionIn { acc, fired } = decode(entry.value)?;
            let mut session = Session {
                window,
                acc,
                fired,
                armed: MAX_WATERMARK,
            };
            let hashed = HashedKey::<S::Borrowed>::new(hash, key.borrow());
            arm(&mut session, &self.parts.late, &mut self.timers, hashed);
            let sessions = self.keys.upsert::<S::Borrowed>(hash, key.borrow(), Vec::new);
            let at = sessions.partition_point(|other| other.window < window);
            sessions.insert(at, session);
            Ok(())
        })?;
        Ok(())
    }
}

/// The session that holds `window`, merged from those it touches, or a new one. `None` when late.
fn place<G: AggregateFunction<In: 'static>>(
    sessions: &mut Vec<Session<G::Acc>>,
    window: TimeWindow,
    aggregate: &G,
    (late, clock): (&Lateness<G::In>, i64),
) -> Option<usize> {
    let first = sessions.partition_point(|session| session.window.end < window.start);
    let touching = sessions[first..]
        .iter()
        .take_while(|session| session.window.start <= window.end)
        .count();
    if touching == 0 {
        if late.cleanup_time(&window) <= clock {
            return None;
        }
        let acc = aggregate.create();
        sessions.insert(
            first,
            Session {
                window,
                acc,
                fired: false,
                armed: MAX_WATERMARK,
            },
        );
    }
    for _ in 1..touching {
        let Session { window, acc, .. } = sessions.remove(first + 1);
        let session = &mut sessions[first];
        session.window = session.window.cover(&window);
        aggregate.merge(&mut session.acc, acc);
    }
    let session = &mut sessions[first];
    session.window = session.window.cover(&window);
    // The element fires a session that is past its end itself.
    session.fired = session.window.max_timestamp() <= clock;
    Some(first)
}

/// Makes sure that a timer stands no later than when the session is due.
#[inline]
fn arm<In: 'static, Acc, K, Q>(
    session: &mut Session<Acc>,
    late: &Lateness<In>,
    timers: &mut TimerQueue<K, ()>,
    key: HashedKey<'_, Q>,
) where
    K: OwnedKey + Borrow<Q>,
    Q: hurtig_core::key::StableKey + ToOwned<Owned = K> + ?Sized,
{
    let due = match session.fired {
        false => session.window.max_timestamp(),
        true => late.cleanup_time(&session.window),
    };
    if session.armed > due {
        session.armed = due;
        timers.register(due, key, &());
    }
}

impl<In, Out, S, A, L> Operator<In, Out> for SessionWindowOperator<In, Out, S, A, L>
where
    In: StateValue,
    Out: 'static,
    S: KeySelector<In>,
    A: WindowAssigner<In>,
    L: IncrementalLogic<In, S::Borrowed, A::Window, Out>,
{
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        let info = ctx.info();
        self.keys = GroupedTable::new(info.key_groups.clone(), info.max_parallelism);
        self.parts.late.open(ctx.cx());
        let sessions = StateShape::keyed::<S::Key, SessionIn<AccOf<In, S::Borrowed, A::Window, Out, L>>>()
            .by::<A::Window>();
        ctx.declare([(SESSIONS.to_owned(), sessions)].into())?;
        if let Some(snapshot) = ctx.restored() {
            self.restore(snapshot)?;
            self.schedule(ctx.cx());
        }
        Ok(())
    }

    fn declare(&mut self, ctx: &mut OpenContext<'_>) -> Result<()> {
        Operator::<In, Out>::open(self, ctx)
    }

    fn process(
        &mut self,
        input: &mut Batch<In>,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        ensure_hashes(&self.selector, input);
        while !input.is_empty() {
            if out.full() || cx.side_full() || !b.spend() {
                self.schedule(cx);
                return Ok(Progress::More);
            }
            let hash = input.hashes()[0];
            if let Some((element, time)) = input.pop_front() {
                self.element((element, time, hash), cx, out)?;
            }
        }
        self.schedule(cx);
        Ok(Progress::Done)
    }

    fn on_watermark(
        &mut self,
        wm: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        match self.domain {
            TimeDomain::Event => self.fire(wm, cx, out, b),
            TimeDomain::Processing => Ok(Progress::Done),
        }
    }

    fn on_processing_time(
        &mut self,
        now: i64,
        cx: Cx<'_>,
        out: &mut Collector<Out>,
        b: &mut Budget,
    ) -> Result<Progress> {
        if self.domain == TimeDomain::Event {
            return Ok(Progress::Done);
        }
        let progress = self.fire(now.saturating_sub(1), cx, out, b);
        self.schedule(cx);
        progress
    }

    fn snapshot(&mut self, _: &mut OperatorSnapshot) -> Result<()> {
        self.keys.begin_scan(Box::new(|key, sessions, out| {
            for Session {
                window, acc, fired, ..
            } in sessions
            {
                let value = SessionOut { acc, fired: *fired };
                put_entry(out, key, &key_bytes(window), &value)?;
            }
            Ok(sessions.len() as u64)
        }));
        Ok(())
    }

    fn continue_snapshot(
        &mut self,
        snapshot: &mut OperatorSnapshot,
        budget: &mut ScanBudget,
    ) -> Result<bool> {
        if let Some(entries) = self.keys.continue_scan(budget)? {
            snapshot.put_encoded(SESSIONS, entries);
        }
        Ok(!self.keys.is_scanning())
    }
}
