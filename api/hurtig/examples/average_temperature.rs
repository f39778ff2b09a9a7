//! The average temperature of each sensor in each second of event time.
//!
//! ```text
//! cargo run --release --example average_temperature -- --input sensors.csv
//! ```
//!
//! Input: lines `id,timestamp_ms,temperature`. Output: sensor, start of the second, average,
//! separated by tabs.

mod common;
#[path = "common/sensors.rs"]
mod sensors;

use clap::Parser;
use hurtig::prelude::*;
use sensors::Reading;
use std::fmt::Write;
use std::time::Duration;

/// Averages temperatures.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: common::Options,
    /// How much older than a newer reading a reading may be; without it, none is late and results
    /// come at the end of input.
    #[arg(long)]
    out_of_orderness_ms: Option<u64>,
}

#[hurtig::main]
async fn main(env: StreamEnv) -> Result<(), hurtig::Error> {
    let Arguments {
        options,
        out_of_orderness_ms,
    } = Arguments::parse_from(env.args());
    options.configure(&env);
    let watermarks = match out_of_orderness_ms {
        Some(bound) => Watermarks::bounded_by_record_time(Duration::from_millis(bound)),
        None => Watermarks::none(),
    };
    let averages = common::records(&env, &options.input, sensors::reading)
        .assign_timestamps_and_watermarks(watermarks.with_timestamps(|reading: &Reading| reading.time))
        .key_by_ref(|reading: &Reading| reading.sensor.as_str())
        .window(Tumbling::of(Duration::from_secs(1)))
        .aggregate_then(
            Average::of(|reading: &Reading| reading.temperature),
            |sensor: &str, second, average, out| out.push((sensor.to_owned(), second.start, *average)),
        );
    common::write(&averages, &options.output, |(sensor, second, average), line| {
        let _ = write!(line, "{sensor}\t{second}\t{average:.6}");
    });
    common::run(&env, "average temperature").await
}
