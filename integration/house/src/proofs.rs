//! Proofs: the words by which a table names what shows that something works.
//!
//! | form | holds if |
//! | --- | --- |
//! | `test:<path>::<function>` | the file exists and has a test of that name, or a check that a `suite!` makes tests of |
//! | `doc:<path>` | the file exists |
//! | `cmd:<target>` | the Makefile has the target |
//! | `bench:<id>` | the sources of `integration/bench` name the id |
//! | `example:<name>` | `api/hurtig/examples` holds it |

use crate::Tree;

/// Between two proofs in one cell.
pub const SEPARATOR: &str = "; ";

/// Checks one proof.
///
/// # Errors
/// Why it does not hold.
pub fn check(tree: &Tree, proof: &str) -> Result<(), String> {
    let (kind, what) = proof
        .split_once(':')
        .ok_or_else(|| format!("`{proof}` has no kind"))?;
    match kind {
        "test" => check_test(tree, what),
        "doc" => must(tree.text(what).is_some(), || format!("there is no file {what}")),
        "cmd" => must(has_target(tree, what), || {
            format!("the Makefile has no target {what}")
        }),
        "bench" => must(has_bench(tree, what), || {
            format!("integration/bench does not name {what}")
        }),
        "example" => must(has_example(tree, what), || format!("there is no example {what}")),
        _ => Err(format!("`{kind}` is not a kind of proof")),
    }
}

/// Checks `<path>::<function>`.
///
/// # Errors
/// The path or the function does not exist, or the function is not a test.
pub fn check_test(tree: &Tree, place: &str) -> Result<(), String> {
    let (path, name) = place
        .rsplit_once("::")
        .ok_or_else(|| format!("`{place}` is not <path>::<function>"))?;
    let text = tree
        .text(path)
        .ok_or_else(|| format!("there is no file {path}"))?;
    let declaration = format!("fn {name}(");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let found = lines
        .iter()
        .position(|line| !line.starts_with("//") && line.contains(&declaration));
    let at = found.ok_or_else(|| format!("{path} has no function {name}"))?;
    let is_test = is_test(&lines[..at]) || text.contains("proptest!") || in_suite(tree, path, name);
    must(is_test, || format!("{path}: {name} is not a test"))
}

/// Whether the `suite!` of the `main.rs` beside a file makes tests of one of its functions.
fn in_suite(tree: &Tree, path: &str, name: &str) -> bool {
    let Some((dir, file)) = path.rsplit_once('/') else {
        return false;
    };
    let entry = format!("{}::{name},", file.trim_end_matches(".rs"));
    tree.text(&format!("{dir}/main.rs"))
        .and_then(|text| text.split_once("\nsuite! {"))
        .is_some_and(|(_, suite)| suite.lines().any(|line| line.trim() == entry))
}

/// Whether the attributes just above a function make it a test.
fn is_test(above: &[&str]) -> bool {
    let attributes = above
        .iter()
        .rev()
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    attributes
        .into_iter()
        .any(|line| line.starts_with("#[") && line.contains("test"))
}

fn has_target(tree: &Tree, target: &str) -> bool {
    let rule = format!("{target}:");
    !target.is_empty()
        && tree
            .text("Makefile")
            .is_some_and(|text| text.lines().any(|line| line.starts_with(&rule)))
}

/// Ids end in `.p1` or `.p2`, and those of latencies in their rate: the sources build these ends.
fn has_bench(tree: &Tree, id: &str) -> bool {
    let stem = id.trim_end_matches(".p1").trim_end_matches(".p2");
    let stem = if stem.starts_with("latency_") {
        "latency_"
    } else {
        stem
    };
    let mut sources = tree
        .ending(".rs")
        .filter(|(path, _)| path.starts_with("integration/bench/"));
    !stem.is_empty() && sources.any(|(_, text)| text.contains(stem))
}

fn has_example(tree: &Tree, name: &str) -> bool {
    let path = format!("api/hurtig/examples/{name}");
    !name.is_empty() && (tree.exists(&format!("{path}.rs")) || tree.exists(&format!("{path}/main.rs")))
}

fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::Tree;

    fn sample() -> Tree {
        Tree::of(&[
            ("Makefile", "demo: deps\n\trun\n"),
            (
                "a/tests/t.rs",
                "#[test]\nfn holds() {}\n\nfn helper() {}\n// fn ghost() {}\n",
            ),
            ("a/tests/p.rs", "proptest! {\n    fn any(x in 0..9) {}\n}\n"),
            ("a/tests/s/main.rs", "mod c;\n\nsuite! {\n    c::checked,\n}\n"),
            (
                "a/tests/s/c.rs",
                "pub async fn checked(w: &W) {}\npub async fn forgotten(w: &W) {}\n",
            ),
            ("docs/a.md", ""),
            (
                "integration/bench/src/ids.rs",
                "const A: &str = \"session_count\"; // latency_ too",
            ),
            ("api/hurtig/examples/word_count.rs", ""),
            ("api/hurtig/examples/access_log/main.rs", ""),
        ])
    }

    #[test]
    fn proofs_that_exist_hold() {
        for proof in [
            "test:a/tests/t.rs::holds",
            "test:a/tests/p.rs::any",
            "test:a/tests/s/c.rs::checked",
            "doc:docs/a.md",
            "cmd:demo",
            "bench:session_count.p1",
            "bench:latency_10k.p2",
            "example:word_count",
            "example:access_log",
        ] {
            assert_eq!(check(&sample(), proof), Ok(()));
        }
    }

    #[test]
    fn proofs_that_do_not_exist_are_refused() {
        for proof in [
            "test:a/tests/none.rs::holds",
            "test:a/tests/t.rs::hold",
            "test:a/tests/t.rs::helper",
            "test:a/tests/t.rs::ghost",
            "test:a/tests/s/c.rs::forgotten",
            "test:a/tests/t.rs",
            "doc:docs/b.md",
            "doc:",
            "cmd:dem",
            "cmd:",
            "bench:union_16.p1",
            "bench:.p1",
            "example:none",
            "example:",
            "word:of honour",
            "nothing",
        ] {
            assert!(check(&sample(), proof).is_err(), "{proof} was accepted");
        }
    }
}
