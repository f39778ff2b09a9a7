//! Alerts when a sensor's temperature jumps: keyed state.
//!
//! Compares each reading with the sensor's last one, in the order of arrival. Reads
//! `id,timestamp_ms,temperature`; writes `sensor<TAB>time<TAB>temperature<TAB>difference`.
//!
//! ```text
//! cargo run --release -p hurtig --example temp_jump_alert -- --input api/hurtig/examples/data/sensors.csv
//! ```

use clap::Parser;
use hurtig::prelude::*;
use shared::sensors::{Reading, readings_in_order};
use std::time::Duration;

mod shared;

#[derive(Parser)]
#[command(about = "Alerts on jumps of temperature")]
struct Args {
    #[command(flatten)]
    io: shared::InOut,
    /// Differences above this many degrees alert.
    #[arg(long, default_value_t = 1.7)]
    threshold: f64,
}

struct JumpAlert {
    threshold: f64,
    last: ValueState<f64>,
}

impl KeyedProcessFunction<Str, Reading, String> for JumpAlert {
    fn process(
        &mut self,
        reading: Reading,
        cx: KeyedCx<'_, Str>,
        out: &mut Emitter<'_, String>,
    ) -> Result<(), UserError> {
        if let Some(last) = self.last.get_cloned(cx) {
            let difference = (reading.temperature - last).abs();
            if difference > self.threshold {
                out.emit(format!("{}\t{difference:.6}", reading.line()));
            }
        }
        self.last.set(cx, reading.temperature);
        Ok(())
    }
}

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = Args::parse_from(env.args());
    let threshold = args.threshold;
    let lines = args.io.lines_in_order(&env);
    let alerts = readings_in_order(&lines, Duration::ZERO)
        .key_by_ref(|reading| &reading.sensor)
        .process(move |ctx| {
            Ok(JumpAlert {
                threshold,
                last: ctx.value("last temperature")?,
            })
        })
        .uid("jump-alert");
    args.io.write(&alerts);
    shared::run(&env, "temperature jump alert").await
}
