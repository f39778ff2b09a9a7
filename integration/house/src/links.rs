//! Links between documents: a relative link names a file that exists.

use crate::{Findings, Tree};

/// Relative links in Markdown files that lead nowhere. Text in code is not looked at.
#[must_use]
pub fn check(tree: &Tree) -> Findings {
    let mut findings = Findings::new();
    for (path, text) in tree.ending(".md") {
        for (line, target) in links(text) {
            if !leads_somewhere(tree, path, target) {
                findings.push(format!("{path}:{line}: there is no {target}"));
            }
        }
    }
    findings
}

fn leads_somewhere(tree: &Tree, from: &str, target: &str) -> bool {
    let file = target.split('#').next().unwrap_or_default();
    let elsewhere = file.is_empty() || target.contains("://") || target.starts_with("mailto:");
    elsewhere || resolve(from, file).is_some_and(|path| tree.exists(&path))
}

/// The path from the root that `link` in file `from` means; `None` if it leaves the root.
fn resolve(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop()?,
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Line numbers and targets of all `[text](target)` and `[label]: target` outside code.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        if !in_code && !fence {
            found.extend(targets(line).into_iter().map(|target| (index + 1, target)));
        }
    }
    found
}

fn targets(line: &str) -> Vec<&str> {
    // Every second piece between backticks is code. Where a link's text is code, its `](target)` opens
    // the piece of prose that follows.
    let prose = line.split('`').step_by(2);
    let inline = prose
        .flat_map(|piece| piece.split("](").skip(1))
        .filter_map(first_word);
    let label = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]: "))
        .and_then(|(_, rest)| first_word(rest));
    inline.chain(label).collect()
}

/// The target at the start of `rest`, without a title and the closing bracket.
fn first_word(rest: &str) -> Option<&str> {
    rest.split([')', ' '])
        .next()
        .map(|word| word.trim_matches(['<', '>']))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::Tree;

    fn findings(text: &str) -> usize {
        check(&Tree::of(&[
            ("docs/a/b.md", text),
            ("docs/c.md", ""),
            ("README.md", ""),
        ]))
        .len()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        for text in [
            "[c](../c.md) and [up](../../README.md#start) and [here](b.md \"title\")",
            "[folder](../) and [`code`](../c.md) and [itself](#part)",
            "[web](https://example.org/x) [mail](mailto:a@example.org)",
            "[c]: ../c.md",
            "`[not](a-link.md)`",
            "```\n[not](a-link.md)\n```",
        ] {
            assert_eq!(findings(text), 0, "{text}");
        }
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        for text in [
            "[c](c.md)",
            "[`code`](none.md)",
            "[out](../../../README.md)",
            "[d]: ../d.md",
            "```\ncode\n```\n[after](code.md)",
            "[good](../c.md) [bad](../e.md)",
        ] {
            assert_eq!(findings(text), 1, "{text}");
        }
    }
}
