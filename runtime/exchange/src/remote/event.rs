//! Events as they travel.

use super::packed::take;
use hurtig_core::element::WatermarkStatus;
use hurtig_core::ids::CheckpointId;
use hurtig_core::time::Time;
use hurtig_core::{Barrier, Event};
use std::time::Duration;

const WATERMARK: u8 = 1;
const ACTIVE: u8 = 2;
const IDLE: u8 = 3;
const BARRIER: u8 = 4;
const BACKLOG: u8 = 5;
const NO_BACKLOG: u8 = 6;
const END: u8 = 7;
/// A barrier that may overtake, in so many nanoseconds: processes have no clock in common.
const OVERTAKING: u8 = 8;

/// The bytes of an event: what it is (`u8`), and up to two numbers (`u64`, little-endian).
pub(super) fn encode(event: Event, now: Time) -> Vec<u8> {
    let with = |kind, numbers: &[u64]| {
        let mut bytes = vec![kind];
        numbers
            .iter()
            .for_each(|number| bytes.extend(number.to_le_bytes()));
        bytes
    };
    match event {
        Event::Watermark(at) => with(WATERMARK, &[at.cast_unsigned()]),
        Event::Status(WatermarkStatus::Active) => with(ACTIVE, &[]),
        Event::Status(WatermarkStatus::Idle) => with(IDLE, &[]),
        Event::Barrier(barrier) => barrier_bytes(barrier, now, with),
        Event::Backlog(true) => with(BACKLOG, &[]),
        Event::Backlog(false) => with(NO_BACKLOG, &[]),
        Event::EndOfInput => with(END, &[]),
    }
}

fn barrier_bytes(barrier: Barrier, now: Time, with: impl Fn(u8, &[u64]) -> Vec<u8>) -> Vec<u8> {
    let checkpoint = barrier.checkpoint.0;
    match barrier.overtakes {
        None => with(BARRIER, &[checkpoint]),
        Some(at) => with(
            OVERTAKING,
            &[checkpoint, at.as_nanos().saturating_sub(now.as_nanos())],
        ),
    }
}

/// The event; `None` when these are not the bytes of one.
pub(super) fn decode(mut bytes: &[u8], now: Time) -> Option<Event> {
    let [kind] = *take(&mut bytes)?;
    let mut number = || take(&mut bytes).map(|number| u64::from_le_bytes(*number));
    let event = match kind {
        WATERMARK => Event::Watermark(number()?.cast_signed()),
        ACTIVE => Event::Status(WatermarkStatus::Active),
        IDLE => Event::Status(WatermarkStatus::Idle),
        BARRIER => Event::Barrier(Barrier::from(CheckpointId(number()?))),
        OVERTAKING => Event::Barrier(Barrier {
            checkpoint: CheckpointId(number()?),
            overtakes: Some(now.after(Duration::from_nanos(number()?))),
        }),
        BACKLOG => Event::Backlog(true),
        NO_BACKLOG => Event::Backlog(false),
        END => Event::EndOfInput,
        _ => return None,
    };
    bytes.is_empty().then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_arrive_and_the_time_of_a_barrier_is_that_of_the_other_clock() {
        let overtaking = |at| {
            Event::Barrier(Barrier {
                checkpoint: CheckpointId(9),
                overtakes: Some(Time::from_nanos(at)),
            })
        };
        let (here, there) = (Time::from_nanos(1_000), Time::from_nanos(50));
        let cases = [
            (Event::Watermark(-7), Event::Watermark(-7)),
            (
                Event::Status(WatermarkStatus::Idle),
                Event::Status(WatermarkStatus::Idle),
            ),
            (
                Event::Status(WatermarkStatus::Active),
                Event::Status(WatermarkStatus::Active),
            ),
            (
                Event::Barrier(Barrier::from(CheckpointId(3))),
                Event::Barrier(Barrier::from(CheckpointId(3))),
            ),
            (overtaking(1_400), overtaking(450)),
            // One whose time has come may overtake at once.
            (overtaking(10), overtaking(50)),
            (Event::Backlog(true), Event::Backlog(true)),
            (Event::Backlog(false), Event::Backlog(false)),
            (Event::EndOfInput, Event::EndOfInput),
        ];
        for (sent, arrived) in cases {
            let bytes = encode(sent, here);
            assert_eq!(decode(&bytes, there), Some(arrived));
            assert_eq!(decode(&bytes[..bytes.len() - 1], there), None, "cut off");
            assert_eq!(decode(&[&bytes[..], &[0]].concat(), there), None, "too long");
        }
        assert_eq!(decode(&[99], there), None);
    }
}
