//! The configuration's reference and default file on disk equal what the declarations generate.
//! `HURTIG_BLESS=1 cargo test -p hurtig-core --test config_docs` rewrites them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hurtig_core::config::{Configuration, all, default_yaml, reference_markdown};
use hurtig_house::generated;

#[test]
fn the_default_file_is_up_to_date() {
    let found = generated::check("configs/hurtig.yaml", &default_yaml()).unwrap();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn the_reference_is_up_to_date() {
    let found = generated::check("docs/reference/configuration.md", &reference_markdown()).unwrap();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn the_default_file_sets_nothing_until_it_is_uncommented() {
    let config = Configuration::builder()
        .yaml("hurtig.yaml", &default_yaml())
        .build()
        .unwrap();
    assert_eq!(config, Configuration::default());
}

#[test]
fn the_uncommented_default_file_sets_every_option_to_its_default() {
    let uncommented: String = default_yaml()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(option) if !option.starts_with(' ') => format!("{option}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = Configuration::builder()
        .yaml("hurtig.yaml", &uncommented)
        .build()
        .unwrap();
    for entry in config.entries() {
        assert_eq!(entry.value, entry.option.default_text(), "{}", entry.option.key());
    }
    let set = config.entries().filter(|entry| entry.source.is_some()).count();
    let without_default = all().filter(|option| option.default_text().is_empty()).count();
    assert_eq!(set, all().count() - without_default);
}
