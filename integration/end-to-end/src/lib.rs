//! Whole programs, run as a user runs them: child processes on real files, compared with references
//! that were written independently.
//!
//! Holds what the tests share. It knows the examples by name and Hurtig not at all.

pub mod all_round;
pub mod waiting;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

/// The workspace's root.
pub fn workspace() -> PathBuf {
    // Asked for when the test runs: a target folder may have come with another path.
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.parent()
        .and_then(Path::parent)
        .map_or_else(|| here.clone(), Path::to_path_buf)
}

/// A file of sample data that comes with the examples.
pub fn sample(name: &str) -> String {
    workspace()
        .join("api/hurtig/examples/data")
        .join(name)
        .display()
        .to_string()
}

/// Where programs are that were built already, if somebody says so; its parent has `hurtig`.
const BUILT: &str = "BUILT_EXAMPLES";

fn build() -> Result<PathBuf, String> {
    if let Some(built) = std::env::var_os(BUILT) {
        return Ok(built.into());
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    // The whole workspace, as `make test` builds it: of some of its packages, dependencies have other features and are
    // compiled again.
    cargo
        .current_dir(workspace())
        .args(["build", "--quiet", "--workspace", "--examples", "--bins"]);
    // What cargo has told this test of its package: build scripts that ask for it (ring's does) would run again, and
    // all that depends on them be compiled again, here and in the next build.
    for (name, _) in std::env::vars_os() {
        let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        if name.to_str().is_some_and(of_package) {
            cargo.env_remove(name);
        }
    }
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    // This test lies in <target>/<profile>/deps; examples lie beside `deps`.
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    let profile = test
        .parent()
        .and_then(Path::parent)
        .ok_or("the test has no target folder")?;
    Ok(profile.join("examples"))
}

/// The program that runs a cluster's processes, which is built first.
///
/// # Panics
/// When it cannot be built.
pub fn cluster_binary() -> PathBuf {
    let examples = path_of("hurtig");
    examples
        .ancestors()
        .nth(2)
        .map_or_else(|| examples.clone(), |profile| profile.join("hurtig"))
}

/// An example of this package, which is built first.
///
/// # Panics
/// When it cannot be built.
pub fn built_example(name: &str) -> PathBuf {
    path_of(name)
}

/// Runs an example, which is built first.
///
/// # Panics
/// When it cannot be built or started.
pub fn example(name: &str, args: &[&str]) -> Output {
    run(Command::new(path_of(name)).args(args))
}

/// As [`example`], with arguments that need not be text.
///
/// # Panics
/// As [`example`].
pub fn example_of_os(name: &str, args: &[&std::ffi::OsStr]) -> Output {
    run(Command::new(path_of(name)).args(args))
}

/// As [`example`], with environment variables.
///
/// # Panics
/// As [`example`].
pub fn example_with(name: &str, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let variables = variables.iter().copied();
    run(Command::new(path_of(name)).args(args).envs(variables))
}

/// Starts an example with its output in pipes.
///
/// # Panics
/// When it cannot be built or started.
pub fn start_example(name: &str, args: &[&str]) -> Child {
    start_example_with(name, args, &[])
}

/// As [`start_example`], with environment variables.
///
/// # Panics
/// As [`start_example`].
pub fn start_example_with(name: &str, args: &[&str], variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(path_of(name));
    command
        .args(args)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!("cannot start {command:?}: {error}"),
    }
}

/// Sends a process a signal (`TERM`, `INT`); false when there is no such process any more. The shell has a `kill` of its
/// own, where no program of that name is installed.
///
/// # Panics
/// When there is no shell.
pub fn signal(process: &Child, name: &str) -> bool {
    let kill = format!("kill -s {name} {}", process.id());
    let mut shell = Command::new("sh");
    shell.args(["-c", &kill]).stderr(Stdio::null());
    match shell.status() {
        Ok(status) => status.success(),
        Err(error) => panic!("cannot start {shell:?}: {error}"),
    }
}

fn path_of(name: &str) -> PathBuf {
    static EXAMPLES: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = match EXAMPLES.get_or_init(build) {
        Ok(folder) => folder,
        Err(error) => panic!("the examples do not build:\n{error}"),
    };
    folder.join(name)
}

/// Runs a reference program.
///
/// # Panics
/// When it fails; python3 must be installed (`make deps`).
pub fn reference(name: &str, args: &[&str]) -> Output {
    let script = workspace().join("integration/end-to-end/reference").join(name);
    let output = run(Command::new("python3").arg(script).args(args));
    assert!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn run(command: &mut Command) -> Output {
    command.env("RUST_BACKTRACE", "0");
    match command.output() {
        Ok(output) => output,
        Err(error) => panic!("cannot start {command:?}: {error}"),
    }
}

/// The lines of standard output, sorted.
pub fn sorted_lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// `malformed=N` as standard error says it.
pub fn malformed(output: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines()
        .find(|line| line.starts_with("malformed="))
        .map(str::to_owned)
}

/// Chance that is small and repeatable.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The same numbers from the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A number that an environment variable sets.
///
/// # Panics
/// When it is set to something else.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| match text.parse() {
        Ok(number) => number,
        Err(_) => panic!("{variable} is '{text}' and no number"),
    })
}
