//! Bounded mailboxes: a message is accepted, or refused with a reason; nothing grows.

use actix::{Message, Recipient, dev::SendError};
use std::fmt;
use std::time::Duration;
use tokio::sync::oneshot;

/// An event on its way into an actor.
#[derive(Debug)]
pub struct Deliver<E>(pub E);

impl<E: 'static> Message for Deliver<E> {
    type Result = ();
}

/// Why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TellError {
    /// The mailbox is full; trying again later may help.
    #[error("the receiver's mailbox is full")]
    Overloaded,
    /// The actor has ended.
    #[error("the receiver has ended")]
    Closed,
}

/// Why a question was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It was not accepted.
    #[error(transparent)]
    Refused(#[from] TellError),
    /// No answer in time. Whether it was acted upon is not known.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The receiver ended, or dropped the question. Whether it was acted upon is not known.
    #[error("the receiver ended before it answered")]
    NoReply,
}

/// The address of an actor that takes events of type `E`.
pub struct Mailbox<E: Send + 'static>(pub(crate) Recipient<Deliver<E>>);

impl<E: Send + 'static> Mailbox<E> {
    /// The mailbox behind an actix recipient: for actors that are not a [`crate::Shell`].
    pub fn new(recipient: Recipient<Deliver<E>>) -> Self {
        Self(recipient)
    }

    /// Hands over an event.
    ///
    /// # Errors
    /// When the mailbox is full or closed; the event is dropped then.
    pub fn tell(&self, event: E) -> Result<(), TellError> {
        self.offer(event).map_err(|(refusal, _)| refusal)
    }

    /// Hands over an event, or gives it back.
    pub(crate) fn offer(&self, event: E) -> Result<(), (TellError, E)> {
        self.0.try_send(Deliver(event)).map_err(|error| match error {
            SendError::Full(Deliver(event)) => (TellError::Overloaded, event),
            SendError::Closed(Deliver(event)) => (TellError::Closed, event),
        })
    }

    /// Asks a question and waits for the answer. Needs the actor system's timers: callers outside
    /// of it go through a gateway.
    ///
    /// # Errors
    /// When it was refused, not answered in time, or never will be.
    pub async fn ask<T>(
        &self,
        question: impl FnOnce(Reply<T>) -> E,
        deadline: Duration,
    ) -> Result<T, AskError> {
        let (reply, answer) = Reply::new();
        self.tell(question(reply))?;
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(AskError::NoReply),
            Err(_) => Err(AskError::Timeout(deadline)),
        }
    }
}

impl<E: Send + 'static> Clone for Mailbox<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Send + 'static> fmt::Debug for Mailbox<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox")
    }
}

/// The reply that is owed to a question. Dropping it tells the asker that none will come.
pub struct Reply<T>(oneshot::Sender<T>);

impl<T> Reply<T> {
    /// A reply, and the future of its answer. The future needs no runtime.
    pub fn new() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers. An asker that no longer waits hears nothing.
    pub fn send(self, answer: T) {
        // The asker may have given up: that is its right.
        let _ = self.0.send(answer);
    }

    /// Whether anyone still waits.
    pub fn is_wanted(&self) -> bool {
        !self.0.is_closed()
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}
