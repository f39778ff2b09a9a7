//! Tables for people: columns side by side, numbers to the right, states in colour on a terminal.

use serde_json::Value;
use std::io::IsTerminal as _;

/// Columns with their names, and rows below them.
pub(crate) struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        let columns = columns.to_vec();
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// A row; what is missing is empty, and what is too much is dropped.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows
            .push(cells.into_iter().take(self.columns.len()).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As text, without a line break at its end.
    pub(crate) fn text(&self) -> String {
        self.painted(is_coloured())
    }

    fn painted(&self, colours: bool) -> String {
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| self.width(column)).collect();
        let head = self.columns.iter().map(|name| (*name).to_owned()).collect();
        let lines = std::iter::once(&head).chain(&self.rows);
        let lines = lines.map(|row: &Vec<String>| {
            let cells = row.iter().zip(&widths).zip(&self.columns);
            let cells = cells.map(|((cell, width), name)| padded(cell, *width, name, colours));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        let widths = cells.map(|cell| cell.chars().count());
        widths.chain([self.columns[column].len()]).max().unwrap_or(0)
    }
}

/// Numbers stand to the right, so that their digits are below each other.
fn padded(cell: &str, width: usize, column: &str, colours: bool) -> String {
    let is_number = cell.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let of_numbers = ["DURATION", "SIZE", "COUNT"].contains(&column);
    let text = match of_numbers && (is_number || cell == column) {
        true => format!("{cell:>width$}"),
        false => format!("{cell:<width$}"),
    };
    match colour(cell).filter(|_| colours) {
        Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
        None => text,
    }
}

/// The colour of a state: good, under way, bad.
fn colour(state: &str) -> Option<&'static str> {
    match state {
        "RUNNING" | "FINISHED" | "COMPLETED" => Some("32"),
        "CREATED" | "SCHEDULED" | "DEPLOYING" | "INITIALIZING" | "RESTARTING" | "CANCELLING"
        | "CANCELING" | "CANCELED" | "IN_PROGRESS" | "RECONCILING" | "SUSPENDED" => Some("33"),
        "FAILED" | "FAILING" => Some("31"),
        _ => None,
    }
}

/// On a terminal, unless its user wants none (<https://no-color.org>).
fn is_coloured() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stdout().is_terminal()
}

/// What a field says, for a cell: nothing for what is not there.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Milliseconds as people say them.
pub(crate) fn duration(ms: &Value) -> String {
    let Some(ms) = ms.as_i64().filter(|ms| *ms >= 0) else {
        return String::new();
    };
    let (tenths, seconds) = (ms / 100 % 10, ms / 1_000);
    match seconds {
        0..60 => format!("{seconds}.{tenths} s"),
        60..3_600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Milliseconds since 1970 as a date and time of day.
pub(crate) fn time(ms: &Value) -> String {
    let ms = ms.as_i64().filter(|ms| *ms > 0);
    let time = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map(|time| time.to_string()).unwrap_or_default()
}

/// Bytes as people say them.
pub(crate) fn bytes(value: &Value) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let Some(bytes) = value.as_u64() else {
        return String::new();
    };
    let unit = (bytes.max(1).ilog2() / 10).min(4);
    let (whole, rest) = (bytes >> (10 * unit), bytes & ((1 << (10 * unit)) - 1));
    let name = UNITS.get(unit as usize).copied().unwrap_or_default();
    match unit {
        0 => format!("{bytes} {name}"),
        _ => format!("{whole}.{} {name}", (rest * 10) >> (10 * unit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_stand_below_each_other_and_numbers_to_the_right() {
        let mut table = Table::new(&["STATE", "DURATION", "NAME"]);
        table.row(["RUNNING", "5.0 s", "a"].map(str::to_owned));
        table.row(["FAILED", "12.5 s", "b c"].map(str::to_owned));
        let want = "STATE    DURATION  NAME\nRUNNING     5.0 s  a\nFAILED     12.5 s  b c";
        assert_eq!(table.painted(false), want);
        assert!(table.painted(true).contains("\x1b[31mFAILED \x1b[0m"));
    }

    #[test]
    fn numbers_are_said_as_people_say_them() {
        let durations = [
            (-1, ""),
            (950, "0.9 s"),
            (61_000, "1 min 01 s"),
            (3_660_000, "1 h 01 min"),
        ];
        for (ms, want) in durations.into_iter().chain([(90_000_000, "1 d 01 h")]) {
            assert_eq!(duration(&json!(ms)), want);
        }
        for (count, want) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_536, "1.5 KiB"),
            (1_i64 << 40, "1.0 TiB"),
        ] {
            assert_eq!(bytes(&json!(count)), want);
        }
        assert_eq!(time(&json!(1_700_000_000_000_i64)), "2023-11-14T22:13:20Z");
        assert_eq!(
            (time(&json!(-1)), bytes(&json!(-1))),
            (String::new(), String::new())
        );
    }
}
