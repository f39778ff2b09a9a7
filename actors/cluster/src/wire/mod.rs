//! What the actors say when they are in different processes: the same messages, in numbered deliveries, and the questions
//! that are answered. It knows how a message travels and not what it means.
//!
//! A call site holds a mailbox wherever its peer is. To one of another process leads a [`courier`].

pub(crate) mod courier;
mod crossings;
mod delivery;
mod messages;

pub(crate) use courier::Courier;
pub use delivery::{Delivery, Inbox, MissingMessages};
pub(crate) use messages::*;
