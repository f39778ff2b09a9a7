//! Kill switches: a tree in which a fault ends everything below it, and the first fault is kept.

use crate::exit::ActorFault;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::watch;

/// Ends everything under it, once. Clones are the same switch.
#[derive(Clone)]
pub struct KillSwitch(Arc<Node>);

struct Node {
    fault: watch::Sender<Option<ActorFault>>,
    children: Mutex<Vec<Weak<Node>>>,
}

impl Default for KillSwitch {
    fn default() -> Self {
        Self::new()
    }
}

impl KillSwitch {
    /// The root of a tree.
    pub fn new() -> Self {
        let fault = watch::Sender::new(None);
        Self(Arc::new(Node {
            fault,
            children: Mutex::default(),
        }))
    }

    /// A switch that this one throws too; throwing the child leaves the parent alone.
    pub fn child(&self) -> Self {
        let child = Self::new();
        let mut children = self.0.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain(|child| child.strong_count() > 0);
        children.push(Arc::downgrade(&child.0));
        drop(children);
        // Registered first: a fault that comes meanwhile reaches the child by one way or the other.
        if let Some(fault) = self.fault() {
            child.kill(fault);
        }
        child
    }

    /// Throws the switch and every one below it. The first fault is kept; later calls do nothing.
    pub fn kill(&self, fault: ActorFault) {
        let first = self.0.fault.send_if_modified(|kept| {
            let first = kept.is_none();
            if first {
                *kept = Some(fault.clone());
            }
            first
        });
        if !first {
            return;
        }
        let children = std::mem::take(&mut *self.0.children.lock().unwrap_or_else(PoisonError::into_inner));
        children
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|child| Self(child).kill(fault.clone()));
    }

    /// The fault that threw it.
    pub fn fault(&self) -> Option<ActorFault> {
        self.0.fault.borrow().clone()
    }

    /// Whether it was thrown.
    pub fn is_dead(&self) -> bool {
        self.0.fault.borrow().is_some()
    }

    /// Waits until it is thrown. *Cancel safety*: may be dropped and called again.
    pub async fn killed(&self) -> ActorFault {
        let mut watch = self.0.fault.subscribe();
        loop {
            if let Some(fault) = watch.borrow_and_update().clone() {
                return fault;
            }
            if watch.changed().await.is_err() {
                // The sender lives in `self`, which is borrowed.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl fmt::Debug for KillSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KillSwitch").field(&self.fault()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitReason;

    fn fault(actor: &str) -> ActorFault {
        ActorFault {
            actor: actor.to_owned(),
            reason: ExitReason::Panicked("boom".to_owned()),
        }
    }

    #[test]
    fn a_fault_falls_down_the_tree_and_the_first_is_kept() {
        let root = KillSwitch::new();
        let (left, right) = (root.child(), root.child());
        let leaf = left.child();
        leaf.kill(fault("leaf"));
        assert!(leaf.is_dead() && !left.is_dead() && !root.is_dead());
        root.kill(fault("root"));
        left.kill(fault("late"));
        let actor = |switch: &KillSwitch| switch.fault().unwrap().actor;
        assert_eq!(
            [&root, &left, &right, &leaf].map(actor),
            ["root", "root", "root", "leaf"]
        );
    }

    #[test]
    fn a_child_of_a_dead_switch_is_dead() {
        let root = KillSwitch::new();
        root.kill(fault("root"));
        assert!(root.child().is_dead());
    }

    #[test]
    fn clones_are_one_switch() {
        let root = KillSwitch::new();
        let clone = root.clone();
        root.kill(fault("a"));
        assert!(clone.is_dead());
    }
}
