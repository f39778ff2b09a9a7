//! The list of all options, and how a key finds its option or the nearest one.

use super::options::REGISTRY;
use super::{AnyOption, Shape};

/// Environment variables that begin as options do but are not.
///
/// `HURTIG_CONFIG` names the configuration file, `HURTIG_LOG` filters the log, `HURTIG_BLESS` lets
/// tests rewrite the files that they compare with, `HURTIG_REQUIRE_ETCD` lets tests fail that find no etcd. With
/// `HURTIG_CLUSTER_DIR`, `HURTIG_TOKEN`, `HURTIG_CA_FILE` and the two behind it the program `hurtig` finds a cluster and is let in.
pub(super) const RESERVED_VARIABLES: [&str; 9] = [
    "HURTIG_CONFIG",
    "HURTIG_CLUSTER_DIR",
    "HURTIG_TOKEN",
    "HURTIG_CA_FILE",
    "HURTIG_CERTIFICATE_FILE",
    "HURTIG_KEY_FILE",
    "HURTIG_LOG",
    "HURTIG_BLESS",
    "HURTIG_REQUIRE_ETCD",
];

/// What the names of environment variables that set options begin with.
pub(super) const VARIABLE_PREFIX: &str = "HURTIG_";

/// A suggestion must be at least this similar (0 to 1) to what was written.
const MIN_SIMILARITY: f64 = 0.6;

/// Every option, in the order of the reference.
pub fn all() -> impl Iterator<Item = &'static dyn AnyOption> + Clone {
    REGISTRY
        .iter()
        .flat_map(|section| section.options.iter().copied())
}

/// The options of jobs, which a cluster's configuration may set for all that it runs.
pub(super) fn of_jobs() -> impl Iterator<Item = &'static dyn AnyOption> {
    REGISTRY
        .iter()
        .filter(|section| section.of_jobs)
        .flat_map(|section| section.options.iter().copied())
}

/// The option with this key.
#[must_use]
pub fn find(key: &str) -> Option<&'static dyn AnyOption> {
    all().find(|option| option.key() == key)
}

/// The map option that `key` is an entry of, and the entry's own key: `pipeline.x.a` of `pipeline.x`.
pub(super) fn find_map_entry(key: &str) -> Option<(&'static dyn AnyOption, &str)> {
    all()
        .filter(|option| option.shape() == Shape::Map)
        .find_map(|option| {
            let entry = key.strip_prefix(option.key())?.strip_prefix('.')?;
            Some((option, entry))
        })
}

/// The environment variable that sets the option with this key.
pub(super) fn variable_of(key: &str) -> String {
    let word = |character: char| {
        if character.is_ascii_alphanumeric() {
            character.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    VARIABLE_PREFIX.chars().chain(key.chars().map(word)).collect()
}

/// The option that an environment variable sets.
pub(super) fn find_variable(variable: &str) -> Option<&'static dyn AnyOption> {
    all().find(|option| variable_of(option.key()) == variable)
}

/// The key most similar to `key`, or one that ends with it.
pub(super) fn nearest_key(key: &str) -> Option<String> {
    nearest(key, all().map(|option| option.key().to_owned()))
}

/// The variable most similar to `variable`.
pub(super) fn nearest_variable(variable: &str) -> Option<String> {
    nearest(variable, all().map(|option| variable_of(option.key())))
}

/// The one of `known` most similar to what was written, or one that ends with it.
pub(super) fn nearest(written: &str, known: impl Iterator<Item = String> + Clone) -> Option<String> {
    let written = written.to_lowercase();
    let suffix = format!(".{written}");
    if let Some(whole) = known.clone().find(|key| key.to_lowercase().ends_with(&suffix)) {
        return Some(whole);
    }
    let similarity = |key: &String| strsim::normalized_damerau_levenshtein(&written, &key.to_lowercase());
    known
        .map(|key| (similarity(&key), key))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, key)| key)
}
