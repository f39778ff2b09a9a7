//! Pages of the book: each is in its table of contents, without which nobody sees it.

use crate::{Findings, Tree};

const SUMMARY: &str = "docs/SUMMARY.md";
/// What is no page.
const OTHERS: [&str; 2] = ["SUMMARY.md", "decisions/template.md"];

/// Documents that the book's table of contents does not name.
#[must_use]
pub fn check(tree: &Tree) -> Findings {
    let Some(summary) = tree.text(SUMMARY) else {
        return vec![format!("there is no {SUMMARY}")];
    };
    let pages = tree
        .ending(".md")
        .filter_map(|(path, _)| path.strip_prefix("docs/"));
    pages
        .filter(|page| !OTHERS.contains(page) && !summary.contains(&format!("]({page})")))
        .map(|page| format!("docs/{page}: {SUMMARY} does not name it"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::Tree;

    #[test]
    fn a_page_that_nobody_would_see_is_found() {
        let tree = |summary| {
            Tree::of(&[
                ("docs/SUMMARY.md", summary),
                ("docs/a/b.md", ""),
                ("docs/b.md", ""),
                ("docs/decisions/template.md", ""),
                ("README.md", ""),
            ])
        };
        assert!(check(&tree("- [B](b.md)\n  - [A](a/b.md)")).is_empty());
        assert_eq!(
            check(&tree("- [A](a/b.md)")),
            ["docs/b.md: docs/SUMMARY.md does not name it"]
        );
        assert_eq!(check(&Tree::of(&[])).len(), 1);
    }
}
