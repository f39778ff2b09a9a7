//! Bodies that arrive in parts: at most one in each lane.

use super::CloseReason;
use crate::frame::{Frame, Header, Kind};
use crate::message::Lane;

/// A body of which a part is here.
struct Partial {
    header: Header,
    body: Vec<u8>,
    total: usize,
    received: usize,
    /// Whether its parts are kept.
    kept: bool,
}

/// What a frame has made complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Assembled {
    /// The header of its first frame, and all of its body.
    Whole(Header, Vec<u8>),
    /// It is too large, and its parts will be dropped: said once, with its first frame.
    TooLarge(Header),
    /// Nothing.
    Nothing,
}

/// Puts parts together. Memory follows what has arrived, not what was announced.
pub(super) struct Assembler {
    max_message: usize,
    lanes: [Option<Partial>; Lane::ALL.len()],
}

impl Assembler {
    pub(super) fn new(max_message: usize) -> Self {
        let lanes = Default::default();
        Self { max_message, lanes }
    }

    /// Takes an ask, tell or reply up, or its first part.
    pub(super) fn begin(&mut self, frame: Frame) -> Result<Assembled, CloseReason> {
        let Frame { header, body } = frame;
        let total = usize::try_from(header.total).unwrap_or(usize::MAX);
        let slot = &mut self.lanes[header.lane.index()];
        if slot.is_some() {
            return Err(CloseReason::Violation("a message within another one of its lane"));
        }
        let kept = total <= self.max_message;
        if header.more {
            *slot = Some(Partial {
                header: header.clone(),
                received: body.len(),
                body: if kept { body } else { Vec::new() },
                total,
                kept,
            });
            return Ok(if kept {
                Assembled::Nothing
            } else {
                Assembled::TooLarge(header)
            });
        }
        Ok(if kept {
            Assembled::Whole(header, body)
        } else {
            Assembled::TooLarge(header)
        })
    }

    /// Takes a further part up.
    pub(super) fn chunk(&mut self, frame: &Frame) -> Result<Assembled, CloseReason> {
        let slot = &mut self.lanes[frame.header.lane.index()];
        let Some(partial) = slot
            .as_mut()
            .filter(|partial| partial.header.id == frame.header.id)
        else {
            return Err(CloseReason::Violation("a chunk of nothing"));
        };
        partial.received += frame.body.len();
        if partial.kept {
            partial.body.extend_from_slice(&frame.body);
        }
        let complete = partial.received == partial.total;
        if partial.received > partial.total || complete == frame.header.more {
            return Err(CloseReason::Violation(
                "chunks that do not add up to their message",
            ));
        }
        match slot.take_if(|_| complete) {
            Some(Partial {
                header,
                body,
                kept: true,
                ..
            }) => Ok(Assembled::Whole(header, body)),
            _ => Ok(Assembled::Nothing),
        }
    }

    /// Drops an ask whose asker has gone: its chunks will not come.
    pub(super) fn cancel(&mut self, id: u64) {
        let is_it = |partial: &mut Partial| partial.header.kind == Kind::Ask && partial.header.id == id;
        for lane in &mut self.lanes {
            lane.take_if(is_it);
        }
    }
}
