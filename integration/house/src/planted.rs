//! `docs/planted-bugs.md`: bugs put in on purpose, each found by a test that exists.

use crate::proofs;
use crate::{Findings, Tree};

/// Where the list lies.
pub const PATH: &str = "docs/planted-bugs.md";
const HEADER: [&str; 3] = ["Bug", "Where planted", "Test that finds it"];

/// A missing list or table, and rows whose third cell names no existing test as `` `path::function` ``.
#[must_use]
pub fn check(tree: &Tree) -> Findings {
    let Some(text) = tree.text(PATH) else {
        return vec![format!("{PATH} is missing")];
    };
    let rows: Vec<(usize, Vec<&str>)> = text
        .lines()
        .enumerate()
        .filter_map(|(index, line)| Some((index + 1, cells(line)?)))
        .collect();
    let Some(head) = rows.iter().position(|(_, cells)| *cells == HEADER) else {
        return vec![format!("{PATH}: there is no table with the columns {HEADER:?}")];
    };
    let body = rows.iter().skip(head + 2);
    body.filter_map(|(line, cells)| Some(format!("{PATH}:{line}: {}", wrong(tree, cells)?)))
        .collect()
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

fn wrong(tree: &Tree, cells: &[&str]) -> Option<String> {
    let [bug, place, test] = cells else {
        return Some(format!("{} columns instead of {}", cells.len(), HEADER.len()));
    };
    if bug.is_empty() || place.is_empty() {
        return Some("a cell is empty".into());
    }
    let mut named = test
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.contains("::"))
        .peekable();
    if named.peek().is_none() {
        return Some("names no test as `path::function`".into());
    }
    named.find_map(|one| proofs::check_test(tree, one).err())
}

#[cfg(test)]
mod tests {
    use super::{PATH, check};
    use crate::Tree;

    fn findings(rows: &str) -> usize {
        let page =
            format!("# Bugs\n\n| Bug | Where planted | Test that finds it |\n| --- | --- | --- |\n{rows}\n");
        check(&Tree::of(&[
            (PATH, &page),
            ("a/tests/t.rs", "#[test]\nfn finds() {}\n"),
        ]))
        .len()
    }

    #[test]
    fn an_empty_table_and_a_good_row_pass() {
        assert_eq!(findings(""), 0);
        assert_eq!(findings("| off by one | `a.rs` | `a/tests/t.rs::finds` |"), 0);
    }

    #[test]
    fn bad_rows_are_found() {
        assert_eq!(findings("| off by one | `a.rs` | `a/tests/t.rs::misses` |"), 1);
        assert_eq!(findings("| off by one | `a.rs` | the usual test |"), 1);
        assert_eq!(findings("| off by one | | `a/tests/t.rs::finds` |"), 1);
        assert_eq!(findings("| off by one | `a/tests/t.rs::finds` |"), 1);
    }

    #[test]
    fn a_missing_page_and_a_missing_table_are_found() {
        assert_eq!(check(&Tree::default()).len(), 1);
        assert_eq!(check(&Tree::of(&[(PATH, "# Bugs\n")])).len(), 1);
    }
}
