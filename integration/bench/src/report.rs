//! Rows: what a bench showed, as a line of the table and as a line of JSON.

use crate::catalog::Bar;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// One comparison.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The bench's id.
    pub bench: String,
    /// The engine's figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// With whom it is compared.
    pub baseline: String,
    /// The other's figure, in the same unit.
    pub baseline_value: f64,
    /// The comparison; the row's parameters say how it was computed.
    pub ratio: f64,
    /// What must be reached, and whether it was.
    pub bar: Option<(String, bool)>,
    /// How it was measured.
    pub params: Value,
}

impl Row {
    /// Holds the row against `bar`.
    pub(crate) fn held_to(mut self, bar: Option<Bar>) -> Self {
        self.bar = bar.map(|bar| (bar.to_string(), bar.passed(self.value, self.ratio)));
        self
    }

    /// The row as one line of JSON.
    fn json(&self) -> String {
        let mut params = self.params.clone();
        params["bar"] = json!(self.bar.as_ref().map(|(text, _)| text));
        params["pass"] = json!(self.bar.as_ref().map(|(_, passed)| passed));
        let fields = [
            ("bench", json!(self.bench)),
            ("value", json!(rounded(self.value))),
            ("unit", json!(self.unit)),
            ("baseline", json!(self.baseline)),
            ("baseline_value", json!(rounded(self.baseline_value))),
            ("ratio", json!(rounded(self.ratio))),
            ("params", params),
        ];
        // In the order in which people read them, which a map of serde_json would not keep.
        format!(
            "{{{}}}",
            fields
                .map(|(name, value)| format!("\"{name}\":{value}"))
                .join(",")
        )
    }

    fn failed(&self) -> bool {
        self.bar.as_ref().is_some_and(|(_, passed)| !passed)
    }
}

/// Four significant digits: more would be noise.
pub(crate) fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Where rows go: the terminal, and the file of the last run.
#[derive(Debug)]
pub(crate) struct Report {
    file: File,
    path: PathBuf,
    rows: Vec<Row>,
}

impl Report {
    /// Begins the file anew and the table with its head.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn begin(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = File::create(path)?;
        let head = ["bench", "value", "baseline", "", "ratio", "bar", ""];
        show(&line(&head.map(str::to_owned)));
        Ok(Self {
            file,
            path: path.to_owned(),
            rows: Vec::new(),
        })
    }

    /// Shows a row and keeps it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn add(&mut self, row: Row) -> io::Result<()> {
        writeln!(self.file, "{}", row.json())?;
        let (bar, verdict) = match &row.bar {
            Some((bar, passed)) => (bar.clone(), if *passed { "pass" } else { "FAIL" }),
            None => (String::new(), ""),
        };
        show(&line(&[
            row.bench.clone(),
            figure(row.value, row.unit),
            row.baseline.clone(),
            figure(row.baseline_value, row.unit),
            format!("{:.2}", row.ratio),
            bar,
            verdict.to_owned(),
        ]));
        self.rows.push(row);
        Ok(())
    }

    /// Ends the table; true when every bar was reached.
    pub(crate) fn end(self) -> bool {
        let failed: Vec<&str> = self
            .rows
            .iter()
            .filter(|row| row.failed())
            .map(|row| &*row.bench)
            .collect();
        show(&format!("\nrows: {}", self.path.display()));
        if failed.is_empty() {
            show("every bar was reached");
        } else {
            show(&format!("below their bars: {}", failed.join(", ")));
        }
        failed.is_empty()
    }
}

fn line(cells: &[String; 7]) -> String {
    let [bench, value, baseline, other, ratio, bar, verdict] = cells;
    let text =
        format!("{bench:<21} {value:>14}   {baseline:<27} {other:>14} {ratio:>6}   {bar:<13} {verdict}");
    text.trim_end().to_owned()
}

/// A figure as people read it.
fn figure(value: f64, unit: &str) -> String {
    match unit {
        "records/s" | "entries/s" => format!("{:.1} M/s", value / 1e6),
        unit => format!("{value:.2} {unit}"),
    }
}

#[expect(clippy::print_stdout, reason = "the table is what the program is run for")]
fn show(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_fields_that_readers_expect() -> Result<(), serde_json::Error> {
        let row = Row {
            bench: "union_16.p1".to_owned(),
            value: 123_456_789.0,
            unit: "records/s",
            baseline: "loop: fused".to_owned(),
            baseline_value: 200_000_000.0,
            ratio: 0.617_283_9,
            bar: None,
            params: json!({"parallelism": 1}),
        };
        let parsed: Value = serde_json::from_str(&row.clone().held_to(Some(Bar::LoopRatio(0.6))).json())?;
        let expected = json!({
            "bench": "union_16.p1", "value": 123_500_000.0, "unit": "records/s", "baseline": "loop: fused",
            "baseline_value": 200_000_000.0, "ratio": 0.6173,
            "params": {"parallelism": 1, "bar": "ratio >= 0.6", "pass": true},
        });
        assert_eq!(parsed, expected);
        assert!(row.held_to(Some(Bar::LoopRatio(0.7))).failed());
        Ok(())
    }

    #[test]
    fn rounding_keeps_four_digits() {
        assert_eq!(
            [0.0, 0.012_345_6, -98_765.4].map(rounded),
            [0.0, 0.012_35, -98_770.0]
        );
    }
}
