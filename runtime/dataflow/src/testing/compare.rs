//! Whether two runs have emitted the same, as far as the contract fixes the order.

use super::violation::Violation;
use std::collections::BTreeMap;

/// A record as text with its time, and its key if order holds only within a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item {
    pub(super) key: Option<String>,
    pub(super) text: String,
    pub(super) time: i64,
}

/// What one stretch of the script has brought: consecutive records, or one event.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) label: String,
    /// Whether records caused it; then order is fixed. What timers of one time emit is not ordered.
    pub(super) by_records: bool,
    /// The main output.
    pub(super) main: Vec<Item>,
    /// Each side output: name and records.
    pub(super) sides: Vec<(String, Vec<Item>)>,
}

/// Compares two runs of one script.
pub(super) fn compare(plain: &[Segment], here: &[Segment]) -> Result<(), Violation> {
    assert_eq!(plain.len(), here.len(), "both runs followed one script");
    for (a, b) in plain.iter().zip(here) {
        items(&a.main, &b.main, a, "main output")?;
        for ((name, a_side), (_, b_side)) in a.sides.iter().zip(&b.sides) {
            items(a_side, b_side, a, &format!("side output '{name}'"))?;
        }
    }
    Ok(())
}

fn items(plain: &[Item], here: &[Item], segment: &Segment, output: &str) -> Result<(), Violation> {
    if same(plain, here, segment.by_records) {
        return Ok(());
    }
    Err(Violation::OutputDiffers {
        place: format!("{output} after {}", segment.label),
        plain: describe(plain),
        here: describe(here),
    })
}

fn same(plain: &[Item], here: &[Item], by_records: bool) -> bool {
    let keyed = plain.iter().chain(here).any(|item| item.key.is_some());
    if keyed {
        by_key(plain) == by_key(here)
    } else if by_records {
        plain == here
    } else {
        let times = |items: &[Item]| items.iter().map(|item| item.time).collect::<Vec<_>>();
        times(plain) == times(here) && sorted(plain) == sorted(here)
    }
}

fn by_key(items: &[Item]) -> BTreeMap<&str, Vec<&Item>> {
    let mut groups: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
    for item in items {
        groups
            .entry(item.key.as_deref().unwrap_or(""))
            .or_default()
            .push(item);
    }
    groups
}

fn sorted(items: &[Item]) -> Vec<&Item> {
    let mut items: Vec<&Item> = items.iter().collect();
    items.sort();
    items
}

/// At most this many records are shown.
const SHOWN: usize = 24;

fn describe(items: &[Item]) -> String {
    let mut shown: Vec<String> = items
        .iter()
        .take(SHOWN)
        .map(|item| format!("{}@{}", item.text, item.time))
        .collect();
    if items.len() > SHOWN {
        shown.push(format!("… {} more", items.len() - SHOWN));
    }
    format!("[{}]", shown.join(", "))
}
