//! Freezing alarms beside all readings: a side output.
//!
//! Reads `id,timestamp_ms,temperature`; writes `sensor<TAB>time<TAB>temperature` of readings below
//! 32 °F (`--stream alerts`) or of all readings (`--stream readings`).
//!
//! ```text
//! cargo run --release -p hurtig --example freezing -- --input api/hurtig/examples/data/sensors.csv
//! ```

use clap::{Parser, ValueEnum};
use hurtig::prelude::*;
use shared::sensors::{Reading, readings};
use std::time::Duration;

mod shared;

#[derive(Clone, Copy, ValueEnum)]
enum Stream {
    Alerts,
    Readings,
}

#[derive(Parser)]
#[command(about = "Splits freezing alarms from readings")]
struct Args {
    #[command(flatten)]
    io: shared::InOut,
    /// Which stream to write.
    #[arg(long, value_enum, default_value_t = Stream::Alerts)]
    stream: Stream,
}

const FREEZING: f64 = 32.0;

struct Monitor {
    alarms: OutputTag<String>,
}

impl ProcessFunction<Reading, Reading> for Monitor {
    fn process(
        &mut self,
        reading: Reading,
        cx: ProcessCx<'_>,
        out: &mut Emitter<'_, Reading>,
    ) -> Result<(), UserError> {
        if reading.temperature < FREEZING {
            cx.side_output(&self.alarms, reading.line());
        }
        out.emit(reading);
        Ok(())
    }
}

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = Args::parse_from(env.args());
    let alarms = OutputTag::<String>::new("freezing-alarms");
    let tag = alarms.clone();
    let monitored = readings(&args.io.lines(&env), Duration::ZERO)
        .process(move || Monitor { alarms: tag.clone() })
        .uid("freezing-monitor");
    let written = match args.stream {
        Stream::Alerts => monitored.side_output(&alarms),
        Stream::Readings => monitored.map(|reading| reading.line()),
    };
    args.io.write(&written);
    shared::run(&env, "freezing monitor").await
}
