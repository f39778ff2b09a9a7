//! Numbered messages from one sender to one receiver: sent again as often as it takes, taken once.

use hurtig_core::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Messages that follow one another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery<M> {
    /// Names the sender's way to this receiver.
    pub sender: Uuid,
    /// The number of the first message; those of one sender are numbered from 0.
    pub first: u64,
    /// The messages, in order.
    pub messages: Vec<M>,
}

/// What a receiver has had of each sender.
#[derive(Clone, Debug, Default)]
pub struct Inbox(BTreeMap<Uuid, u64>);

/// A delivery that does not follow upon what its receiver has had of the sender.
///
/// A courier sends what follows only after an answer to what came before, so one of the two has lost messages, and nothing can bring them
/// back: the sender is told, and takes its peer for lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingMessages {
    sender: Uuid,
    first: u64,
    next: u64,
}

impl From<MissingMessages> for Error {
    fn from(missing: MissingMessages) -> Self {
        let MissingMessages { sender, first, next } = missing;
        Self::internal(format!(
            "messages {next} to {} of sender {sender} are missing: it went on with {first}",
            first - 1
        ))
    }
}

impl Inbox {
    /// The messages that are new, in order; none of a delivery before which others are missing.
    pub fn accept<M>(
        &mut self,
        delivery: Delivery<M>,
    ) -> Result<impl Iterator<Item = M> + use<M>, MissingMessages> {
        let Delivery {
            sender,
            first,
            messages,
        } = delivery;
        let next = self.0.entry(sender).or_insert(0);
        if first > *next {
            let next = *next;
            return Err(MissingMessages { sender, first, next });
        }
        let known = *next - first;
        *next = (*next).max(first.saturating_add(messages.len() as u64));
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        Ok(messages.into_iter().skip(known))
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
                    taken.extend(inbox.accept(delivery).unwrap());
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
        assert_eq!(inbox.accept(delivery(1)).unwrap().count(), 2);
        assert_eq!(inbox.accept(delivery(2)).unwrap().count(), 2);
        assert_eq!(inbox.accept(delivery(1)).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_taken_of_a_delivery_before_which_messages_are_missing() {
        let mut inbox = Inbox::default();
        let delivery = |first, messages: &[u64]| Delivery {
            sender: Uuid::from_u128(1),
            first,
            messages: messages.to_vec(),
        };
        assert_eq!(inbox.accept(delivery(0, &[0, 1])).unwrap().count(), 2);
        let missing = inbox.accept(delivery(3, &[3, 4])).err().unwrap();
        assert_eq!((missing.next, missing.first), (2, 3));
        assert!(Error::from(missing).to_string().contains("messages 2 to 2"));
        // It was not taken: the whole of it may still come.
        let whole: Vec<u64> = inbox.accept(delivery(2, &[2, 3, 4])).unwrap().collect();
        assert_eq!(whole, [2, 3, 4]);
    }
}
