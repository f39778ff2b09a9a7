//! Sensor readings: `id,timestamp_ms,temperature`.

use super::{Parse, fields, millis};
use hurtig::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One reading of one sensor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reading {
    pub sensor: Str,
    /// Event time in milliseconds.
    pub time: i64,
    /// Degrees Fahrenheit.
    pub temperature: f64,
}

impl Reading {
    fn parse(line: &Str) -> Option<Self> {
        let [sensor, time, temperature] = fields::<3>(line)?;
        let temperature = temperature.parse::<f64>().ok().filter(|t| t.is_finite())?;
        let time = millis(time)?;
        (!sensor.is_empty()).then(|| Self {
            sensor: Str::from(sensor),
            time,
            temperature,
        })
    }

    /// `sensor<TAB>time<TAB>temperature`
    pub fn line(&self) -> String {
        format!("{}\t{}\t{:.6}", self.sensor, self.time, self.temperature)
    }
}

/// Parses readings and gives them their event time; later ones than `disorder` are late.
pub fn readings(lines: &DataStream<Str>, disorder: Duration) -> DataStream<Reading> {
    lines
        .process(|| Parse(Reading::parse))
        .name("Parse Readings")
        .assign_timestamps_and_watermarks(Watermarks::bounded(disorder, |r: &Reading| r.time))
}

/// As [`readings`], in the order of the input: one subtask from the file to the watermarks.
pub fn readings_in_order(lines: &DataStream<Str>, disorder: Duration) -> DataStream<Reading> {
    lines
        .process(|| Parse(Reading::parse))
        .name("Parse Readings")
        .set_parallelism(1)
        .assign_timestamps_and_watermarks(Watermarks::bounded(disorder, |r: &Reading| r.time))
        .set_parallelism(1)
}
