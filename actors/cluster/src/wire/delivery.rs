//! Numbered messages from one sender to one receiver: sent again as often as it takes, taken once.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Messages that follow one another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Delivery<M> {
    /// Names the sender's way to this receiver.
    pub(crate) sender: Uuid,
    /// The number of the first message; those of one sender are numbered from 0.
    pub(crate) first: u64,
    /// The messages, in order.
    pub(crate) messages: Vec<M>,
}

/// What a receiver has had of each sender.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inbox(BTreeMap<Uuid, u64>);

impl Inbox {
    /// The messages that are new, in order.
    pub(crate) fn accept<M>(&mut self, delivery: Delivery<M>) -> impl Iterator<Item = M> + use<M> {
        let Delivery {
            sender,
            first,
            messages,
        } = delivery;
        let next = self.0.entry(sender).or_insert(0);
        if first > *next {
            // A courier sends what follows only after an answer to what came before.
            tracing::error!(%sender, first, next = *next, "messages are missing");
        }
        let known = next.saturating_sub(first);
        *next = (*next).max(first.saturating_add(messages.len() as u64));
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        messages.into_iter().skip(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A sender repeats deliveries, whole or longer, until it hears that one was taken: each message is taken once.
        #[test]
        fn what_is_sent_again_is_taken_once(lengths in prop::collection::vec((1u64..5, 0u64..3), 0..40)) {
            let (mut inbox, mut taken) = (Inbox::default(), Vec::new());
            let mut acknowledged = 0;
            for (length, lost) in lengths {
                // So many answers are lost, while more messages come to wait.
                for more in 0..=lost {
                    let messages: Vec<u64> = (acknowledged..acknowledged + length + more).collect();
                    let delivery = Delivery { sender: Uuid::from_u128(1), first: acknowledged, messages };
                    taken.extend(inbox.accept(delivery));
                }
                acknowledged += length + lost;
            }
            prop_assert_eq!(taken, (0..acknowledged).collect::<Vec<_>>());
        }
    }

    #[test]
    fn senders_are_kept_apart() {
        let mut inbox = Inbox::default();
        let delivery = |sender| Delivery {
            sender: Uuid::from_u128(sender),
            first: 0,
            messages: vec![1, 2],
        };
        assert_eq!(inbox.accept(delivery(1)).count(), 2);
        assert_eq!(inbox.accept(delivery(2)).count(), 2);
        assert_eq!(inbox.accept(delivery(1)).count(), 0);
    }
}
