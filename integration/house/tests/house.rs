//! The rules of the house, applied to the workspace. Each finding says which file breaks which rule.
#![allow(clippy::unwrap_used, reason = "a test stops where it cannot read")]

use hurtig_house::{Findings, Tree, book, functions, layers, links, planted, sources, status};
use std::io::Write;
use std::path::PathBuf;

/// The workspace, asked for when the test runs: a target folder may have come with another path.
fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.join("../..")
}

fn tree() -> Tree {
    Tree::read(&root()).unwrap()
}

fn holds(findings: &Findings) {
    assert!(
        findings.is_empty(),
        "{} findings:\n  {}",
        findings.len(),
        findings.join("\n  ")
    );
}

#[test]
fn crates_depend_only_downwards() {
    let root = root().canonicalize().unwrap();
    let packages = layers::packages(&root).unwrap();
    assert!(packages.len() >= 15, "cargo named only {} crates", packages.len());
    holds(&layers::check(&packages));
}

#[test]
fn every_proof_of_a_feature_exists() {
    holds(&status::check(&tree()));
}

#[test]
fn sources_are_short_introduced_and_not_silently_ignored() {
    holds(&sources::check(&tree()));
}

#[test]
fn the_median_function_is_short() {
    let lengths = functions::lengths(&tree());
    let [p50, p90] = [50, 90].map(|percent| functions::percentile(&lengths, percent));
    // Written past the test runner's capture: the figure is worth seeing in every run.
    let summary = format!("{} functions: p50 {p50} lines, p90 {p90} lines\n", lengths.len());
    std::io::stderr().write_all(summary.as_bytes()).unwrap();
    assert!(
        p50 < functions::MEDIAN_BELOW,
        "the median function has {p50} lines"
    );
}

#[test]
fn links_between_documents_lead_somewhere() {
    holds(&links::check(&tree()));
}

#[test]
fn every_page_is_in_the_book() {
    holds(&book::check(&tree()));
}

#[test]
fn every_planted_bug_names_a_test_that_exists() {
    holds(&planted::check(&tree()));
}
