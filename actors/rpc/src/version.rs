//! Versions of the protocol between processes, and which one two of them speak.

use std::fmt;

/// What this build speaks.
#[cfg(not(feature = "protocol_next"))]
pub const SUPPORTED: VersionRange = VersionRange { min: 1, max: 1 };
/// What this build speaks.
#[cfg(feature = "protocol_next")]
pub const SUPPORTED: VersionRange = VersionRange { min: 1, max: 2 };

/// The first version that has notices, labels and draining.
#[cfg(feature = "protocol_next")]
pub(crate) const NEXT: u16 = 2;

/// The versions from `min` to `max`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The lowest.
    pub min: u16,
    /// The highest.
    pub max: u16,
}

/// One of two processes that cannot speak with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that says so.
    Ours,
    /// The other one.
    Theirs,
}

impl VersionRange {
    /// Whether it is one: not empty, and without the handshake's 0.
    pub fn is_valid(self) -> bool {
        0 < self.min && self.min <= self.max
    }

    /// Whether all of it lies in `other`.
    pub fn is_within(self, other: Self) -> bool {
        self.is_valid() && other.min <= self.min && self.max <= other.max
    }

    /// The highest version that both speak, or which side is older.
    ///
    /// # Errors
    /// When there is none.
    pub fn negotiate(self, theirs: Self) -> Result<u16, Side> {
        let highest = self.max.min(theirs.max);
        if highest >= self.min.max(theirs.min) {
            return Ok(highest);
        }
        Err(if self.max < theirs.min {
            Side::Ours
        } else {
            Side::Theirs
        })
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "this process",
            Self::Theirs => "the peer",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: u16, max: u16) -> VersionRange {
        VersionRange { min, max }
    }

    #[test]
    fn the_highest_common_version_holds_and_both_sides_agree() {
        for (a, b, expected) in [
            (range(1, 1), range(1, 1), Ok(1)),
            (range(1, 3), range(2, 5), Ok(3)),
            (range(2, 5), range(1, 2), Ok(2)),
            (range(1, 2), range(3, 4), Err(Side::Ours)),
            (range(5, 6), range(1, 4), Err(Side::Theirs)),
        ] {
            assert_eq!(a.negotiate(b), expected);
            let mirrored = expected.map_err(|side| match side {
                Side::Ours => Side::Theirs,
                Side::Theirs => Side::Ours,
            });
            assert_eq!(b.negotiate(a), mirrored);
        }
    }

    #[test]
    fn ranges_are_not_empty_and_know_no_zero() {
        assert!(SUPPORTED.is_valid() && range(1, 1).is_within(SUPPORTED));
        assert!(!range(0, 1).is_valid() && !range(2, 1).is_valid() && !range(1, 99).is_within(SUPPORTED));
    }
}
