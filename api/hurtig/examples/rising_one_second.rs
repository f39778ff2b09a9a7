//! Alerts when a sensor's temperature has not fallen for one second after it rose: timers.
//!
//! Readings are looked at in the order of their event times: each is kept until the watermark has
//! reached it. Reads `id,timestamp_ms,temperature`; writes `sensor<TAB>time of the alert`.
//!
//! ```text
//! cargo run --release -p hurtig --example rising_one_second -- --input api/hurtig/examples/data/sensors.csv
//! ```

use clap::Parser;
use hurtig::prelude::*;
use shared::sensors::{Reading, readings_in_order};

mod shared;

#[derive(Parser)]
#[command(about = "Alerts on temperatures that rise for a second")]
struct Args {
    #[command(flatten)]
    io: shared::InOut,
    /// How far readings may be out of order, in milliseconds; so much is kept in memory. By default
    /// 60000 on standard input, and without limit in files.
    #[arg(long)]
    out_of_orderness_ms: Option<u64>,
}

const RISING_MS: i64 = 1_000;

struct Rising {
    /// Temperatures by their time, until event time reaches them.
    waiting: MapState<i64, Vec<f64>>,
    last: ValueState<f64>,
    /// When to alert unless the temperature falls before.
    alert_at: ValueState<i64>,
}

impl Rising {
    fn look_at(&self, time: i64, temperature: f64, cx: KeyedCx<'_, Str>) {
        let last = self.last.get_cloned(cx);
        self.last.set(cx, temperature);
        match last {
            Some(last) if temperature < last => self.alert_at.clear(cx),
            Some(last) if temperature > last && self.alert_at.get(cx).is_none() => {
                self.alert_at.set(cx, time + RISING_MS);
                cx.register_event_timer(time + RISING_MS);
            }
            _ => {}
        }
    }
}

impl KeyedProcessFunction<Str, Reading, String> for Rising {
    fn process(
        &mut self,
        reading: Reading,
        cx: KeyedCx<'_, Str>,
        _: &mut Emitter<'_, String>,
    ) -> Result<(), UserError> {
        self.waiting
            .get_or(cx, reading.time, Vec::new)
            .push(reading.temperature);
        cx.register_event_timer(reading.time);
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: i64,
        _: TimeDomain,
        cx: KeyedCx<'_, Str>,
        out: &mut Emitter<'_, String>,
    ) -> Result<(), UserError> {
        for temperature in self.waiting.remove(cx, &time).unwrap_or_default() {
            self.look_at(time, temperature, cx);
        }
        if self.alert_at.get_cloned(cx) == Some(time) {
            self.alert_at.clear(cx);
            out.emit(format!("{}\t{time}", cx.key()));
        }
        Ok(())
    }
}

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = Args::parse_from(env.args());
    let lines = args.io.lines_in_order(&env);
    let alerts = readings_in_order(&lines, args.io.disorder(args.out_of_orderness_ms, 60_000))
        .key_by_ref(|reading| &reading.sensor)
        .process(|ctx| {
            Ok(Rising {
                waiting: ctx.map("waiting")?,
                last: ctx.value("last")?,
                alert_at: ctx.value("alert at")?,
            })
        })
        .uid("rising");
    args.io.write(&alerts);
    shared::run(&env, "rising for one second").await
}
