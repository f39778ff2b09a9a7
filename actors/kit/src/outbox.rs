//! Messages that must not be lost to a full mailbox: kept in order until there is room.

use crate::exit::{ActorFault, ExitReason};
use crate::kill::KillSwitch;
use crate::mailbox::{Deliver, Mailbox, TellError};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

/// The way from one actor to another for messages whose number the protocol bounds (state reports,
/// commands). Order is kept. It never blocks and never grows beyond its limit: reaching the limit
/// means that the protocol's bound was broken, and throws the kill switch.
pub struct Outbox<E: Send + 'static>(Rc<Inner<E>>);

struct Inner<E: Send + 'static> {
    name: String,
    mailbox: Mailbox<E>,
    waiting: RefCell<VecDeque<E>>,
    limit: usize,
    driving: Cell<bool>,
    kill: KillSwitch,
}

impl<E: Send + 'static> Outbox<E> {
    /// A way to `mailbox` for at most `limit` messages that wait for room. `name` says whose it is.
    pub fn new(name: impl Into<String>, mailbox: Mailbox<E>, limit: usize, kill: KillSwitch) -> Self {
        let (waiting, driving) = (RefCell::default(), Cell::new(false));
        Self(Rc::new(Inner {
            name: name.into(),
            mailbox,
            waiting,
            limit,
            driving,
            kill,
        }))
    }

    /// Hands over a message, now or as soon as there is room. Must be called inside a local set.
    /// A receiver that has ended hears nothing.
    pub fn send(&self, message: E) {
        let inner = &self.0;
        if inner.driving.get() {
            return inner.keep(message);
        }
        match inner.mailbox.offer(message) {
            Ok(()) | Err((TellError::Closed, _)) => {}
            Err((TellError::Overloaded, message)) => {
                inner.keep(message);
                inner.driving.set(true);
                actix::spawn(drive(inner.clone()));
            }
        }
    }

    /// Messages that wait for room.
    pub fn waiting(&self) -> usize {
        self.0.waiting.borrow().len()
    }

    /// Where it leads.
    pub fn mailbox(&self) -> &Mailbox<E> {
        &self.0.mailbox
    }
}

impl<E: Send + 'static> Inner<E> {
    fn keep(&self, message: E) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() < self.limit {
            waiting.push_back(message);
            return;
        }
        let text = format!("more than {} messages wait for a full mailbox", self.limit);
        let reason = ExitReason::failed(hurtig_core::Error::internal(text));
        self.kill.kill(ActorFault {
            actor: self.name.clone(),
            reason,
        });
    }

    fn next(&self) -> Option<E> {
        self.waiting.borrow_mut().pop_front()
    }
}

/// Delivers until nothing waits. The last owner of an outbox may be gone by then: what it sent
/// still arrives.
async fn drive<E: Send + 'static>(inner: Rc<Inner<E>>) {
    while let Some(message) = inner.next() {
        if inner.mailbox.0.send(Deliver(message)).await.is_err() {
            inner.waiting.borrow_mut().clear();
        }
    }
    inner.driving.set(false);
}

impl<E: Send + 'static> Clone for Outbox<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Send + 'static> fmt::Debug for Outbox<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("name", &self.0.name)
            .field("waiting", &self.waiting())
            .finish()
    }
}
