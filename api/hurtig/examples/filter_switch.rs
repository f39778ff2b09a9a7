//! Forwards readings of sensors that are switched on: a keyed function over two streams.
//!
//! A switch at `s` with duration `d` forwards readings of its sensor with `s <= time < s + d`. Both
//! streams are joined by event time: a reading waits until the watermark of both has reached it.
//! Reads `id,timestamp_ms,temperature`, and with `--switches` `id,timestamp_ms,duration_ms`; writes
//! `sensor<TAB>time<TAB>temperature`.
//!
//! ```text
//! cd api/hurtig/examples/data
//! cargo run --release -p hurtig --example filter_switch -- --input sensors.csv --switches filter_switches.csv
//! ```

use clap::Parser;
use hurtig::prelude::*;
use serde::{Deserialize, Serialize};
use shared::sensors::{Reading, readings};

mod shared;

#[derive(Parser)]
#[command(about = "Forwards readings of sensors that are switched on")]
struct Args {
    #[command(flatten)]
    io: shared::InOut,
    /// The switches: a file, a folder or a glob.
    #[arg(long)]
    switches: String,
    /// How far lines may be out of order, in milliseconds; so much is kept in memory. By default
    /// 60000 on standard input, and without limit in files.
    #[arg(long)]
    out_of_orderness_ms: Option<u64>,
}

/// Forward this sensor for so long.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Switch {
    sensor: Str,
    time: i64,
    duration: i64,
}

impl Switch {
    fn parse(line: &Str) -> Option<Self> {
        let [sensor, time, duration] = shared::fields::<3>(line)?;
        let (time, duration) = (shared::millis(time)?, shared::millis(duration)?);
        (!sensor.is_empty()).then(|| Self {
            sensor: Str::from(sensor),
            time,
            duration,
        })
    }
}

struct Filter {
    /// Temperatures by their time, until event time reaches them.
    waiting: MapState<i64, Vec<f64>>,
    /// The latest end of the switches that begin at a time.
    switches: MapState<i64, i64>,
}

impl KeyedCoProcessFunction<Str, Reading, Switch, String> for Filter {
    fn process_first(
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

    fn process_second(
        &mut self,
        switch: Switch,
        cx: KeyedCx<'_, Str>,
        _: &mut Emitter<'_, String>,
    ) -> Result<(), UserError> {
        let end = switch.time + switch.duration;
        let mut latest = self.switches.get_or(cx, switch.time, || end);
        *latest = end.max(*latest);
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: i64,
        _: TimeDomain,
        cx: KeyedCx<'_, Str>,
        out: &mut Emitter<'_, String>,
    ) -> Result<(), UserError> {
        let switches = self.switches.entries(cx);
        let on = switches.iter().any(|(start, end)| (*start..*end).contains(&time));
        for temperature in self.waiting.remove(cx, &time).unwrap_or_default() {
            if on {
                out.emit(
                    Reading {
                        sensor: cx.key().clone(),
                        time,
                        temperature,
                    }
                    .line(),
                );
            }
        }
        Ok(())
    }
}

#[hurtig::main]
async fn main(env: StreamEnv) -> Result {
    let args = Args::parse_from(env.args());
    args.io.apart_from("--switches", &args.switches)?;
    let said = args.out_of_orderness_ms;
    let disorder = shared::disorder(&args.switches, said, 60_000);
    let readings = readings(&args.io.lines(&env), args.io.disorder(said, 60_000));
    let switches = shared::lines(&env, &args.switches)
        .process(|| shared::Parse(Switch::parse))
        .name("Parse Switches")
        .assign_timestamps_and_watermarks(Watermarks::bounded(disorder, |s: &Switch| s.time));
    let forwarded = readings
        .key_by_ref(|reading| &reading.sensor)
        .connect(&switches.key_by_ref(|switch| &switch.sensor))
        .process(|ctx| {
            Ok(Filter {
                waiting: ctx.map("waiting")?,
                switches: ctx.map("switches")?,
            })
        })
        .uid("filter");
    args.io.write(&forwarded);
    shared::run(&env, "filter switch").await
}
