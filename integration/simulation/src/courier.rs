//! Ways to other processes: numbered deliveries, one under way at a time, sent again until they are taken. As
//! `actors/cluster/src/wire/courier.rs` does it; who takes them is its `Inbox`.

use crate::kernel::Kernel;
use crate::messages::{Ask, Payload, Pid, Refused, Then, Timer};
use hurtig_cluster::simulation::Delivery;
use hurtig_core::ids::TaskManagerId;
use hurtig_rpc::Stamp;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use uuid::Uuid;

/// How long a delivery is waited for before it is sent again.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing is sent after a refusal.
const PAUSE: Duration = Duration::from_millis(20);
/// Messages of one delivery.
const LENGTH: usize = 256;

/// To whom a way leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Dispatcher,
    Resources,
    Master,
    Worker(TaskManagerId),
}

#[derive(Debug)]
struct Courier {
    to: Pid,
    stamp: Stamp,
    sender: Uuid,
    queue: VecDeque<Payload>,
    first: u64,
    busy: bool,
    place: u64,
    standing: Option<Payload>,
}

/// The ways of a process.
#[derive(Debug, Default)]
pub(crate) struct Couriers(BTreeMap<Way, Courier>, u64);

impl Couriers {
    /// A way to a process; in the place of one that there was, it begins anew with what that has not delivered.
    pub(crate) fn lead(&mut self, way: Way, (own, to): (Pid, Pid), stamp: Stamp, kernel: &mut Kernel) {
        self.1 += 1;
        let place = self.1;
        let sender = Uuid::from_u128(kernel.random.wide());
        let courier = self.0.entry(way).or_insert_with(|| Courier {
            to,
            stamp,
            sender,
            queue: VecDeque::new(),
            first: 0,
            busy: false,
            place,
            standing: None,
        });
        (courier.to, courier.stamp, courier.sender) = (to, stamp, sender);
        (courier.first, courier.busy, courier.place) = (0, false, place);
        if let Some(standing) = courier.standing.clone() {
            courier.queue.push_front(standing);
        }
        self.go_on(own, way, kernel);
    }

    pub(crate) fn drop(&mut self, way: Way) {
        self.0.remove(&way);
    }

    pub(crate) fn has(&self, way: Way) -> bool {
        self.0.contains_key(&way)
    }

    /// Whether all has arrived.
    pub(crate) fn are_empty(&self, ways: &[Way]) -> bool {
        ways.iter()
            .all(|way| self.0.get(way).is_none_or(|courier| courier.queue.is_empty()))
    }

    pub(crate) fn send(&mut self, own: Pid, way: Way, payload: Payload, kernel: &mut Kernel) {
        if let Some(courier) = self.0.get_mut(&way) {
            courier.stand(&payload);
            courier.queue.push_back(payload);
            self.go_on(own, way, kernel);
        }
    }

    fn go_on(&mut self, own: Pid, way: Way, kernel: &mut Kernel) {
        let Some(courier) = self.0.get_mut(&way) else {
            return;
        };
        if courier.busy || courier.queue.is_empty() {
            return;
        }
        courier.busy = true;
        let messages: Vec<Payload> = courier.queue.iter().take(LENGTH).cloned().collect();
        let then = Then::Delivered {
            way,
            place: courier.place,
            sent: messages.len(),
        };
        let delivery = Delivery {
            sender: courier.sender,
            first: courier.first,
            messages,
        };
        kernel.ask(
            (own, courier.to),
            Some(courier.stamp),
            Ask::Deliver(delivery),
            (PATIENCE, then),
        );
    }

    /// A delivery was answered. Says why the way is lost, if it is.
    pub(crate) fn answered(
        &mut self,
        own: Pid,
        (way, place, sent): (Way, u64, usize),
        refused: Option<Refused>,
        kernel: &mut Kernel,
    ) -> Option<String> {
        let courier = self.0.get_mut(&way).filter(|courier| courier.place == place)?;
        match refused {
            None => {
                courier.busy = false;
                courier.queue.drain(..sent);
                courier.first += sent as u64;
                self.go_on(own, way, kernel);
                None
            }
            Some(Refused::Unreachable | Refused::NotNow) => {
                kernel.timer(own, PAUSE, Timer::Courier { way, place });
                None
            }
            Some(refused) => Some(refused.why()),
        }
    }

    pub(crate) fn rested(&mut self, own: Pid, (way, place): (Way, u64), kernel: &mut Kernel) {
        if let Some(courier) = self.0.get_mut(&way).filter(|courier| courier.place == place) {
            courier.busy = false;
            self.go_on(own, way, kernel);
        }
    }
}

impl Courier {
    /// What whoever takes the peer's place must hear of too.
    fn stand(&mut self, payload: &Payload) {
        use hurtig_cluster::messages::{DispatcherMessage, ResourceManagerMessage};
        match payload {
            Payload::Dispatcher(DispatcherMessage::JobStatusChanged { .. }) => {
                self.standing = Some(payload.clone());
            }
            Payload::Resources(ResourceManagerMessage::Require { .. }) => {
                self.standing = Some(payload.clone());
            }
            Payload::Resources(ResourceManagerMessage::Release { .. }) => self.standing = None,
            _ => {}
        }
    }
}
