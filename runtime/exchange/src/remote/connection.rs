//! One connection: all channels between two processes, as a brain.

use super::credit::{CreditConfig, Credits};
use super::ends::{Inlet, Outgoing, Outlet};
use super::event;
use super::frame::{FrameError, FrameReader, Header, Kind};
use super::packed::{Packed, take};
use super::settings::ConnectionConfig;
use crate::queue::{Item, Rung};
use hurtig_core::ids::{ChannelId, EdgeId};
use hurtig_core::time::Time;
use hurtig_core::{Error, Event};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Instead of a channel's number: its producer has not been heard of, so it has none.
const EXPECTED: u32 = u32::MAX;

/// A channel whose producer is here.
#[derive(Debug)]
struct Producing {
    id: ChannelId,
    outlet: Outlet,
    /// The other side was told of it.
    opened: bool,
    /// The position of the next element.
    position: u64,
    granted: u64,
    sent: u64,
    /// It waits for its turn.
    queued: bool,
}

/// A channel whose consumer is here.
#[derive(Debug)]
struct Consuming {
    id: ChannelId,
    inlet: Inlet,
    position: u64,
}

/// All channels between this process and another one.
///
/// Whoever has the socket hands over what was read ([`Self::receive`]) and writes what there is to write ([`Self::fill`]): again
/// each time that something was received, and each time that the signal rings with which the channels' ends were made.
#[derive(Debug)]
pub struct Connection {
    config: ConnectionConfig,
    producing: BTreeMap<u32, Producing>,
    next: u32,
    /// Channels of which there may be something to send, in turn.
    turns: VecDeque<u32>,
    /// Those at whose ends something has changed, of either direction.
    produced: Rung,
    consumed: Rung,
    consuming: BTreeMap<u32, Consuming>,
    credits: Credits,
    /// Consumers whose producers have not been heard of.
    expected: HashMap<ChannelId, Inlet>,
    /// Producers whose consumers are not there yet.
    early: HashMap<ChannelId, u32>,
    /// Numbers of channels that are not read any more; what still comes of them is dropped.
    unread: Vec<u32>,
    /// Frames about channels that are gone, to be sent first.
    farewells: Vec<u8>,
    /// When something was sent last.
    said: Time,
    reader: FrameReader,
}

impl Connection {
    /// A connection without channels.
    pub fn new(config: ConnectionConfig) -> Self {
        let credits = CreditConfig {
            exclusive: config.exclusive,
            floating: config.floating,
            floating_per_channel: config.floating_per_channel,
            debloat: config.debloat,
        };
        Self {
            config,
            producing: BTreeMap::new(),
            next: 0,
            turns: VecDeque::new(),
            produced: Rung::default(),
            consumed: Rung::default(),
            consuming: BTreeMap::new(),
            credits: Credits::new(credits),
            expected: HashMap::new(),
            early: HashMap::new(),
            unread: Vec::new(),
            farewells: Vec::new(),
            said: Time::ZERO,
            reader: FrameReader::new(config.max_frame),
        }
    }

    /// Carries a channel away, whose consumer is at the other side.
    pub fn produce(&mut self, id: ChannelId, outlet: Outlet) {
        let channel = self.next;
        self.next += 1;
        outlet.attach(&self.produced, channel);
        let producing = Producing {
            id,
            outlet,
            opened: false,
            position: 0,
            granted: 0,
            sent: 0,
            queued: true,
        };
        self.producing.insert(channel, producing);
        self.turns.push_back(channel);
    }

    /// Brings a channel, whose producer is at the other side.
    pub fn consume(&mut self, id: ChannelId, inlet: Inlet) {
        match self.early.remove(&id) {
            Some(channel) => self.open(channel, id, inlet),
            None => {
                inlet.attach(&self.consumed, EXPECTED);
                self.expected.insert(id, inlet);
            }
        }
    }

    fn open(&mut self, channel: u32, id: ChannelId, inlet: Inlet) {
        inlet.attach(&self.consumed, channel);
        self.credits.open(channel);
        let position = 0;
        self.consuming.insert(channel, Consuming { id, inlet, position });
    }

    /// Ends all channels of a generation: what waits in them goes nowhere.
    pub fn forget(&mut self, generation: u32) {
        let of_it = |id: ChannelId| id.generation == generation;
        let produced = self.producing.extract_if(.., |_, producing| of_it(producing.id));
        for (channel, _) in produced.filter(|(_, producing)| producing.opened) {
            Header::of(Kind::Gone, channel).write(&[], &mut self.farewells);
        }
        let consumed = self.consuming.extract_if(.., |_, consuming| of_it(consuming.id));
        for channel in consumed.map(|(channel, _)| channel).collect::<Vec<_>>() {
            self.stop_reading(channel);
        }
        self.expected.retain(|id, _| !of_it(*id));
        self.early.retain(|id, _| !of_it(*id));
    }

    fn stop_reading(&mut self, channel: u32) {
        self.credits.close(channel);
        self.unread.push(channel);
        Header::of(Kind::Unread, channel).write(&[], &mut self.farewells);
    }

    /// Channels that are carried or awaited.
    pub fn channels(&self) -> usize {
        self.producing.len() + self.consuming.len() + self.expected.len()
    }

    /// Takes away what nothing was sent of, for another connection to the same process: producers whose consumers have not
    /// been heard of, and consumers whose producers have not.
    #[must_use]
    pub fn take_unsent(&mut self) -> Self {
        let mut next = Self::new(self.config);
        let unsent = self
            .producing
            .extract_if(.., |_, producing| producing.granted == 0);
        for (_, producing) in unsent {
            next.produce(producing.id, producing.outlet);
        }
        for (id, inlet) in std::mem::take(&mut self.expected) {
            next.consume(id, inlet);
        }
        next
    }

    /// Fails every task that has a channel here; there are no channels afterwards.
    pub fn fail(&mut self, error: impl Fn() -> Error) {
        for producing in std::mem::take(&mut self.producing).into_values() {
            producing.outlet.fail(error());
        }
        let consuming = std::mem::take(&mut self.consuming).into_values();
        let expected = std::mem::take(&mut self.expected).into_values();
        for inlet in consuming.map(|consuming| consuming.inlet).chain(expected) {
            inlet.fail(error());
        }
    }

    /// Appends frames until `out` is about `enough` bytes long, or there is nothing that may be sent.
    ///
    /// Called at least once in [`ConnectionConfig::quiet`], it lets the other side tell silence from death.
    pub fn fill(&mut self, out: &mut Vec<u8>, enough: usize, now: Time) {
        let before = out.len();
        self.fill_with_news(out, enough, now);
        if out.len() == before && now.since(self.said) >= self.config.quiet {
            Header::of(Kind::Alive, 0).write(&[], out);
        }
        if out.len() > before {
            self.said = now;
        }
    }

    fn fill_with_news(&mut self, out: &mut Vec<u8>, enough: usize, now: Time) {
        self.hear();
        out.append(&mut self.farewells);
        self.grant(out, now);
        while out.len() < enough
            && let Some(channel) = self.turns.pop_front()
        {
            let more = self.send_of(channel, out, now);
            if let Some(producing) = self.producing.get_mut(&channel) {
                producing.queued = more;
            }
            if more {
                self.turns.push_back(channel);
            }
        }
    }

    /// Looks which channels' ends have changed.
    fn hear(&mut self) {
        let mut rung = Vec::new();
        self.produced.take(&mut rung);
        for channel in rung.drain(..) {
            if let Some(producing) = self.producing.get(&channel) {
                // First asked to be told again, then looked: nothing that comes meanwhile goes unnoticed.
                producing.outlet.looked();
            }
            self.queue(channel);
        }
        self.consumed.take(&mut rung);
        for channel in rung {
            if channel == EXPECTED {
                self.expected.retain(|_, inlet| {
                    inlet.looked();
                    !inlet.is_unread()
                });
            }
            let Some(consuming) = self.consuming.get(&channel) else {
                continue;
            };
            consuming.inlet.looked();
            if consuming.inlet.is_unread() {
                self.consuming.remove(&channel);
                self.stop_reading(channel);
            } else {
                self.credits.touch(channel);
            }
        }
    }

    /// There may be something to send of a channel.
    fn queue(&mut self, channel: u32) {
        if let Some(producing) = self.producing.get_mut(&channel)
            && !std::mem::replace(&mut producing.queued, true)
        {
            self.turns.push_back(channel);
        }
    }

    fn grant(&mut self, out: &mut Vec<u8>, now: Time) {
        let consuming = &self.consuming;
        let of = |channel| {
            consuming
                .get(&channel)
                .map(|consuming: &Consuming| &consuming.inlet)
        };
        let debloats = self.config.debloat.is_some();
        self.credits.settle(
            now,
            |channel| of(channel).map_or(0, Inlet::waiting),
            |channel, enough| match (of(channel), enough) {
                (Some(inlet), Some(bytes)) => inlet.watch(bytes),
                // The time in which something waits is measured.
                (Some(inlet), None) if debloats => inlet.watch(0),
                _ => true,
            },
            |channel, granted| Header::of(Kind::Credit, channel).write(&granted.to_le_bytes(), out),
        );
    }

    /// Sends the next element of a channel. False when there is none that may be sent.
    fn send_of(&mut self, channel: u32, out: &mut Vec<u8>, now: Time) -> bool {
        let Some(producing) = self.producing.get_mut(&channel) else {
            return false;
        };
        if !producing.opened {
            producing.opened = true;
            Header::of(Kind::Open, channel).write(&id_bytes(producing.id), out);
        }
        if producing.granted == 0 {
            // Its consumer is not there yet.
            return false;
        }
        let has_credit = producing.sent < producing.granted;
        let Some(outgoing) = producing.outlet.next(has_credit) else {
            if producing.outlet.is_over() {
                Header::of(Kind::Gone, channel).write(&[], out);
                self.producing.remove(&channel);
            }
            return false;
        };
        producing.send(channel, outgoing, out, now);
        true
    }

    /// Takes bytes that have come.
    ///
    /// # Errors
    /// When they are not what the other side may send; the connection is to be closed then.
    pub fn receive(&mut self, bytes: &[u8], now: Time) -> Result<(), FrameError> {
        let (mut reader, mut bytes) = (self.reader.take(), bytes);
        while let Some((header, body)) = reader.read(&mut bytes)? {
            self.on_frame(header, body, now)?;
        }
        self.reader = reader;
        Ok(())
    }

    fn on_frame(&mut self, header: Header, body: &[u8], now: Time) -> Result<(), FrameError> {
        match header.kind {
            Kind::Open => self.on_open(header.channel, body),
            Kind::Batch | Kind::Event | Kind::Announce => self.on_element(header, body, now),
            Kind::Gone => self.on_gone(header.channel),
            Kind::Credit => self.on_credit(header.channel, body),
            Kind::Unread => {
                // It may have gone by itself at the same time. Otherwise this is the last that is heard of it.
                if self.producing.remove(&header.channel).is_some() {
                    Header::of(Kind::Gone, header.channel).write(&[], &mut self.farewells);
                }
                Ok(())
            }
            Kind::Alive => Ok(()),
        }
    }

    fn on_open(&mut self, channel: u32, body: &[u8]) -> Result<(), FrameError> {
        let id = id_of(body).ok_or_else(|| malformed(Kind::Open, channel))?;
        let known = self.consuming.contains_key(&channel) || self.early.values().any(|&at| at == channel);
        if known {
            return Err(FrameError::Protocol(format!("channel {channel} is opened twice")));
        }
        match self.expected.remove(&id) {
            Some(inlet) => self.open(channel, id, inlet),
            None => drop(self.early.insert(id, channel)),
        }
        Ok(())
    }

    fn on_element(&mut self, header: Header, body: &[u8], now: Time) -> Result<(), FrameError> {
        let channel = header.channel;
        let Some(consuming) = self.consuming.get_mut(&channel) else {
            return self.on_element_of_none(header);
        };
        if header.position != consuming.position {
            return Err(FrameError::Protocol(format!(
                "element {} of channel {channel} has come, and {} was to come",
                header.position, consuming.position
            )));
        }
        if header.kind == Kind::Batch {
            consuming.position += 1;
            let packed = Packed::from_bytes(body.to_vec());
            let backlog = u64::from(header.backlog) << 10;
            let weight = packed.weight() as u64;
            if !self.credits.arrived(channel, weight, backlog, header.urgent) {
                return Err(FrameError::Protocol(format!(
                    "element {} of channel {channel} has come without credit",
                    header.position
                )));
            }
            consuming.inlet.push(packed);
            return Ok(());
        }
        match (event::decode(body, now), header.kind) {
            (Some(Event::Barrier(barrier)), Kind::Announce) => consuming.inlet.announce(barrier),
            (Some(event), Kind::Event) => {
                consuming.position += 1;
                consuming.inlet.push_event(event);
            }
            _ => return Err(malformed(header.kind, channel)),
        }
        Ok(())
    }

    /// Until its consumer is there nothing is sent of a channel; when that has gone the producer may not know it yet.
    fn on_element_of_none(&mut self, header: Header) -> Result<(), FrameError> {
        match self.unread.contains(&header.channel) {
            true => Ok(()),
            false => Err(FrameError::Protocol(format!(
                "element {} has come of channel {}, which is not open",
                header.position, header.channel
            ))),
        }
    }

    fn on_gone(&mut self, channel: u32) -> Result<(), FrameError> {
        self.consuming.remove(&channel);
        self.credits.close(channel);
        self.unread.retain(|&at| at != channel);
        self.early.retain(|_, at| *at != channel);
        Ok(())
    }

    fn on_credit(&mut self, channel: u32, body: &[u8]) -> Result<(), FrameError> {
        let granted = body.try_into().map(u64::from_le_bytes);
        let granted = granted.map_err(|_| malformed(Kind::Credit, channel))?;
        // It may have gone before it was granted more.
        if let Some(producing) = self.producing.get_mut(&channel) {
            producing.granted = producing.granted.max(granted);
            self.queue(channel);
        }
        Ok(())
    }
}

impl Producing {
    fn send(&mut self, channel: u32, outgoing: Outgoing, out: &mut Vec<u8>, now: Time) {
        let mut header = Header {
            position: self.position,
            ..Header::of(Kind::Event, channel)
        };
        match outgoing {
            Outgoing::Announced(barrier) => {
                header.kind = Kind::Announce;
                header.write(&event::encode(Event::Barrier(barrier), now), out);
            }
            Outgoing::Element(queued, urgent) => {
                self.position += 1;
                header.urgent = urgent;
                match queued.item {
                    Item::Event(event) => header.write(&event::encode(event, now), out),
                    Item::Batch(packed) => {
                        self.sent += packed.weight() as u64;
                        header.kind = Kind::Batch;
                        let backlog = self.outlet.backlog().div_ceil(1 << 10);
                        header.backlog = u32::try_from(backlog).unwrap_or(u32::MAX);
                        header.write(packed.bytes(), out);
                    }
                }
            }
        }
    }
}

fn malformed(kind: Kind, channel: u32) -> FrameError {
    FrameError::Protocol(format!(
        "a frame of kind {kind:?} of channel {channel} is malformed"
    ))
}

fn id_bytes(id: ChannelId) -> Vec<u8> {
    let numbers = [id.edge.0, id.producer, id.consumer, id.generation];
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn id_of(mut body: &[u8]) -> Option<ChannelId> {
    let mut number = || take(&mut body).map(|number| u32::from_le_bytes(*number));
    let id = ChannelId {
        edge: EdgeId(number()?),
        producer: number()?,
        consumer: number()?,
        generation: number()?,
    };
    body.is_empty().then_some(id)
}

#[cfg(test)]
mod tests;
