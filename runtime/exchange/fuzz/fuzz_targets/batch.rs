//! Bytes as they could stand in a batch: records, or an error, without more memory than the bytes are worth.
#![no_main]

use hurtig_core::types::{Travel, TypeInfo};
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Unit,
    Text(String),
    Pair(i8, u128),
    Fields { at: i64, on: Option<bool> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    id: u64,
    kinds: Vec<Kind>,
    counts: BTreeMap<String, char>,
    more: Option<Box<Record>>,
}

fuzz_target!(|input: (bool, u16, &[u8])| {
    let (named, count, bytes) = input;
    let travel = if named { Travel::Named } else { Travel::Flat };
    let types = TypeInfo::<Record>::of();
    if let Ok(records) = types.unpack(travel, bytes, usize::from(count)) {
        let mut again = Vec::new();
        let travelled = types.pack(travel, &records, &mut again).expect("what was read can be written");
        assert_eq!(travelled, travel);
        assert_eq!(types.unpack(travel, &again, records.len()).expect("and read"), records);
    }
});
