//! The average temperature of each sensor in each second.
//!
//! Reads `id,timestamp_ms,temperature`; writes `sensor<TAB>second<TAB>average`, where the second is
//! the start of its window in milliseconds.
//!
//! ```text
//! cargo run --release -p hurtig --example average_temperature -- --input api/hurtig/examples/data/sensors.csv
//! ```

use clap::Parser;
use hurtig::prelude::*;
use shared::sensors::{Reading, readings};
use std::time::Duration;

mod shared;

#[derive(Parser)]
#[command(about = "Averages temperatures by sensor and second")]
struct Args {
    #[command(flatten)]
    io: shared::InOut,
    /// How far readings may be out of order, in milliseconds; later ones are dropped.
    #[arg(long, default_value_t = 60_000)]
    out_of_orderness_ms: u64,
}

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = Args::parse_from(env.args());
    let lines = args.io.lines(&env);
    let average = Average::of(|reading: &Reading| reading.temperature);
    let averages = readings(&lines, Duration::from_millis(args.out_of_orderness_ms))
        .key_by_ref(|reading| &reading.sensor)
        .window(Tumbling::of(1.seconds()))
        .aggregate_then(
            average,
            |sensor: &Str, window, average, out: &mut Collector<String>| {
                out.push(format!("{sensor}\t{}\t{average:.6}", window.start));
            },
        )
        .uid("average");
    args.io.write(&averages);
    let result = env.execute("average temperature").await?;
    shared::report_malformed(&result);
    Ok(())
}
