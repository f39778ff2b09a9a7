//! `docs/feature-status.tsv`: which feature works, and by what proof.

use crate::proofs;
use crate::{Findings, Tree};
use std::collections::BTreeSet;

/// Where the table lies.
pub const PATH: &str = "docs/feature-status.tsv";
const HEADER: &str = "code\tstatus\tproof\tnote";

/// Rows that are not well formed, codes used twice, and proofs that do not hold.
///
/// `done` needs a proof, `partial` may have one, `none` must not.
#[must_use]
pub fn check(tree: &Tree) -> Findings {
    let Some(text) = tree.text(PATH) else {
        return vec![format!("{PATH} is missing")];
    };
    let mut lines = text.lines();
    let mut findings = Findings::new();
    if lines.next() != Some(HEADER) {
        findings.push(format!("{PATH}:1: the header is not {HEADER:?}"));
    }
    let mut codes = BTreeSet::new();
    for (index, line) in lines.enumerate() {
        let found = check_row(tree, line, &mut codes);
        findings.extend(
            found
                .into_iter()
                .map(|what| format!("{PATH}:{}: {what}", index + 2)),
        );
    }
    findings
}

fn check_row<'a>(tree: &Tree, line: &'a str, codes: &mut BTreeSet<&'a str>) -> Findings {
    let cells: Vec<&str> = line.split('\t').collect();
    let [code, status, proof, _note] = cells[..] else {
        return vec![format!("{} columns instead of 4", cells.len())];
    };
    let mut findings = Findings::new();
    if !is_code(code) {
        findings.push(format!(
            "`{code}` is not a code (two capitals or digits, then a number)"
        ));
    }
    if !codes.insert(code) {
        findings.push(format!("{code} occurs twice"));
    }
    match (status, proof.is_empty()) {
        ("done", true) => findings.push(format!("{code} is done without a proof")),
        ("none", false) => findings.push(format!("{code} is not there and yet has a proof")),
        ("done" | "partial" | "none", _) => {}
        _ => findings.push(format!("{code}: `{status}` is not done, partial or none")),
    }
    let named = proof.split(proofs::SEPARATOR).filter(|one| !one.is_empty());
    findings.extend(
        named
            .filter_map(|one| proofs::check(tree, one).err())
            .map(|why| format!("{code}: {why}")),
    );
    findings
}

/// `[A-Z0-9]{2}[0-9]+`
fn is_code(code: &str) -> bool {
    let (area, number) = code.split_at_checked(2).unwrap_or_default();
    area.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{PATH, check, is_code};
    use crate::Tree;

    fn findings(rows: &str) -> Vec<String> {
        let table = format!("code\tstatus\tproof\tnote\n{rows}");
        check(&Tree::of(&[
            (PATH, &table),
            ("docs/a.md", ""),
            ("Makefile", "demo:\n"),
        ]))
    }

    #[test]
    fn good_rows_pass() {
        let rows = "RT1\tdone\tdoc:docs/a.md; cmd:demo\tRoles\nV210\tpartial\t\tx\nRT2\tnone\t\t\n";
        assert_eq!(findings(rows), Vec::<String>::new());
    }

    #[test]
    fn bad_rows_are_found() {
        for row in [
            "RT1\tdone\t\tno proof",
            "RT1\tdone\tdoc:docs/b.md\tbroken proof",
            "RT1\tdone\tdoc:docs/a.md; doc:docs/b.md\tone of two broken",
            "RT1\tpartial\tdoc:docs/b.md\tbroken proof",
            "RT1\tnone\tdoc:docs/a.md\tproof of nothing",
            "RT1\tfinished\t\tunknown status",
            "RTX\tnone\t\tbad code",
            "RT1\tnone\tthree columns",
            "RT1\tnone\t\tfive\tcolumns",
            "",
        ] {
            assert_eq!(findings(&format!("{row}\n")).len(), 1, "{row:?}");
        }
    }

    #[test]
    fn a_repeated_code_a_wrong_header_and_a_missing_table_are_found() {
        assert_eq!(findings("RT1\tnone\t\t\nRT1\tnone\t\t\n").len(), 1);
        assert_eq!(check(&Tree::of(&[(PATH, "code,status,proof,note\n")])).len(), 1);
        assert_eq!(check(&Tree::default()).len(), 1);
    }

    #[test]
    fn codes_are_two_characters_and_a_number() {
        assert!(["RT1", "V210", "CP12"].into_iter().all(is_code));
        assert!(
            !["", "R", "RT", "rt1", "RT1a", "1", "ÄÖ1"]
                .into_iter()
                .any(is_code)
        );
    }
}
