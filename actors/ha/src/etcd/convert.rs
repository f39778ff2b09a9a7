//! Between our words and etcd's.

use super::messages::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, Request,
    RequestOp, ResponseHeader, Revision as CompareRevision, TxnRequest, TxnResponse,
};
use crate::kv::{Change, Entry, Guard, Key, LeaseId, Listing, Outcome, Revision, StoreError, Transaction};
use tonic::{Code, Status};

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
    from_i64(header.map_or(0, |header| header.revision))
}

pub(super) fn entry(kv: KeyValue) -> Entry {
    Entry {
        key: key(&kv.key),
        value: kv.value,
        created: from_i64(kv.create_revision),
        modified: from_i64(kv.mod_revision),
        lease: (kv.lease != 0).then_some(LeaseId(kv.lease)),
    }
}

/// All our keys are text; those of others are none of ours.
pub(super) fn key(bytes: &[u8]) -> Key {
    Key::new(String::from_utf8_lossy(bytes))
}

pub(super) fn transaction(transaction: &Transaction) -> TxnRequest {
    let op = |request| RequestOp {
        request: Some(request),
    };
    let read = |key: &Key| {
        let key = key.as_str().as_bytes().to_vec();
        op(Request::Range(RangeRequest {
            key,
            ..RangeRequest::default()
        }))
    };
    TxnRequest {
        compare: transaction.guards().iter().map(compare).collect(),
        success: transaction
            .changes()
            .iter()
            .map(|change| op(request(change)))
            .collect(),
        failure: transaction.keys().iter().map(read).collect(),
    }
}

fn compare(guard: &Guard) -> Compare {
    use CompareResult::{Equal, Greater};
    use CompareRevision::{Create, Mod};
    let (result, revision) = match guard {
        Guard::Absent(_) | Guard::NoneBelow(_) => (Equal, Create(0)),
        Guard::Present(_) => (Greater, Create(0)),
        Guard::CreatedAt(_, revision) => (Equal, Create(to_i64(*revision))),
        Guard::Unchanged(_, revision) => (Equal, Mod(to_i64(*revision))),
    };
    let target = match revision {
        Create(_) => CompareTarget::Create,
        Mod(_) => CompareTarget::Mod,
    };
    let (key, range_end) = match guard {
        Guard::NoneBelow(above) => below(above),
        other => (other.key().as_str().as_bytes().to_vec(), Vec::new()),
    };
    Compare {
        result: result.into(),
        target: target.into(),
        key,
        revision: Some(revision),
        range_end,
    }
}

fn request(change: &Change) -> Request {
    match change {
        Change::Put(key, value, lease) => Request::Put(PutRequest {
            key: key.as_str().as_bytes().to_vec(),
            value: value.clone(),
            lease: lease.map_or(0, |lease| lease.0),
        }),
        Change::Delete(key) => Request::Delete(DeleteRangeRequest {
            key: key.as_str().as_bytes().to_vec(),
        }),
    }
}

pub(super) fn outcome(answer: TxnResponse) -> Outcome {
    let revision = revision(answer.header.as_ref());
    if answer.succeeded {
        return Outcome::Done(revision);
    }
    let ranges = answer.responses.into_iter().filter_map(|response| response.range);
    let entries = ranges.flat_map(|range| range.kvs).map(entry).collect();
    Outcome::Refused(Listing { revision, entries })
}

/// What a failed call means for a transaction: unknown, unless the code says that etcd has refused it.
pub(super) fn failed(transaction: &Transaction, status: &Status) -> Outcome {
    let lease = transaction.changes().iter().find_map(|change| match change {
        Change::Put(_, _, lease) => *lease,
        Change::Delete(_) => None,
    });
    match (status.code(), lease) {
        // The only thing that a transaction can fail to find.
        (Code::NotFound, Some(lease)) => Outcome::Rejected(StoreError::LeaseGone(lease)),
        _ => match error(status) {
            StoreError::Unreachable(why) => Outcome::Unknown(why),
            certain => Outcome::Rejected(certain),
        },
    }
}

pub(super) fn error(status: &Status) -> StoreError {
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
