//! How long functions are: counted, so that growth is seen.
//!
//! Counts lines from `fn` to the closing brace by indentation, which is right for text that
//! `rustfmt` wrote. Tests are left out: what follows `#[cfg(test)]`, and files outside `src`.

use crate::Tree;

/// The median that may not be reached. A function of this size is read at one glance.
pub const MEDIAN_BELOW: usize = 15;

/// Lengths in lines of all functions of the products' sources, sorted.
#[must_use]
pub fn lengths(tree: &Tree) -> Vec<usize> {
    let sources = tree
        .ending(".rs")
        .filter(|(path, _)| path.contains("/src/") && !path.ends_with("/tests.rs"));
    let mut lengths: Vec<usize> = sources.flat_map(|(_, text)| lengths_in(text)).collect();
    lengths.sort_unstable();
    lengths
}

/// The value below which `percent` of the sorted lengths lie; 0 for none.
#[must_use]
pub fn percentile(sorted: &[usize], percent: usize) -> usize {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(0)
}

fn lengths_in(text: &str) -> Vec<usize> {
    let lines: Vec<&str> = text.lines().take_while(|line| *line != "#[cfg(test)]").collect();
    (0..lines.len())
        .filter(|&at| opens_function(lines[at]))
        .filter_map(|at| length(&lines[at..]))
        .collect()
}

/// Whether a line begins a function: qualifiers, then `fn`, then a name.
fn opens_function(line: &str) -> bool {
    let is_qualifier = |word: &str| {
        word.starts_with("pub") || ["const", "async", "unsafe", "extern", "\"C\"", "default"].contains(&word)
    };
    let mut words = line.split_whitespace().skip_while(|word| is_qualifier(word));
    words.next() == Some("fn") && words.next().is_some()
}

/// The length of the function that begins in the first line; `None` for one without a body.
fn length(lines: &[&str]) -> Option<usize> {
    let first = lines.first()?;
    if first.ends_with('}') || first.ends_with(';') {
        return first.ends_with('}').then_some(1);
    }
    let indent = |line: &str| line.len() - line.trim_start().len();
    let same = |line: &str| !line.is_empty() && indent(line) == indent(first);
    let ends = |line: &str| same(line) && (line.trim_start().starts_with('}') || line.ends_with(';'));
    let last = lines.iter().skip(1).position(|line| ends(line))? + 1;
    lines[last].trim_start().starts_with('}').then_some(last + 1)
}

#[cfg(test)]
mod tests {
    use super::{lengths, percentile};
    use crate::Tree;

    #[test]
    fn functions_are_measured_and_tests_and_declarations_are_not() {
        let text = "\
pub fn one() {}
pub(crate) async fn five(
    a: u8,
) -> u8 {
    a
}
trait T {
    fn none(&self);
    fn none_either(
        &self,
    ) -> u8;
    fn three(&self) {
        body();
    }
}
#[cfg(test)]
mod tests {
    fn not_counted() {}
}
";
        assert_eq!(
            lengths(&Tree::of(&[("a/src/b.rs", text), ("a/tests/c.rs", text)])),
            [1, 3, 5]
        );
    }

    #[test]
    fn percentiles_of_none_one_and_many() {
        assert_eq!(percentile(&[], 50), 0);
        assert_eq!(percentile(&[7], 90), 7);
        assert_eq!(percentile(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 90), 10);
        assert_eq!(percentile(&[1, 2, 3], 50), 2);
    }
}
