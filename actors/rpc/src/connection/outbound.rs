//! What waits to be sent: urgent frames first, then one frame of each lane in turn.

use super::Outgoing;
use crate::frame::{Header, Kind, MAX_FRAME_BODY, encode_frame};
use crate::message::Lane;
use hurtig_core::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// A frame that overtakes all messages. Few can wait: cancels for asks that are in flight, one ping, one pong.
struct Urgent {
    kind: Kind,
    id: u64,
    body: Vec<u8>,
}

/// A body that is being sent.
struct Item {
    kind: Kind,
    content: Content,
    sent: usize,
}

enum Content {
    /// An ask or tell.
    Message(Outgoing),
    /// A reply or error.
    Answer { id: u64, body: Vec<u8> },
}

impl Item {
    fn id(&self) -> u64 {
        match &self.content {
            Content::Message(message) => message.id,
            Content::Answer { id, .. } => *id,
        }
    }

    fn body(&self) -> &[u8] {
        match &self.content {
            Content::Message(message) => &message.body,
            Content::Answer { body, .. } => body,
        }
    }
}

/// The sending side.
pub(super) struct Outbound {
    version: u16,
    sequence: u64,
    urgent: VecDeque<Urgent>,
    lanes: [VecDeque<Item>; Lane::ALL.len()],
    /// Whose turn it is.
    turn: usize,
    /// Replies and errors that wait, and their bytes.
    answers: usize,
    answer_bytes: usize,
}

impl Outbound {
    pub(super) fn new(version: u16, sequence: u64) -> Self {
        Self {
            version,
            sequence,
            urgent: VecDeque::new(),
            lanes: Default::default(),
            turn: 0,
            answers: 0,
            answer_bytes: 0,
        }
    }

    pub(super) fn message(&mut self, message: Outgoing) {
        let kind = if message.deadline.is_some() {
            Kind::Ask
        } else {
            Kind::Tell
        };
        let lane = message.lane;
        self.queue(lane, kind, Content::Message(message));
    }

    pub(super) fn answer(&mut self, lane: Lane, kind: Kind, id: u64, body: Vec<u8>) {
        self.answers += 1;
        self.answer_bytes += body.len();
        self.queue(lane, kind, Content::Answer { id, body });
    }

    fn queue(&mut self, lane: Lane, kind: Kind, content: Content) {
        let sent = 0;
        self.lanes[lane.index()].push_back(Item { kind, content, sent });
    }

    /// Queues a frame that overtakes messages. An unsent pong is replaced: only the last one says something.
    pub(super) fn urgent(&mut self, kind: Kind, id: u64, body: Vec<u8>) {
        if matches!(kind, Kind::Ping | Kind::Pong) {
            self.urgent.retain(|waiting| waiting.kind != kind);
        }
        self.urgent.push_back(Urgent { kind, id, body });
    }

    /// Takes an ask back. Returns whether the peer has seen any of it, and must be told.
    pub(super) fn take_back(&mut self, id: u64) -> bool {
        for lane in &mut self.lanes {
            let is_it = |item: &Item| item.kind == Kind::Ask && item.id() == id;
            if let Some(at) = lane.iter().position(is_it) {
                return lane.remove(at).is_some_and(|item| item.sent > 0);
            }
        }
        true
    }

    /// Replies and errors that wait to be sent.
    pub(super) fn answers(&self) -> usize {
        self.answers
    }

    /// The bytes of these.
    pub(super) fn answer_bytes(&self) -> usize {
        self.answer_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.lanes.iter().all(VecDeque::is_empty)
    }

    /// Writes frames until `out` has `limit` bytes or nothing waits; calls `sent` with the id of each message that is all sent.
    pub(super) fn frames(&mut self, now: Time, limit: usize, out: &mut Vec<u8>, mut sent: impl FnMut(u64)) {
        while out.len() < limit {
            if let Some(Urgent { kind, id, body }) = self.urgent.pop_front() {
                let mut header = Header::new(self.version, kind, id);
                header.total = length(body.len());
                self.write(header, &body, out);
            } else if let Some(lane) = self.next_lane() {
                self.turn = (lane + 1) % self.lanes.len();
                self.part(lane, now, out, &mut sent);
            } else {
                break;
            }
        }
    }

    fn next_lane(&self) -> Option<usize> {
        let count = self.lanes.len();
        (0..count)
            .map(|step| (self.turn + step) % count)
            .find(|lane| !self.lanes[*lane].is_empty())
    }

    /// Writes the next frame of a lane's first message.
    fn part(&mut self, lane: usize, now: Time, out: &mut Vec<u8>, sent: &mut impl FnMut(u64)) {
        let Some(mut item) = self.lanes[lane].pop_front() else {
            return;
        };
        let Some(header) = self.header(&item, Lane::ALL[lane], now) else {
            // Its asker has given up; who keeps the asks will say so.
            return;
        };
        let end = item.body().len().min(item.sent + MAX_FRAME_BODY);
        self.write(header, &item.body()[item.sent..end], out);
        item.sent = end;
        if end < item.body().len() {
            self.lanes[lane].push_front(item);
        } else if matches!(item.content, Content::Message(_)) {
            sent(item.id());
        } else {
            self.answers -= 1;
            self.answer_bytes -= item.body().len();
        }
    }

    /// `None`: there is no time left.
    fn header(&self, item: &Item, lane: Lane, now: Time) -> Option<Header> {
        let rest = item.body().len() - item.sent;
        let first = item.sent == 0;
        let mut header = Header::new(
            self.version,
            if first { item.kind } else { Kind::Chunk },
            item.id(),
        );
        header.lane = lane;
        header.more = rest > MAX_FRAME_BODY;
        if !first {
            return Some(header);
        }
        header.total = length(rest);
        if let Content::Message(message) = &item.content {
            header.timeout_ms = match message.deadline {
                Some((deadline, _)) => time_left(deadline, now)?,
                None => 0,
            };
            (header.stamp, header.trace) = (message.stamp, message.trace);
            header.endpoint = message.endpoint.as_ref().to_owned();
            header.message = message.message.to_owned();
        }
        Some(header)
    }

    fn write(&mut self, mut header: Header, body: &[u8], out: &mut Vec<u8>) {
        header.sequence = self.sequence;
        self.sequence += 1;
        encode_frame(&header, body, out);
    }

    /// The messages that are not all sent, in the order of their lanes: they can be sent again from their beginning, since
    /// nobody acts on a part.
    pub(super) fn into_unsent(self) -> impl Iterator<Item = Outgoing> {
        let items = self.lanes.into_iter().flatten();
        items.filter_map(|item| match item.content {
            Content::Message(message) => Some(message),
            Content::Answer { .. } => None,
        })
    }
}

/// Whole milliseconds, rounded up, so that a little time is not none.
fn time_left(deadline: Time, now: Time) -> Option<u32> {
    let left = deadline.since(now);
    if left.is_zero() {
        return None;
    }
    let millis = left.saturating_add(Duration::from_nanos(999_999)).as_millis();
    Some(u32::try_from(millis).unwrap_or(u32::MAX))
}

fn length(bytes: usize) -> u32 {
    // Bodies are checked against a bound of at most 1 GiB before they are queued.
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
