//! How much each channel may be sent: the accounts of who consumes.

use super::debloat::{Debloat, Meter};
use hurtig_core::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// What channels share.
#[derive(Clone, Copy, Debug)]
pub(super) struct CreditConfig {
    /// Bytes that each channel has for itself.
    pub(super) exclusive: u64,
    /// Bytes beyond that, for the channels that need them.
    pub(super) floating: u64,
    /// The most that one channel gets of those.
    pub(super) floating_per_channel: u64,
    /// Whether less is granted to those that read slowly.
    pub(super) debloat: Option<Debloat>,
}

/// One channel's account. All numbers but `floating` and `window` count bytes since it was opened.
#[derive(Clone, Copy, Debug)]
struct Account {
    granted: u64,
    received: u64,
    /// What its producer says waits beyond what was received.
    backlog: u64,
    /// Bytes of the pool that it has.
    floating: u64,
    /// The most that is to be on its way, from what is read of it.
    window: u64,
    meter: Meter,
    /// What its producer was told.
    told: u64,
    /// It is to be looked at.
    listed: bool,
}

/// The accounts of all channels that one connection brings.
///
/// What was granted and not consumed never exceeds `channels * exclusive + floating`. Only channels of which something has changed
/// are looked at.
#[derive(Debug)]
pub(super) struct Credits {
    config: CreditConfig,
    accounts: BTreeMap<u32, Account>,
    /// Channels that are to be looked at.
    listed: Vec<u32>,
    /// Channels that could use bytes of the pool.
    wanting: BTreeSet<u32>,
    /// Bytes of the pool that nobody has.
    pool: u64,
    /// The channel that is looked at first for bytes of the pool.
    first: u32,
}

impl Credits {
    pub(super) fn new(config: CreditConfig) -> Self {
        Self {
            config,
            accounts: BTreeMap::new(),
            listed: Vec::new(),
            wanting: BTreeSet::new(),
            pool: config.floating,
            first: 0,
        }
    }

    pub(super) fn open(&mut self, channel: u32) {
        self.accounts.insert(channel, Account::new(&self.config));
        self.touch(channel);
    }

    /// The channel is over: what it had of the pool is free.
    pub(super) fn close(&mut self, channel: u32) {
        self.wanting.remove(&channel);
        if let Some(account) = self.accounts.remove(&channel) {
            self.pool += account.floating;
        }
    }

    /// Something of the channel has changed.
    pub(super) fn touch(&mut self, channel: u32) {
        if let Some(account) = self.accounts.get_mut(&channel).filter(|account| !account.listed) {
            account.listed = true;
            self.listed.push(channel);
        }
    }

    /// Bytes have come, and more may wait. False when they had no credit.
    pub(super) fn arrived(&mut self, channel: u32, bytes: u64, backlog: u64, urgent: bool) -> bool {
        let Some(account) = self.accounts.get_mut(&channel) else {
            return false;
        };
        let had_credit = account.received < account.granted || urgent;
        account.received += bytes;
        account.backlog = backlog;
        self.touch(channel);
        had_credit
    }

    /// Grants what can be granted to channels of which something has changed, given what waits to be consumed; calls `grant` with the
    /// channel and its new total. Afterwards calls `watch` for each of those channels: with the bytes that may wait at most for it to be
    /// granted more, `None` when it is to be looked at again only when more has come. It says whether more wait now.
    pub(super) fn settle(
        &mut self,
        now: Time,
        waiting: impl Fn(u32) -> u64,
        watch: impl Fn(u32, Option<u64>) -> bool,
        mut grant: impl FnMut(u32, u64),
    ) {
        let mut looked_at = Vec::new();
        while !self.listed.is_empty() {
            let listed = std::mem::take(&mut self.listed);
            for &channel in &listed {
                if let Some(account) = self.accounts.get_mut(&channel) {
                    account.listed = false;
                    self.pool += account.look(&self.config, waiting(channel), now);
                }
                self.note_wants(channel);
            }
            self.lend(&mut looked_at);
            for &channel in &listed {
                let account = self.accounts.get(&channel);
                let Some(enough) = account.map(|account| account.grants_at(&self.config)) else {
                    continue;
                };
                // So few are there already that there is more to grant.
                if !watch(channel, enough) && enough.is_some() {
                    self.touch(channel);
                }
            }
            looked_at.extend(listed);
        }
        self.lend(&mut looked_at);
        for channel in looked_at {
            if let Some(account) = self
                .accounts
                .get_mut(&channel)
                .filter(|account| account.told < account.granted)
            {
                account.told = account.granted;
                grant(channel, account.granted);
            }
        }
    }

    fn note_wants(&mut self, channel: u32) {
        match self.accounts.get(&channel) {
            Some(account) if account.wants(&self.config) > 0 => self.wanting.insert(channel),
            _ => self.wanting.remove(&channel),
        };
    }

    /// Lends bytes of the pool to channels of which more waits than they may send, each in turn.
    fn lend(&mut self, grown: &mut Vec<u32>) {
        while self.pool > 0 {
            let next = self.wanting.range(self.first..).next();
            let Some(&channel) = next.or_else(|| self.wanting.first()) else {
                return;
            };
            self.wanting.remove(&channel);
            self.first = channel.wrapping_add(1);
            if let Some(account) = self.accounts.get_mut(&channel) {
                let lent = account.wants(&self.config).min(self.pool);
                self.pool -= lent;
                account.floating += lent;
                account.granted += lent;
                grown.push(channel);
            }
            // One that got less than it wants is the last: the pool is empty.
            self.note_wants(channel);
        }
    }
}

impl Account {
    fn new(config: &CreditConfig) -> Self {
        Self {
            granted: 0,
            received: 0,
            backlog: 0,
            floating: 0,
            window: config.exclusive + config.floating_per_channel,
            meter: Meter::default(),
            told: 0,
            listed: false,
        }
    }

    /// Its own share, or less of it.
    fn share(&self, config: &CreditConfig) -> u64 {
        config.exclusive.min(self.window)
    }

    /// Grants come in quarters, unless the producer has nothing left.
    fn least(&self, config: &CreditConfig) -> u64 {
        match self.received < self.granted {
            true => self.share(config).div_ceil(4),
            false => 1,
        }
    }

    /// Grants anew what was consumed. What it had of the pool goes back first; returns how much.
    fn look(&mut self, config: &CreditConfig, waiting: u64, now: Time) -> u64 {
        let consumed = self.received.saturating_sub(waiting);
        if let Some(debloat) = &config.debloat {
            let most = config.exclusive + config.floating_per_channel;
            self.window = self
                .meter
                .look(debloat, (now, consumed, waiting), (self.window, most));
        }
        let allowed = consumed + self.share(config) + self.floating;
        let free = allowed.saturating_sub(self.granted);
        if free < self.least(config) {
            return 0;
        }
        let back = free.min(self.floating);
        self.floating -= back;
        self.granted += free - back;
        back
    }

    /// The bytes that may wait at most for [`Self::look`] to find more to grant.
    fn grants_at(&self, config: &CreditConfig) -> Option<u64> {
        let allowed = self.received + self.share(config) + self.floating;
        allowed.checked_sub(self.granted + self.least(config))
    }

    /// Bytes of the pool that it can use.
    fn wants(&self, config: &CreditConfig) -> u64 {
        let left = self.granted.saturating_sub(self.received);
        let more = config.floating_per_channel.saturating_sub(self.floating);
        let more = more.min(self.window.saturating_sub(self.share(config) + self.floating));
        self.backlog.saturating_sub(left).min(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONFIG: CreditConfig = CreditConfig {
        exclusive: 100,
        floating: 300,
        floating_per_channel: 200,
        debloat: None,
    };

    /// A producer and a consumer beside an account.
    #[derive(Clone, Default)]
    struct Channel {
        granted: u64,
        sent: u64,
        waiting: u64,
        backlog: u64,
    }

    fn settle(credits: &mut Credits, channels: &mut [Channel]) {
        let waiting: Vec<u64> = channels.iter().map(|channel| channel.waiting).collect();
        // Whoever is watched is told of what is taken: here always.
        (0..channels.len() as u32).for_each(|channel| credits.touch(channel));
        credits.settle(
            Time::ZERO,
            |channel| waiting[channel as usize],
            |channel, enough| enough.is_none_or(|enough| waiting[channel as usize] > enough),
            |channel, granted| {
                assert!(
                    granted > channels[channel as usize].granted,
                    "a grant grants something"
                );
                channels[channel as usize].granted = granted;
            },
        );
    }

    fn opened(channels: usize) -> (Credits, Vec<Channel>) {
        let mut credits = Credits::new(CONFIG);
        (0..channels as u32).for_each(|channel| credits.open(channel));
        let mut channels = vec![Channel::default(); channels];
        settle(&mut credits, &mut channels);
        (credits, channels)
    }

    proptest! {
        #[test]
        fn what_is_granted_is_bounded_and_nobody_starves(
            steps in prop::collection::vec((0..3usize, 0..4u8, 1..150u64), 1..200)
        ) {
            let (mut credits, mut channels) = opened(3);
            for (at, what, bytes) in steps {
                let channel = &mut channels[at];
                match what {
                    // The last one under credit may exceed it.
                    0 if channel.sent < channel.granted => {
                        channel.sent += bytes;
                        channel.waiting += bytes;
                        prop_assert!(credits.arrived(at as u32, bytes, channel.backlog, false));
                    }
                    1 => channel.waiting -= bytes.min(channel.waiting),
                    2 => channel.backlog = bytes * 4,
                    _ => settle(&mut credits, &mut channels),
                }
                let held: u64 = channels
                    .iter()
                    .map(|channel| channel.granted.saturating_sub(channel.sent - channel.waiting))
                    .sum();
                prop_assert!(held <= 3 * CONFIG.exclusive + CONFIG.floating, "{held} are granted");
            }
            // When all is consumed everybody has its own share again, and the pool is whole.
            for (at, channel) in channels.iter_mut().enumerate() {
                channel.waiting = 0;
                credits.arrived(at as u32, 0, 0, true);
            }
            settle(&mut credits, &mut channels);
            settle(&mut credits, &mut channels);
            for channel in &channels {
                prop_assert!(channel.granted >= channel.sent + CONFIG.exclusive * 3 / 4);
            }
            let lent: u64 = credits.accounts.values().map(|account| account.floating).sum();
            prop_assert_eq!(credits.pool + lent, CONFIG.floating);
        }
    }

    #[test]
    fn the_pool_goes_to_those_that_say_that_more_waits() {
        let (mut credits, mut channels) = opened(3);
        assert_eq!(channels[0].granted, 100);
        credits.arrived(0, 100, 1_000, false);
        channels[0].waiting = 100;
        settle(&mut credits, &mut channels);
        assert_eq!((channels[0].granted, channels[1].granted), (300, 100));
        // One that is not read keeps what it has; the rest of the pool is for others.
        credits.arrived(1, 100, 1_000, false);
        channels[1].waiting = 100;
        settle(&mut credits, &mut channels);
        assert_eq!((channels[0].granted, channels[1].granted), (300, 200));
        // What the first consumes goes back to the pool, and to whom it is lacking.
        credits.arrived(0, 200, 0, false);
        channels[0].waiting = 0;
        settle(&mut credits, &mut channels);
        assert_eq!((channels[0].granted, channels[1].granted), (400, 300));
    }

    #[test]
    fn bytes_without_credit_are_noticed_unless_they_are_urgent() {
        let (mut credits, _) = opened(1);
        assert!(credits.arrived(0, 150, 0, false), "the last one may exceed it");
        assert!(!credits.arrived(0, 1, 0, false));
        assert!(credits.arrived(0, 1_000, 0, true));
        assert!(!credits.arrived(7, 1, 0, false), "no such channel");
    }

    #[test]
    fn what_a_closed_channel_had_of_the_pool_is_free() {
        let (mut credits, mut channels) = opened(2);
        credits.arrived(0, 100, 1_000, false);
        channels[0].waiting = 100;
        settle(&mut credits, &mut channels);
        assert_eq!(credits.pool, 100);
        credits.close(0);
        assert_eq!(credits.pool, 300);
    }
}
