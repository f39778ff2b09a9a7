//! The cluster's life in its store.

use super::error::Failure;
use super::model::Incarnation;
use super::{Records, failure};
use crate::kv::{Change, Guard, Settled, Transaction, settle};
use uuid::Uuid;

/// What all processes of a cluster have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The cluster.
    pub cluster: Uuid,
    /// How often it began anew.
    pub incarnation: u64,
}

impl Records {
    /// The cluster's life; it begins with whoever asks first.
    ///
    /// # Errors
    /// When the store cannot be reached, or does not say whether the life has begun: ask again.
    pub async fn life(&self) -> Result<Life, Failure> {
        let key = self.keys.incarnation();
        let first = Incarnation {
            number: 1,
            cluster: Uuid::new_v4(),
        };
        if self.read::<Incarnation>(&key).await?.is_none() {
            let put = Change::Put(key.clone(), super::encode_new(&key, &first)?, None);
            let transaction = Transaction::new(vec![Guard::Absent(key.clone())], vec![put]);
            match settle(&*self.store, transaction, false).await {
                // Whoever else has begun it in the meantime is read below.
                Settled::Done(_) | Settled::Refused(_) | Settled::Overtaken(_) => {}
                other => return Err(failure(other)),
            }
        }
        let Some(begun) = self.read::<Incarnation>(&key).await? else {
            return Err(Failure::Changed(key));
        };
        Ok(Life {
            cluster: begun.value.cluster,
            incarnation: begun.value.number,
        })
    }
}
