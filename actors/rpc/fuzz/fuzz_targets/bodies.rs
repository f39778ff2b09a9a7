//! Bytes as they could stand in the body of a frame: a value of the connection's own types, or an error.
#![no_main]

use hurtig_rpc::{Progress, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(progress) = decode::<Progress>(bytes) {
        let again = decode::<Progress>(&encode(&progress).expect("what was decoded encodes")).expect("and decodes");
        assert_eq!(again, progress);
    }
});
