//! The ways in which the torture kit runs an operator.

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Amount {
    One,
    All,
    Random(u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Snapshots {
    Never,
    EveryReturn,
    Sometimes,
}

/// A way of running an operator.
#[derive(Debug)]
pub(super) struct Mode {
    pub(super) name: String,
    pub(super) chunk: Amount,
    pub(super) fuel: Amount,
    pub(super) limit: Amount,
    /// The output is emptied only before every second call.
    pub(super) refusing: bool,
    pub(super) snapshots: Snapshots,
    pub(super) random: u64,
}

/// More fuel than any script can use.
pub(super) const AMPLE: usize = 1 << 20;
/// A step that takes more calls than this is taken for endless.
pub(super) const CALLS_MAX: usize = 20_000;

impl Mode {
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            chunk: Amount::All,
            fuel: Amount::All,
            limit: Amount::All,
            refusing: false,
            snapshots: Snapshots::Never,
            random: 0,
        }
    }

    pub(super) fn plain() -> Self {
        Self::named("plain")
    }

    pub(super) fn fixed() -> Vec<Self> {
        use Amount::One;
        use Snapshots::EveryReturn;
        vec![
            Self {
                chunk: One,
                ..Self::named("one record at a time")
            },
            Self {
                limit: One,
                ..Self::named("output of one record")
            },
            Self {
                limit: One,
                refusing: true,
                ..Self::named("output that refuses every second call")
            },
            Self {
                limit: Amount::Random(4),
                refusing: true,
                fuel: Amount::Random(5),
                random: 7,
                ..Self::named("small output that refuses every second call")
            },
            Self {
                snapshots: EveryReturn,
                ..Self::named("all at once, restored after every return")
            },
            Self {
                chunk: One,
                snapshots: EveryReturn,
                ..Self::named("one record at a time, restored after every return")
            },
            Self {
                fuel: One,
                snapshots: EveryReturn,
                ..Self::named("fuel 1, restored after every return")
            },
            Self {
                limit: One,
                snapshots: EveryReturn,
                ..Self::named("output of one record, restored after every return")
            },
            Self {
                fuel: One,
                limit: One,
                refusing: true,
                snapshots: EveryReturn,
                ..Self::named("fuel 1, refusing output, restored after every return")
            },
        ]
    }

    pub(super) fn random(seed: u64) -> Self {
        Self {
            chunk: Amount::Random(9),
            fuel: Amount::Random(7),
            limit: Amount::Random(6),
            refusing: seed.is_multiple_of(3),
            snapshots: if seed.is_multiple_of(2) {
                Snapshots::Sometimes
            } else {
                Snapshots::Never
            },
            random: seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            name: format!("random budgets, seed {seed}"),
        }
    }

    /// The next number of a SplitMix64 sequence, below `below`.
    pub(super) fn draw(&mut self, below: u32) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % u64::from(below)) as usize
    }

    pub(super) fn amount(&mut self, amount: Amount) -> usize {
        match amount {
            Amount::One => 1,
            Amount::All => AMPLE,
            Amount::Random(most) => 1 + self.draw(most),
        }
    }
}
