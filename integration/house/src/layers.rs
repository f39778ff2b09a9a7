//! The law of the house: crates depend downwards only, `api → actors → runtime`.
//!
//! Development dependencies are exempt: a test may look up.

use crate::Findings;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::{fmt, io};

/// Every crate and its floor. A crate may depend only on crates of lower floors, so two on one floor
/// never depend on each other.
const FLOORS: [(&str, u8); 29] = [
    ("hurtig-core", 0),
    ("hurtig-state", 1),
    ("hurtig-exchange", 1),
    ("hurtig-rocksdb", 2),
    ("hurtig-storage", 2),
    ("hurtig-dataflow", 2),
    ("hurtig-kit", 3),
    ("hurtig-rpc", 4),
    ("hurtig-task", 4),
    ("hurtig-ha", 4),
    ("hurtig-network", 5),
    ("hurtig-cluster", 6),
    ("hurtig-macros", 7),
    ("hurtig-connector-files", 7),
    ("hurtig-connector-socket", 7),
    ("hurtig-connector-datagen", 7),
    ("hurtig-connector-sqlite", 7),
    ("hurtig-state-processor", 7),
    ("hurtig-object-store", 7),
    // A format of the file sink; programs that want it name it, `hurtig` does not.
    ("hurtig-connector-parquet", 8),
    ("hurtig", 8),
    ("hurtig-reporters", 7),
    ("hurtig-rest", 8),
    ("hurtig-cli", 9),
    ("hurtig-house", 9),
    ("hurtig-bench", 9),
    ("hurtig-end-to-end", 9),
    ("hurtig-simulation", 9),
    // For tests: an S3 server of somebody else's.
    ("hurtig-s3-server", 9),
];

/// Storeys, bottom up, and what no crate in them may depend on: exact names, or prefixes ending in `-`.
const FORBIDDEN: [(&str, &[&str]); 2] = [
    (
        "runtime/",
        &["actix", "actix-", "tokio", "tokio-", "hyper", "reqwest"],
    ),
    ("actors/", &["actix-web", "hyper", "reqwest"]),
];

/// One crate of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its directory, from the root of the workspace.
    pub dir: String,
    /// Names of what it depends on, development dependencies left out.
    pub dependencies: Vec<String>,
}

/// Asks cargo for the crates of the workspace at `root`, without a network.
///
/// # Errors
/// Cargo cannot be run, fails, or answers something that is not its documented format.
pub fn packages(root: &Path) -> io::Result<Vec<Package>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()))
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    parse(&metadata).ok_or_else(|| io::Error::other("cargo metadata: unexpected format"))
}

fn parse(metadata: &Value) -> Option<Vec<Package>> {
    let root = format!("{}/", metadata["workspace_root"].as_str()?);
    let package = |value: &Value| {
        let dir = value["manifest_path"]
            .as_str()?
            .strip_prefix(&root)?
            .strip_suffix("/Cargo.toml")?;
        let dependencies = value["dependencies"]
            .as_array()?
            .iter()
            .filter(|dep| dep["kind"] != "dev");
        let names = dependencies
            .map(|dep| dep["name"].as_str().map(String::from))
            .collect::<Option<_>>()?;
        Some(Package {
            name: value["name"].as_str()?.into(),
            dir: dir.into(),
            dependencies: names,
        })
    };
    metadata["packages"].as_array()?.iter().map(package).collect()
}

/// Crates that depend upwards or sideways, reach for what their storey must not know, or have no floor.
#[must_use]
pub fn check(packages: &[Package]) -> Findings {
    packages
        .iter()
        .flat_map(|package| [upward(package), forbidden(package)].concat())
        .collect()
}

fn floor(name: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(crate_name, _)| *crate_name == name)
        .map(|(_, floor)| *floor)
}

fn upward(package: &Package) -> Findings {
    let Some(own) = floor(&package.name) else {
        return vec![format!(
            "{package}: has no floor; give it one in integration/house/src/layers.rs"
        )];
    };
    let breaks =
        |dep: &&String| floor(dep).is_some_and(|other| other >= own || package.name == "hurtig-macros");
    let found = package.dependencies.iter().filter(breaks);
    found
        .map(|dep| format!("{package}: depends on {dep}, which is not below it"))
        .collect()
}

fn forbidden(package: &Package) -> Findings {
    let banned = FORBIDDEN
        .iter()
        .filter(|(storey, _)| package.dir.starts_with(storey))
        .flat_map(|(_, names)| *names);
    let matches = |dep: &str, name: &str| dep == name || (name.ends_with('-') && dep.starts_with(name));
    banned
        .flat_map(|name| package.dependencies.iter().filter(|dep| matches(dep, name)))
        .map(|dep| format!("{package}: depends on {dep}, which its storey must not know"))
        .collect()
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::{Package, check, parse};
    use serde_json::json;

    fn package(name: &str, dir: &str, dependencies: &[&str]) -> Package {
        let dependencies = dependencies.iter().map(|d| (*d).into()).collect();
        Package {
            name: name.into(),
            dir: dir.into(),
            dependencies,
        }
    }

    #[test]
    fn downward_dependencies_pass() {
        let task = package(
            "hurtig-task",
            "actors/task",
            &["hurtig-kit", "hurtig-core", "actix", "serde"],
        );
        assert_eq!(check(&[task]), Vec::<String>::new());
    }

    #[test]
    fn upward_and_sideways_dependencies_are_found() {
        let up = package("hurtig-dataflow", "runtime/dataflow", &["hurtig-task"]);
        let across = package(
            "hurtig-connector-files",
            "api/connectors/files",
            &["hurtig-connector-socket"],
        );
        let rooted = package("hurtig-macros", "api/macros", &["hurtig-core"]);
        assert_eq!(check(&[up, across, rooted]).len(), 3);
    }

    #[test]
    fn actors_and_sockets_below_their_storey_are_found() {
        let runtime = package(
            "hurtig-exchange",
            "runtime/exchange",
            &["tokio", "tokio-util", "actix-rt", "tokio2"],
        );
        let actors = package("hurtig-cluster", "actors/cluster", &["tokio", "actix-web"]);
        assert_eq!(check(&[runtime]).len(), 3);
        assert_eq!(check(&[actors]).len(), 1);
    }

    #[test]
    fn a_crate_without_a_floor_is_found() {
        assert_eq!(check(&[package("hurtig-attic", "attic", &[])]).len(), 1);
    }

    #[test]
    fn development_dependencies_are_left_out() {
        let metadata = json!({"workspace_root": "/w", "packages": [{
            "name": "hurtig-core", "manifest_path": "/w/runtime/core/Cargo.toml",
            "dependencies": [{"name": "serde", "kind": null}, {"name": "hurtig", "kind": "dev"}],
        }]});
        assert_eq!(
            parse(&metadata),
            Some(vec![package("hurtig-core", "runtime/core", &["serde"])])
        );
    }
}
