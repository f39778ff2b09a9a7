//! Fire alerts: hot readings while there is much smoke. Two connected streams.
//!
//! The smoke level concerns all sensors. Both streams are merged by event time in one place; at
//! equal times smoke comes first. Reads `id,timestamp_ms,temperature`, and with `--smoke`
//! `timestamp_ms,LOW|HIGH`; writes `sensor<TAB>time<TAB>temperature`.
//!
//! ```text
//! cd api/hurtig/examples/data
//! cargo run --release -p hurtig --example fire_alert -- --input sensors.csv --smoke smoke.csv
//! ```

use clap::Parser;
use hurtig::prelude::*;
use serde::{Deserialize, Serialize};
use shared::sensors::{Reading, readings};

mod shared;

#[derive(Parser)]
#[command(about = "Alerts on heat and smoke")]
struct Args {
    #[command(flatten)]
    io: shared::InOut,
    /// The smoke levels: a file, a folder or a glob.
    #[arg(long)]
    smoke: String,
    /// How far lines may be out of order, in milliseconds; so much is kept in memory. By default
    /// 60000 on standard input, and without limit in files.
    #[arg(long)]
    out_of_orderness_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Smoke {
    time: i64,
    high: bool,
}

impl Smoke {
    fn parse(line: &Str) -> Option<Self> {
        let [time, level] = shared::fields::<2>(line)?;
        let high = match level {
            "HIGH" => true,
            "LOW" => false,
            _ => return None,
        };
        Some(Self {
            time: shared::millis(time)?,
            high,
        })
    }
}

const HOT: f64 = 100.0;

struct FireAlert {
    /// What waits for event time to reach it, by time.
    readings: MapState<i64, Vec<Reading>>,
    levels: MapState<i64, bool>,
    smoke_is_high: ValueState<bool>,
}

impl KeyedCoProcessFunction<u8, Reading, Smoke, String> for FireAlert {
    fn process_first(
        &mut self,
        reading: Reading,
        cx: KeyedCx<'_, u8>,
        _: &mut Emitter<'_, String>,
    ) -> Result<(), UserError> {
        if reading.temperature > HOT {
            cx.register_event_timer(reading.time);
            self.readings.get_or(cx, reading.time, Vec::new).push(reading);
        }
        Ok(())
    }

    fn process_second(
        &mut self,
        smoke: Smoke,
        cx: KeyedCx<'_, u8>,
        _: &mut Emitter<'_, String>,
    ) -> Result<(), UserError> {
        self.levels.put(cx, smoke.time, smoke.high);
        cx.register_event_timer(smoke.time);
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: i64,
        _: TimeDomain,
        cx: KeyedCx<'_, u8>,
        out: &mut Emitter<'_, String>,
    ) -> Result<(), UserError> {
        if let Some(high) = self.levels.remove(cx, &time) {
            self.smoke_is_high.set(cx, high);
        }
        let alert = self.smoke_is_high.get_cloned(cx).unwrap_or(false);
        for reading in self.readings.remove(cx, &time).unwrap_or_default() {
            if alert {
                out.emit(reading.line());
            }
        }
        Ok(())
    }
}

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = Args::parse_from(env.args());
    args.io.apart_from("--smoke", &args.smoke)?;
    let said = args.out_of_orderness_ms;
    let disorder = shared::disorder(&args.smoke, said, 60_000);
    let readings = readings(&args.io.lines(&env), args.io.disorder(said, 60_000));
    // Lines of equal time count in their order, so one subtask reads them.
    let smoke = shared::lines(&env, &args.smoke)
        .set_parallelism(1)
        .process(|| shared::Parse(Smoke::parse))
        .set_parallelism(1)
        .name("Parse Smoke")
        .assign_timestamps_and_watermarks(Watermarks::bounded(disorder, |s: &Smoke| s.time))
        .set_parallelism(1);
    let alerts = readings
        .connect(&smoke)
        .key_by(|_| 0u8, |_| 0u8)
        .process(|ctx| {
            Ok(FireAlert {
                readings: ctx.map("readings")?,
                levels: ctx.map("levels")?,
                smoke_is_high: ctx.value("smoke is high")?,
            })
        })
        .uid("fire-alert");
    args.io.write(&alerts);
    shared::run(&env, "fire alert").await
}
