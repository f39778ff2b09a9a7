//! The configuration's reference and default file on disk equal what the declarations generate.
//! `HURTIG_BLESS=1 cargo test -p hurtig-core --test config_docs` rewrites them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use hurtig_core::config::{Configuration, all, default_yaml, reference_markdown};

fn check(path: &str, generated: &str) {
    // Asked for when the test runs: a target folder may have come with another path.
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let path = here.join("../..").join(path);
    if std::env::var_os("HURTIG_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, generated).unwrap();
    }
    let on_disk = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        on_disk == generated,
        "{} is not up to date; run again with HURTIG_BLESS=1",
        path.display()
    );
}

#[test]
fn the_default_file_is_up_to_date() {
    check("configs/hurtig.yaml", &default_yaml());
}

#[test]
fn the_reference_is_up_to_date() {
    check("docs/reference/configuration.md", &reference_markdown());
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
