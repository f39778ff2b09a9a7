//! Rust files: not too long, opened by a sentence, no test ignored without a reason.

use crate::{Findings, Tree};

/// The longest that a hand-written file may be; one that grows beyond it hides a missing module.
pub const MAX_LINES: usize = 800;
/// A file with these words in its first line is written by a program.
const GENERATED: &str = "@generated";

/// Files that are too long, modules without an opening `//!`, and ignored tests that say nothing.
#[must_use]
pub fn check(tree: &Tree) -> Findings {
    let hand_written = |text: &str| !text.lines().next().is_some_and(|line| line.contains(GENERATED));
    let files = tree.ending(".rs").filter(|(_, text)| hand_written(text));
    files
        .flat_map(|(path, text)| [too_long(path, text), unopened(path, text), ignored(path, text)].concat())
        .collect()
}

fn too_long(path: &str, text: &str) -> Findings {
    let lines = text.lines().count();
    if lines <= MAX_LINES {
        return Findings::new();
    }
    vec![format!(
        "{path}: {lines} lines, {MAX_LINES} are allowed; which module is missing?"
    )]
}

/// Modules of unit tests need no introduction; everything else below a `src` does.
fn unopened(path: &str, text: &str) -> Findings {
    let is_module = path.contains("src/") && !path.ends_with("/tests.rs") && !path.contains("/tests/");
    if !is_module || text.starts_with("//!") {
        return Findings::new();
    }
    vec![format!(
        "{path}:1: does not open with `//!`: what it holds, promises and refuses to know"
    )]
}

fn ignored(path: &str, text: &str) -> Findings {
    let numbered = text.lines().map(str::trim).enumerate();
    let bare = numbered.filter(|(_, line)| line.starts_with("#[") && is_bare_ignore(line));
    bare.map(|(index, _)| format!("{path}:{}: a test is ignored without a reason", index + 1))
        .collect()
}

fn is_bare_ignore(line: &str) -> bool {
    let squeezed: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    squeezed.contains("#[ignore]") || squeezed.contains("#[ignore=\"\"]")
}

#[cfg(test)]
mod tests {
    use super::{MAX_LINES, check};
    use crate::Tree;

    fn findings(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn a_file_one_line_too_long_is_found_unless_generated() {
        let text = |lines: usize| "//! x\n".repeat(lines);
        assert_eq!(findings("a/src/b.rs", &text(MAX_LINES)), 0);
        assert_eq!(findings("a/src/b.rs", &text(MAX_LINES + 1)), 1);
        assert_eq!(
            findings("a/src/b.rs", &format!("//! @generated\n{}", text(MAX_LINES))),
            0
        );
    }

    #[test]
    fn a_module_that_does_not_introduce_itself_is_found() {
        assert_eq!(findings("a/src/lib.rs", "//! Holds x.\n"), 0);
        assert_eq!(findings("a/src/lib.rs", "pub mod x;\n"), 1);
        assert_eq!(findings("a/src/lib.rs", ""), 1);
        assert_eq!(findings("a/src/x/tests.rs", "use x;\n"), 0);
        assert_eq!(findings("a/tests/x.rs", "use x;\n"), 0);
    }

    #[test]
    fn an_ignored_test_needs_a_reason() {
        assert_eq!(
            findings(
                "a/tests/x.rs",
                "#[test]\n#[ignore = \"an hour long; make soak\"]\nfn x() {}\n"
            ),
            0
        );
        assert_eq!(findings("a/tests/x.rs", "#[test]\n#[ignore]\nfn x() {}\n"), 1);
        assert_eq!(findings("a/tests/x.rs", "#[test] #[ignore]\nfn x() {}\n"), 1);
        assert_eq!(findings("a/tests/x.rs", "#[ignore = \"\"]\n"), 1);
    }
}
