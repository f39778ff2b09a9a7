//! What is written about the REST API, generated from the tables of facts beside the sources and from the routes.
//! `HURTIG_BLESS=1 cargo test -p hurtig-rest reference` rewrites it.

mod openapi;
mod page;

use crate::routes::ROUTES;
use hurtig_house::generated;
use std::collections::{BTreeMap, BTreeSet};

const CONTRACT: &str = include_str!("../../contract.tsv");
const SERVED: &str = include_str!("../../served.tsv");
const NOT_SERVED: &str = include_str!("../../not-served.tsv");
const DEVIATIONS: &str = include_str!("../../deviations.tsv");

/// A method and a path.
type Operation = (&'static str, &'static str);

/// A row of the contract: what is known of a field.
#[derive(Clone, Copy)]
struct Fact {
    /// `query`, `body`, or the status of the answer.
    place: &'static str,
    field: &'static str,
    kind: &'static str,
    presence: &'static str,
}

impl Fact {
    fn status(&self) -> Option<u16> {
        self.place.parse().ok()
    }
}

fn rows(text: &'static str, columns: usize) -> Vec<Vec<&'static str>> {
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split('\t').collect()).collect();
    rows.iter()
        .for_each(|row| assert_eq!(row.len(), columns, "{row:?}"));
    rows
}

/// What is known of each operation.
fn contract() -> BTreeMap<Operation, Vec<Fact>> {
    let mut all: BTreeMap<Operation, Vec<Fact>> = BTreeMap::new();
    for row in rows(CONTRACT, 6) {
        let [method, path, place, field, kind, presence] = row[..] else {
            unreachable!("six columns")
        };
        all.entry((method, path)).or_default().push(Fact {
            place,
            field,
            kind,
            presence,
        });
    }
    all
}

/// The operations of a list.
fn listed(text: &'static str) -> BTreeSet<Operation> {
    rows(text, 3).iter().map(|row| (row[0], row[1])).collect()
}

#[test]
fn the_reference_is_up_to_date() {
    let found = generated::check("docs/reference/rest.md", &page::page()).unwrap();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn the_openapi_document_is_up_to_date() {
    let text = serde_json::to_string_pretty(&openapi::document()).unwrap() + "\n";
    let found = generated::check("docs/reference/openapi.json", &text).unwrap();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn what_is_routed_is_what_is_listed() {
    let routed: BTreeSet<Operation> = ROUTES
        .iter()
        .flat_map(|part| part.iter())
        .map(|route| (route.0, route.1))
        .collect();
    let listed = listed(SERVED);
    let differ: Vec<_> = routed.symmetric_difference(&listed).collect();
    assert!(
        differ.is_empty(),
        "in routes.rs or in served.tsv only: {differ:?}"
    );
}

#[test]
fn every_operation_is_served_or_listed_as_missing() {
    let (served, missing) = (listed(SERVED), listed(NOT_SERVED));
    let both: Vec<_> = served.intersection(&missing).collect();
    assert!(both.is_empty(), "{both:?}");
    let known: BTreeSet<Operation> = contract().into_keys().collect();
    let listed: BTreeSet<Operation> = served.union(&missing).copied().collect();
    let forgotten: Vec<_> = known.symmetric_difference(&listed).collect();
    assert!(forgotten.is_empty(), "in one of the lists only: {forgotten:?}");
}
