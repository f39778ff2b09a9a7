//! Time, chance and the network: what every process of a simulated cluster is handed.

use crate::blobs::Blobs;
use crate::checks::Checks;
use crate::messages::{Ask, Done, Element, Input, Lane, Pid, Refused, Reply, Then, Timer};
use crate::random::Random;
use crate::store::StoreState;
use crate::world::Body;
use hurtig_core::time::{ManualClock, Time};
use hurtig_dataflow::graph::JobGraph;
use hurtig_rpc::Stamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// So much of what happened last is remembered.
const STORY: usize = 400;

/// How often a link shows that it lives.
const BEAT: Duration = Duration::from_secs(2);
/// A link that was silent for so long is dead.
const SILENCE: Duration = Duration::from_secs(8);
/// How long an answer takes at most to be missed when a connection breaks.
const BROKEN: u64 = 400;

/// A machine: jobmanagers have the first ones, TaskManagers the next ones, and the store the last one.
pub(crate) type Host = usize;

/// What happens at a time.
pub(crate) enum Happening {
    /// Something reaches a process.
    To(Pid, Input),
    /// Whether one process still hears of another is found out.
    Beat(Pid, Pid),
    /// A request reaches the store.
    StoreReached(u64),
    /// The store's answer reaches who asked.
    StoreAnswered(u64),
    /// Leases may have ended.
    Leases,
    /// A host's process is started again.
    Restart(Host),
    /// The plan of the run goes on.
    Plan,
}

/// What becomes of a message.
enum Carried {
    /// It arrives so much later.
    After(Duration),
    /// Its connection breaks, or there is nobody.
    Lost,
    /// It is sent again and again, until it arrives or the connection is given up.
    Held,
}

/// A question or an answer between hosts that do not hear each other.
struct Held {
    between: (Pid, Pid),
    /// The question that it is part of.
    id: u64,
    since: Time,
    arrives: Happening,
}

pub(crate) type Work = Pin<Box<dyn Future<Output = Done>>>;

/// What is counted of a run, beside the checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) steps: u64,
    pub(crate) lost_messages: u64,
    pub(crate) messages: u64,
}

/// See the module.
pub(crate) struct Kernel {
    pub(crate) now: Time,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) random: Random,
    queue: BTreeMap<(Time, u64), Happening>,
    sequence: u64,
    /// Where each process that lives is.
    pub(crate) hosts: BTreeMap<Pid, Host>,
    pub(crate) paused: BTreeMap<Pid, Time>,
    /// Pairs of hosts that do not hear each other, the lower one first.
    pub(crate) cuts: BTreeSet<(Host, Host)>,
    held: Vec<Held>,
    /// One message in a hundred, so often, is lost with its connection.
    pub(crate) loss: u64,
    links: BTreeMap<(Pid, Pid), Time>,
    calls: BTreeMap<u64, (Pid, Then)>,
    ordered: BTreeMap<(Pid, Pid), Time>,
    /// Connections between workers that broke, and in which deployment.
    broken: BTreeMap<(Pid, Pid), u32>,
    pub(crate) next_pid: Pid,
    pub(crate) births: Vec<(Pid, Body)>,
    pub(crate) deaths: Vec<(Pid, String)>,
    /// What is under way for a jobmanager: futures over the store.
    pub(crate) work: BTreeMap<u64, (Pid, Work)>,
    pub(crate) store: Arc<Mutex<StoreState>>,
    pub(crate) blobs: Blobs,
    pub(crate) checks: Checks,
    pub(crate) counts: Counts,
    /// What happened last, for people.
    pub(crate) story: VecDeque<String>,
    pub(crate) trace: u64,
    pub(crate) graph: Arc<JobGraph>,
    /// The jobmanager of each host, while it lives.
    pub(crate) managers: BTreeMap<Host, Pid>,
    /// The input ends here; `None`: it goes on.
    pub(crate) splits_end: Option<u32>,
    pub(crate) started: Time,
}

impl Kernel {
    pub(crate) fn new(seed: u64, graph: Arc<JobGraph>) -> Self {
        let clock = ManualClock::new();
        let start = Duration::from_secs(1);
        clock.advance(start);
        Self {
            now: Time::ZERO.after(start),
            clock,
            random: Random::new(seed),
            queue: BTreeMap::new(),
            sequence: 0,
            hosts: BTreeMap::new(),
            paused: BTreeMap::new(),
            cuts: BTreeSet::new(),
            held: Vec::new(),
            loss: 0,
            links: BTreeMap::new(),
            calls: BTreeMap::new(),
            ordered: BTreeMap::new(),
            broken: BTreeMap::new(),
            next_pid: 1,
            births: Vec::new(),
            deaths: Vec::new(),
            work: BTreeMap::new(),
            store: Arc::default(),
            blobs: Blobs::default(),
            checks: Checks::default(),
            counts: Counts::default(),
            story: VecDeque::new(),
            trace: 0xcbf2_9ce4_8422_2325,
            graph,
            managers: BTreeMap::new(),
            splits_end: None,
            started: Time::ZERO.after(start),
        }
    }

    /// The time of day, in milliseconds.
    pub(crate) fn wall_ms(&self) -> i64 {
        i64::try_from(self.now.as_nanos() / 1_000_000).unwrap_or(i64::MAX)
    }

    /// How many splits the source has by now: one more each second, until it ends.
    pub(crate) fn splits(&self) -> u32 {
        let seconds = u32::try_from(self.now.since(self.started).as_secs()).unwrap_or(u32::MAX);
        self.splits_end.map_or(seconds, |end| end.min(seconds))
    }

    pub(crate) fn at(&mut self, time: Time, what: Happening) {
        self.sequence += 1;
        self.queue.insert((time.max(self.now), self.sequence), what);
    }

    pub(crate) fn after(&mut self, delay: Duration, what: Happening) {
        self.at(self.now.after(delay), what);
    }

    pub(crate) fn timer(&mut self, own: Pid, delay: Duration, timer: Timer) {
        self.after(delay, Happening::To(own, Input::Timer(timer)));
    }

    /// The next thing that happens; time moves there.
    pub(crate) fn next(&mut self) -> Option<Happening> {
        let ((time, number), what) = self.queue.pop_first()?;
        self.clock.advance(time.since(self.now));
        self.now = time;
        self.counts.steps += 1;
        let (whom, kind) = match &what {
            Happening::To(pid, input) => (*pid, input.kind()),
            Happening::Beat(a, b) => (*a ^ (*b << 16), 90),
            Happening::StoreReached(id) => (*id, 91),
            Happening::StoreAnswered(id) => (*id, 92),
            Happening::Leases => (0, 93),
            Happening::Restart(host) => (*host as u64, 94),
            Happening::Plan => (0, 95),
        };
        for word in [time.as_nanos(), number, whom, kind] {
            self.note(word);
        }
        Some(what)
    }

    /// Takes something into the trace, by which two runs are compared.
    pub(crate) fn note(&mut self, word: u64) {
        self.trace = (self.trace ^ word)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(17);
    }

    /// Remembers for people what has happened.
    pub(crate) fn tell(&mut self, who: Pid, what: std::fmt::Arguments<'_>) {
        if self.story.len() == STORY {
            self.story.pop_front();
        }
        let seconds = self.now.as_nanos() / 1_000_000;
        self.story
            .push_back(format!("{seconds:>7} ms  process {who}: {what}"));
    }

    // Processes.

    pub(crate) fn spawn(&mut self, host: Host, body: Body) -> Pid {
        let pid = self.next_pid;
        self.next_pid += 1;
        self.hosts.insert(pid, host);
        self.births.push((pid, body));
        pid
    }

    /// The process ends when it has done what it is at.
    pub(crate) fn end(&mut self, pid: Pid, how: impl Into<String>) {
        let how = how.into();
        self.tell(pid, format_args!("ends: {how}"));
        self.deaths.push((pid, how));
    }

    pub(crate) fn lives(&self, pid: Pid) -> bool {
        self.hosts.contains_key(&pid)
    }

    /// Nothing of it is left; who watches it finds out.
    pub(crate) fn bury(&mut self, pid: Pid) {
        self.hosts.remove(&pid);
        self.paused.remove(&pid);
        self.work.retain(|_, (owner, _)| *owner != pid);
        self.managers.retain(|_, manager| *manager != pid);
        let watchers: Vec<Pid> = self
            .links
            .keys()
            .filter(|(_, to)| *to == pid)
            .map(|(by, _)| *by)
            .collect();
        for watcher in watchers {
            let delay = self.random.millis(2, BROKEN);
            self.after(delay, Happening::Beat(watcher, pid));
        }
        self.links.retain(|(by, _), _| *by != pid);
    }

    /// Does something in the store beside the process; what came of it is an event of the process.
    pub(crate) fn drive(&mut self, own: Pid, work: impl Future<Output = Done> + 'static) {
        self.sequence += 1;
        self.work.insert(self.sequence, (own, Box::pin(work)));
    }

    // The network.

    pub(crate) fn hears(&self, a: Pid, b: Pid) -> bool {
        match (self.hosts.get(&a), self.hosts.get(&b)) {
            (Some(a), Some(b)) => !self.cut(*a, *b),
            _ => false,
        }
    }

    pub(crate) fn cut(&self, a: Host, b: Host) -> bool {
        self.cuts.contains(&(a.min(b), a.max(b)))
    }

    /// Whether a message arrives, and when.
    fn carry(&mut self, from: Pid, to: Pid) -> Carried {
        self.counts.messages += 1;
        let lost = self.loss > 0 && self.random.percent(self.loss);
        if !lost && self.hears(from, to) {
            let slow = self.random.percent(2);
            return Carried::After(self.random.millis(0, if slow { 400 } else { 12 }));
        }
        self.counts.lost_messages += 1;
        if !self.lives(to) || self.hears(from, to) {
            Carried::Lost
        } else {
            Carried::Held
        }
    }

    /// Asks another process. Exactly one answer comes, if only that there was none.
    pub(crate) fn ask(
        &mut self,
        (from, to): (Pid, Pid),
        stamp: Option<Stamp>,
        ask: Ask,
        (patience, then): (Duration, Then),
    ) {
        self.sequence += 1;
        let id = self.sequence;
        self.calls.insert(id, (from, then));
        self.after(patience, Happening::To(from, Input::Missing(id)));
        let call = Happening::To(to, Input::Call { from, id, stamp, ask });
        self.convey((from, to), id, call);
    }

    pub(crate) fn answer(&mut self, from: Pid, id: u64, answer: Result<Reply, Refused>) {
        let Some((asker, _)) = self.calls.get(&id) else {
            return;
        };
        let asker = *asker;
        let answered = Happening::To(asker, Input::Answered(id, Box::new(answer)));
        self.convey((from, asker), id, answered);
    }

    /// Sends a question or an answer. Who asked hears of a connection that breaks.
    fn convey(&mut self, (from, to): (Pid, Pid), id: u64, arrives: Happening) {
        match self.carry(from, to) {
            Carried::After(delay) => self.after(delay, arrives),
            Carried::Lost => self.miss(id),
            Carried::Held => self.held.push(Held {
                between: (from, to),
                id,
                since: self.now,
                arrives,
            }),
        }
    }

    /// Who asked this is told soon that there is no answer.
    fn miss(&mut self, id: u64) {
        if let Some((asker, _)) = self.calls.get(&id) {
            let asker = *asker;
            let delay = self.random.millis(1, BROKEN);
            self.after(delay, Happening::To(asker, Input::Missing(id)));
        }
    }

    /// All hosts hear each other. What was sent meanwhile is sent once more, after at most as long as it has waited.
    pub(crate) fn mend_cuts(&mut self) {
        self.cuts.clear();
        for held in std::mem::take(&mut self.held) {
            let waited = u64::try_from(self.now.since(held.since).as_millis()).unwrap_or(u64::MAX);
            let delay = self.random.millis(0, waited.max(1));
            self.after(delay, held.arrives);
        }
    }

    /// What is on its way between these two does not arrive: their connection is closed.
    fn close(&mut self, a: Pid, b: Pid) {
        let (closed, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|held| held.between == (a, b) || held.between == (b, a));
        self.held = held;
        let closed: Vec<Held> = closed;
        for held in closed {
            self.miss(held.id);
        }
    }

    /// What was to follow upon the answer; `None`: it has been answered before.
    pub(crate) fn called(&mut self, id: u64) -> Option<Then> {
        self.calls.remove(&id).map(|(_, then)| then)
    }

    /// Tells `watcher` once when `target` is dead, or as good as that.
    pub(crate) fn watch(&mut self, watcher: Pid, target: Pid) {
        if self.links.contains_key(&(watcher, target)) {
            return;
        }
        self.links.insert((watcher, target), self.now);
        let delay = if self.lives(target) {
            BEAT
        } else {
            self.random.millis(2, BROKEN)
        };
        self.after(delay, Happening::Beat(watcher, target));
    }

    pub(crate) fn unwatch(&mut self, watcher: Pid, target: Pid) {
        self.links.remove(&(watcher, target));
    }

    pub(crate) fn beat(&mut self, watcher: Pid, target: Pid) {
        let now = self.now;
        let heard = self.hears(watcher, target) && !self.paused.contains_key(&target);
        let refused = !self.lives(target)
            && self
                .hosts
                .get(&watcher)
                .is_some_and(|host| !self.cuts.iter().any(|(a, b)| a == host || b == host));
        let Some(last) = self.links.get_mut(&(watcher, target)) else {
            return;
        };
        if heard {
            *last = now;
        } else if refused || now.since(*last) > SILENCE {
            self.links.remove(&(watcher, target));
            self.close(watcher, target);
            // The connection is closed: the other end, if there is one, sees that when it can.
            if self.links.remove(&(target, watcher)).is_some() {
                self.at(now, Happening::To(target, Input::Lost(watcher)));
            }
            return self.at(now, Happening::To(watcher, Input::Lost(target)));
        }
        self.after(BEAT, Happening::Beat(watcher, target));
    }

    /// Whether the connection was broken in this deployment: nothing of it passes any more.
    pub(crate) fn is_broken(&self, connection: (Pid, Pid), generation: u32) -> bool {
        self.broken
            .get(&connection)
            .is_some_and(|newest| generation <= *newest)
    }

    /// Sends a part of a stream. Order is kept; a connection that breaks is seen at both ends.
    pub(crate) fn stream(&mut self, (from, to): (Pid, Pid), lane: Lane, element: Element) {
        if from == to {
            // Within a worker nothing is lost, and nothing travels.
            return self.at(self.now, Happening::To(to, Input::Element { lane, element }));
        }
        if self.is_broken((from, to), lane.generation) {
            return;
        }
        let Carried::After(delay) = self.carry(from, to) else {
            let newest = self.broken.entry((from, to)).or_insert(lane.generation);
            *newest = lane.generation.max(*newest);
            let delay = self.random.millis(1, BROKEN);
            self.after(delay, Happening::To(from, Input::Broken(to)));
            self.after(delay, Happening::To(to, Input::Broken(from)));
            return;
        };
        let earliest = self.ordered.get(&(from, to)).copied().unwrap_or(Time::ZERO);
        let at = self.now.after(delay).max(earliest);
        self.ordered.insert((from, to), at);
        self.at(at, Happening::To(to, Input::Element { lane, element }));
    }
}
