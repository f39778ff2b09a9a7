//! Sends readings below 32 degrees Fahrenheit into a side output and passes all on.
//!
//! ```text
//! cargo run --release --example freezing -- --input sensors.csv --stream alerts
//! ```
//!
//! Input: lines `id,timestamp_ms,temperature`. Output: sensor, time, temperature, separated by tabs:
//! of the side output (`alerts`) or of the main output (`readings`).

mod common;
#[path = "common/sensors.rs"]
mod sensors;

use clap::{Parser, ValueEnum};
use hurtig::prelude::*;
use sensors::Reading;
use std::fmt::Write;

#[derive(Clone, Copy, ValueEnum)]
enum Stream {
    Alerts,
    Readings,
}

/// Finds freezing readings.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: common::Options,
    /// Which output to print.
    #[arg(long, value_enum, default_value = "alerts")]
    stream: Stream,
}

#[hurtig::main]
async fn main(env: StreamEnv) -> Result<(), hurtig::Error> {
    let Arguments { options, stream } = Arguments::parse_from(env.args());
    options.configure(&env);
    let alerts = OutputTag::new("freezing");
    let tag = alerts.clone();
    let readings = common::records(&env, &options.input, sensors::reading)
        .process(move || Freezing { alerts: tag.clone() });
    let shown = match stream {
        Stream::Alerts => readings.side_output(&alerts),
        Stream::Readings => readings,
    };
    common::write(&shown, &options.output, |reading, line| {
        let Reading {
            sensor,
            time,
            temperature,
        } = reading;
        let _ = write!(line, "{sensor}\t{time}\t{temperature:.6}");
    });
    common::run(&env, "freezing").await
}

struct Freezing {
    alerts: OutputTag<Reading>,
}

impl ProcessFunction<Reading, Reading> for Freezing {
    fn process(
        &mut self,
        reading: Reading,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, Reading>,
    ) -> Result<(), UserError> {
        if reading.temperature < 32.0 {
            cx.side_output(&self.alerts, reading.clone());
        }
        out.emit(reading);
        Ok(())
    }
}
