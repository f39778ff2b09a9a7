//! Bytes as they could come from another worker: frames that a connection with a channel takes, or an error, within bounded memory.
//!
//! Checksums are put right, so that what is behind them is reached.
#![no_main]

use hurtig_core::ids::{ChannelId, EdgeId};
use hurtig_core::time::Time;
use hurtig_core::types::TypeInfo;
use hurtig_exchange::remote::{Connection, ConnectionConfig, frame};
use hurtig_exchange::{ChannelOptions, RecordCodec, Signal, channel_in};
use libfuzzer_sys::fuzz_target;

const ID: ChannelId = ChannelId {
    edge: EdgeId(0),
    producer: 0,
    consumer: 0,
    generation: 0,
};

fuzz_target!(|frames: Vec<(u8, u8, u8, Vec<u8>)>| {
    let config = ConnectionConfig::default();
    let mut connection = Connection::new(config);
    let codec = RecordCodec::<(u64, String)>::new(TypeInfo::of());
    let (inlet, receiver) = channel_in(ChannelOptions::default(), codec, Signal::new(), Signal::new());
    connection.consume(ID, inlet);
    let mut out = Vec::new();
    for (kind, channel, position, body) in frames {
        let bytes = frame(kind, u32::from(channel % 4), u64::from(position), &body);
        let taken = bytes.chunks(7).try_for_each(|piece| connection.receive(piece, Time::ZERO));
        connection.fill(&mut out, 1 << 20, Time::ZERO);
        out.clear();
        while receiver.try_recv().is_some() {}
        if taken.is_err() {
            return;
        }
    }
});
