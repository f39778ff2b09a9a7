//! What two workers say before anything else.

use hurtig_rpc::Stream;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 4] = *b"HXHI";
/// The version of frames and of this.
const VERSION: u16 = 1;
/// Magic, version, and four ids; then a checksum.
const CHECKED: usize = 4 + 2 + 4 * 16;
/// How long the other side may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// A worker of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party {
    /// The job.
    pub job: Uuid,
    /// What only the job's processes know.
    pub secret: Uuid,
    /// The worker.
    pub worker: Uuid,
}

/// Why two workers do not talk.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// The connection broke.
    #[error("the connection broke before the other worker had said who it is")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("the other side has not said who it is within {PATIENCE:?}")]
    Late,
    /// The bytes are no greeting.
    #[error("what has connected is no worker: its greeting begins with {0:02x?}")]
    NoGreeting([u8; 4]),
    /// It was refused, here or there.
    #[error("refused: {0}")]
    Refused(Refusal),
}

/// Why one side refuses the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Other frames.
    #[error("the two speak different versions of the exchange")]
    Version,
    /// It has the address of another worker.
    #[error("the worker at this address is another one than was looked for")]
    OtherWorker,
    /// It belongs to another job, or does not know the secret.
    #[error("it does not belong to the job")]
    Stranger,
    /// Something that a later version says.
    #[error("for a reason that this version does not know")]
    Unknown,
}

impl Refusal {
    const ALL: [Self; 3] = [Self::Version, Self::OtherWorker, Self::Stranger];

    fn number(self) -> u8 {
        let place = Self::ALL.iter().position(|&refusal| refusal == self);
        place.map_or(u8::MAX, |place| place as u8 + 1)
    }

    fn of(number: u8) -> Self {
        let place = usize::from(number).checked_sub(1);
        place
            .and_then(|place| Self::ALL.get(place))
            .copied()
            .unwrap_or(Self::Unknown)
    }
}

/// Who has dialled greets.
pub(crate) async fn greet(stream: &mut Stream, own: Party, other: Uuid) -> Result<(), HelloError> {
    let talk = async {
        stream.write_all(&greeting(own, other)).await?;
        stream.flush().await?;
        match stream.read_u8().await? {
            0 => Ok(()),
            number => Err(HelloError::Refused(Refusal::of(number))),
        }
    };
    timeout(PATIENCE, talk).await.unwrap_or(Err(HelloError::Late))
}

/// Who was dialled answers. Returns who has dialled.
pub(crate) async fn answer(stream: &mut Stream, own: Party) -> Result<Uuid, HelloError> {
    let talk = async {
        let mut bytes = [0; CHECKED + 8];
        stream.read_exact(&mut bytes).await?;
        let judged = judge(&bytes, own);
        let number = match &judged {
            Ok(_) => 0,
            Err(HelloError::Refused(refusal)) => refusal.number(),
            // Nothing is said to whoever is no worker.
            Err(_) => return judged,
        };
        stream.write_u8(number).await?;
        stream.flush().await?;
        judged
    };
    timeout(PATIENCE, talk).await.unwrap_or(Err(HelloError::Late))
}

fn greeting(own: Party, other: Uuid) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
    for id in [own.job, own.secret, own.worker, other] {
        bytes.extend_from_slice(id.as_bytes());
    }
    let sum = xxh3_64(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn judge(bytes: &[u8; CHECKED + 8], own: Party) -> Result<Uuid, HelloError> {
    let (checked, sum) = bytes.split_at(CHECKED);
    if checked[..4] != MAGIC || sum != xxh3_64(checked).to_le_bytes() {
        return Err(HelloError::NoGreeting([bytes[0], bytes[1], bytes[2], bytes[3]]));
    }
    if checked[4..6] != VERSION.to_le_bytes() {
        return Err(HelloError::Refused(Refusal::Version));
    }
    let (ids, _) = checked[6..].as_chunks::<16>();
    let [job, secret, worker, other] = [0, 1, 2, 3].map(|at| Uuid::from_bytes(ids[at]));
    // In constant time: how far two secrets agree is nobody's business.
    let different = secret.as_u128() ^ own.secret.as_u128();
    if different != 0 || job != own.job {
        return Err(HelloError::Refused(Refusal::Stranger));
    }
    // Of two workers the one with the smaller id dials.
    if other != own.worker || worker >= own.worker {
        return Err(HelloError::Refused(Refusal::OtherWorker));
    }
    Ok(worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(worker: u128) -> Party {
        Party {
            job: Uuid::from_u128(1),
            secret: Uuid::from_u128(2),
            worker: Uuid::from_u128(worker),
        }
    }

    fn judged(greeting: &[u8]) -> Result<Uuid, HelloError> {
        judge(greeting.try_into().unwrap(), party(5))
    }

    #[test]
    fn a_worker_of_the_job_is_let_in_and_nobody_else() {
        let five = Uuid::from_u128(5);
        assert_eq!(judged(&greeting(party(4), five)).unwrap(), Uuid::from_u128(4));
        let refused = |own, other| match judged(&greeting(own, other)) {
            Err(HelloError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        };
        let stranger = Party {
            job: five,
            ..party(4)
        };
        assert_eq!(refused(stranger, five), Refusal::Stranger);
        let guessing = Party {
            secret: five,
            ..party(4)
        };
        assert_eq!(refused(guessing, five), Refusal::Stranger);
        assert_eq!(refused(party(4), Uuid::from_u128(6)), Refusal::OtherWorker);
        assert_eq!(refused(party(6), five), Refusal::OtherWorker);
        let mut newer = greeting(party(4), five);
        newer[4] = 9;
        let sum = xxh3_64(&newer[..CHECKED]);
        newer[CHECKED..].copy_from_slice(&sum.to_le_bytes());
        assert!(matches!(
            judged(&newer),
            Err(HelloError::Refused(Refusal::Version))
        ));
    }

    #[test]
    fn other_bytes_are_no_greeting() {
        let whole = greeting(party(4), Uuid::from_u128(5));
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            assert!(
                matches!(judged(&changed), Err(HelloError::NoGreeting(_))),
                "byte {at}"
            );
        }
    }

    #[test]
    fn refusals_have_numbers() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::of(refusal.number()), refusal);
        }
        assert_eq!(
            (Refusal::of(0), Refusal::of(200)),
            (Refusal::Unknown, Refusal::Unknown)
        );
    }
}
