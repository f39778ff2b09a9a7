//! Between our words and etcd's.

use crate::kv::{Change, Entry, Guard, Key, LeaseId, Listing, Outcome, Revision, StoreError, Transaction};
use etcd_client::{
    Compare, CompareOp, Error, KeyValue, PutOptions, ResponseHeader, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use tonic::Code;

/// The range of all keys that one contains: `/` is followed by `0`.
pub(super) fn below(above: &Key) -> (Vec<u8>, Vec<u8>) {
    let ending = |end: char| format!("{above}{end}").into_bytes();
    (ending('/'), ending('0'))
}

pub(super) fn to_i64(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

fn from_i64(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or(0))
}

pub(super) fn revision(header: Option<&ResponseHeader>) -> Revision {
    from_i64(header.map_or(0, ResponseHeader::revision))
}

pub(super) fn entry(kv: &KeyValue) -> Entry {
    Entry {
        key: key(kv.key()),
        value: kv.value().to_vec(),
        created: from_i64(kv.create_revision()),
        modified: from_i64(kv.mod_revision()),
        lease: (kv.lease() != 0).then_some(LeaseId(kv.lease())),
    }
}

/// All our keys are text; those of others are none of ours.
fn key(bytes: &[u8]) -> Key {
    Key::new(String::from_utf8_lossy(bytes))
}

pub(super) fn transaction(transaction: &Transaction) -> Txn {
    let guards: Vec<_> = transaction.guards().iter().map(compare).collect();
    let changes: Vec<_> = transaction.changes().iter().map(change).collect();
    let keys = transaction.keys();
    let reads: Vec<_> = keys.iter().map(|key| TxnOp::get(key.as_str(), None)).collect();
    Txn::new().when(guards).and_then(changes).or_else(reads)
}

fn compare(guard: &Guard) -> Compare {
    let key = guard.key().as_str();
    match guard {
        Guard::Absent(_) => Compare::create_revision(key, CompareOp::Equal, 0),
        Guard::Present(_) => Compare::create_revision(key, CompareOp::Greater, 0),
        Guard::CreatedAt(_, revision) => Compare::create_revision(key, CompareOp::Equal, to_i64(*revision)),
        Guard::Unchanged(_, revision) => Compare::mod_revision(key, CompareOp::Equal, to_i64(*revision)),
        Guard::NoneBelow(above) => {
            let (first, end) = below(above);
            Compare::create_revision(first, CompareOp::Equal, 0).with_range(end)
        }
    }
}

fn change(change: &Change) -> TxnOp {
    match change {
        Change::Put(key, value, lease) => {
            let lease = lease.map(|lease| PutOptions::new().with_lease(lease.0));
            TxnOp::put(key.as_str(), value.clone(), lease)
        }
        Change::Delete(key) => TxnOp::delete(key.as_str(), None),
    }
}

pub(super) fn outcome(answer: &TxnResponse) -> Outcome {
    let revision = revision(answer.header());
    if answer.succeeded() {
        return Outcome::Done(revision);
    }
    let entries = answer
        .op_responses()
        .into_iter()
        .flat_map(|response| match response {
            TxnOpResponse::Get(found) => found.kvs().iter().map(entry).collect(),
            _ => Vec::new(),
        });
    Outcome::Refused(Listing {
        revision,
        entries: entries.collect(),
    })
}

/// What a failed call means for a transaction: unknown, unless the code says that etcd has refused it.
pub(super) fn failed(transaction: &Transaction, failure: &Error) -> Outcome {
    let lease = transaction.changes().iter().find_map(|change| match change {
        Change::Put(_, _, lease) => *lease,
        Change::Delete(_) => None,
    });
    match (code(failure), lease) {
        // The only thing that a transaction can fail to find.
        (Some(Code::NotFound), Some(lease)) => Outcome::Rejected(StoreError::LeaseGone(lease)),
        _ => match error(failure) {
            StoreError::Unreachable(why) => Outcome::Unknown(why),
            certain => Outcome::Rejected(certain),
        },
    }
}

/// What etcd said, if it did.
pub(super) fn code(error: &Error) -> Option<Code> {
    match error {
        Error::GRpcStatus(status) => Some(status.code()),
        _ => None,
    }
}

pub(super) fn error(error: &Error) -> StoreError {
    let Error::GRpcStatus(status) = error else {
        return StoreError::Unreachable(error.to_string());
    };
    let why = format!("{}: {}", status.code(), status.message());
    match status.code() {
        // No space, too many requests, or too large: etcd says so before it proposes anything.
        Code::ResourceExhausted => StoreError::Full(why),
        Code::PermissionDenied | Code::Unauthenticated => StoreError::Denied(why),
        Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange | Code::NotFound => {
            StoreError::Invalid(why)
        }
        Code::DataLoss => StoreError::Damaged(why),
        _ => StoreError::Unreachable(why),
    }
}
