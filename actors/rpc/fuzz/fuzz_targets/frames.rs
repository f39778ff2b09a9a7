//! Bytes as they could come from a socket: frames or an error, within bounded memory, and what is decoded is encoded the same.
#![no_main]

use hurtig_rpc::{FrameDecoder, HEADER_LEN, MAX_FRAME_BODY, MAX_NAME, encode_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut decoder, mut written) = (FrameDecoder::new(), Vec::new());
    for piece in bytes.chunks(7) {
        decoder.push(piece);
        while let Ok(Some(frame)) = decoder.next_frame() {
            encode_frame(&frame.header, &frame.body, &mut written);
        }
        assert!(decoder.waiting() < HEADER_LEN + 2 * MAX_NAME + MAX_FRAME_BODY);
    }
    assert_eq!(written, &bytes[..written.len()]);
});
