//! One connection: all channels between two processes, as a brain.

use super::credit::{CreditConfig, Credits};
use super::ends::{Inlet, Outgoing, Outlet};
use super::event;
use super::frame::{FrameError, FrameReader, Header, Kind};
use super::packed::{MAX_BATCH, Packed, take};
use crate::queue::Item;
use hurtig_core::ids::{ChannelId, EdgeId};
use hurtig_core::time::Time;
use hurtig_core::{Error, Event};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// What a connection may hold.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionConfig {
    /// Bytes that may be on their way to each consumer (`taskmanager.network.memory.exclusive`).
    pub exclusive: u64,
    /// Bytes beyond that, for channels of which more waits.
    pub floating: u64,
    /// The most that one channel gets of those.
    pub floating_per_channel: u64,
    /// The longest body of a frame that is taken.
    pub max_frame: usize,
    /// After so long without anything to send it says that it is there.
    pub quiet: Duration,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            exclusive: 256 << 10,
            floating: 8 << 20,
            floating_per_channel: 2 << 20,
            max_frame: MAX_BATCH,
            quiet: Duration::from_secs(3),
        }
    }
}

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
    /// The channel that is sent of first.
    turn: u32,
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
        };
        Self {
            config,
            producing: BTreeMap::new(),
            next: 0,
            turn: 0,
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
        let producing = Producing {
            id,
            outlet,
            opened: false,
            position: 0,
            granted: 0,
            sent: 0,
        };
        self.producing.insert(channel, producing);
    }

    /// Brings a channel, whose producer is at the other side.
    pub fn consume(&mut self, id: ChannelId, inlet: Inlet) {
        match self.early.remove(&id) {
            Some(channel) => self.open(channel, id, inlet),
            None => drop(self.expected.insert(id, inlet)),
        }
    }

    fn open(&mut self, channel: u32, id: ChannelId, inlet: Inlet) {
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
        next.expected = std::mem::take(&mut self.expected);
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
        self.leave_unread();
        out.append(&mut self.farewells);
        self.grant(out);
        let mut channels: Vec<u32> = self.producing.range(self.turn..).map(|(&at, _)| at).collect();
        channels.extend(self.producing.range(..self.turn).map(|(&at, _)| at));
        let mut idle = 0;
        while idle < channels.len() && out.len() < enough {
            idle = 0;
            for &channel in &channels {
                if out.len() >= enough {
                    break;
                }
                self.turn = channel + 1;
                idle += usize::from(!self.send_of(channel, out, now));
            }
        }
    }

    /// Tells producers whose consumers have gone.
    fn leave_unread(&mut self) {
        let gone = |(&channel, consuming): (&u32, &Consuming)| consuming.inlet.is_unread().then_some(channel);
        let gone: Vec<u32> = self.consuming.iter().filter_map(gone).collect();
        for channel in gone {
            self.consuming.remove(&channel);
            self.stop_reading(channel);
        }
        self.expected.retain(|_, inlet| !inlet.is_unread());
    }

    fn grant(&mut self, out: &mut Vec<u8>) {
        let consuming = &self.consuming;
        let waiting = |channel| {
            consuming.get(&channel).map_or(0, |consuming: &Consuming| {
                // First asked to be woken, then looked: nothing that is taken meanwhile goes unnoticed.
                consuming.inlet.watch();
                consuming.inlet.waiting()
            })
        };
        self.credits.settle(waiting, |channel, granted| {
            Header::of(Kind::Credit, channel).write(&granted.to_le_bytes(), out);
        });
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
        let mut reader = std::mem::replace(&mut self.reader, FrameReader::new(self.config.max_frame));
        reader.feed(bytes);
        while let Some((header, body)) = reader.next()? {
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
