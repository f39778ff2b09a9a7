//! How much each channel may be sent: the accounts of who consumes.

use std::collections::BTreeMap;

/// What channels share.
#[derive(Clone, Copy, Debug)]
pub(super) struct CreditConfig {
    /// Bytes that each channel has for itself.
    pub(super) exclusive: u64,
    /// Bytes beyond that, for the channels that need them.
    pub(super) floating: u64,
    /// The most that one channel gets of those.
    pub(super) floating_per_channel: u64,
}

/// One channel's account. All numbers but `floating` count bytes since it was opened.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    granted: u64,
    received: u64,
    /// What its producer says waits beyond what was received.
    backlog: u64,
    /// Bytes of the pool that it has.
    floating: u64,
}

/// The accounts of all channels that one connection brings.
///
/// What was granted and not consumed never exceeds `channels * exclusive + floating`.
#[derive(Debug)]
pub(super) struct Credits {
    config: CreditConfig,
    accounts: BTreeMap<u32, Account>,
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
            pool: config.floating,
            first: 0,
        }
    }

    pub(super) fn open(&mut self, channel: u32) {
        self.accounts.insert(channel, Account::default());
    }

    /// The channel is over: what it had of the pool is free.
    pub(super) fn close(&mut self, channel: u32) {
        if let Some(account) = self.accounts.remove(&channel) {
            self.pool += account.floating;
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
        had_credit
    }

    /// Grants what can be granted, given what waits to be consumed; calls `grant` with the channel and its new total.
    pub(super) fn settle(&mut self, waiting: impl Fn(u32) -> u64, mut grant: impl FnMut(u32, u64)) {
        let mut grown = Vec::new();
        for (&channel, account) in &mut self.accounts {
            let before = account.granted;
            self.pool += account.take_back(&self.config, waiting(channel));
            if account.granted != before {
                grown.push(channel);
            }
        }
        self.lend(&mut grown);
        for channel in grown {
            grant(channel, self.accounts[&channel].granted);
        }
    }

    /// Lends bytes of the pool to channels of which more waits than they may send.
    fn lend(&mut self, grown: &mut Vec<u32>) {
        let from = self.first;
        let order = |(channel, _): &(&u32, &mut Account)| **channel < from;
        let (before, behind): (Vec<_>, Vec<_>) = self.accounts.iter_mut().partition(order);
        for (&channel, account) in behind.into_iter().chain(before) {
            if self.pool == 0 {
                break;
            }
            let lent = account.wants(&self.config).min(self.pool);
            if lent == 0 {
                continue;
            }
            self.pool -= lent;
            account.floating += lent;
            account.granted += lent;
            self.first = channel.wrapping_add(1);
            if !grown.contains(&channel) {
                grown.push(channel);
            }
        }
    }
}

impl Account {
    /// Grants anew what was consumed. What it had of the pool goes back first; returns how much.
    fn take_back(&mut self, config: &CreditConfig, waiting: u64) -> u64 {
        let consumed = self.received.saturating_sub(waiting);
        let allowed = consumed + config.exclusive + self.floating;
        let free = allowed.saturating_sub(self.granted);
        // Grants come in quarters, unless the producer has nothing left.
        if free < config.exclusive.div_ceil(4) && self.received < self.granted {
            return 0;
        }
        let back = free.min(self.floating);
        self.floating -= back;
        self.granted += free - back;
        back
    }

    /// Bytes of the pool that it can use.
    fn wants(&self, config: &CreditConfig) -> u64 {
        let left = self.granted.saturating_sub(self.received);
        let more = config.floating_per_channel.saturating_sub(self.floating);
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
        credits.settle(
            |channel| waiting[channel as usize],
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
