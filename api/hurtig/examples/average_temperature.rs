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

mod shared;

#[derive(Parser)]
#[command(about = "Averages temperatures by sensor and second")]
struct Args {
    #[command(flatten)]
    io: shared::InOut,
    /// How far readings may be out of order, in milliseconds; later ones are dropped. By default
    /// 60000 on standard input, and without limit in files.
    #[arg(long)]
    out_of_orderness_ms: Option<u64>,
}

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = Args::parse_from(env.args());
    let lines = args.io.lines(&env);
    let average = Average::of(|reading: &Reading| reading.temperature);
    let disorder = args.io.disorder(args.out_of_orderness_ms, 60_000);
    let averages = readings(&lines, disorder)
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
    shared::run(&env, "average temperature").await
}
