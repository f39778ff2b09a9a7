//! Where `#[hurtig::main]` enters.

use crate::interrupt::{self, Interrupt};
use crate::{StreamEnv, logging};
use hurtig_core::config::Configuration;
use std::fmt::Display;
use std::future::Future;
use std::process::ExitCode;

/// Runs a program that takes an environment: reads settings (`-D key=value`, `HURTIG_*`, the file
/// named by `HURTIG_CONFIG`), starts the log (`HURTIG_LOG`, `RUST_LOG`), cancels jobs at Ctrl-C and
/// SIGTERM, and turns an error into a message and a non-zero exit code.
pub fn run<F, R, E>(main: impl FnOnce(StreamEnv) -> F) -> ExitCode
where
    F: Future<Output = Result<R, E>>,
    E: Display,
{
    let (definitions, rest) = split_definitions(std::env::args());
    let started = start().and_then(|interrupt| Ok((interrupt, read_config(definitions)?)));
    match started {
        Ok((interrupt, config)) => {
            let env = StreamEnv::of_program(config, rest, interrupt.clone());
            drive(&interrupt, main(env))
        }
        Err(message) => fail(&message),
    }
}

/// Runs a program that makes its own environments: as [`run`], without settings.
pub fn run0<F, R, E>(main: impl FnOnce() -> F) -> ExitCode
where
    F: Future<Output = Result<R, E>>,
    E: Display,
{
    match start() {
        Ok(interrupt) => drive(&interrupt, main()),
        Err(message) => fail(&message),
    }
}

fn start() -> Result<Interrupt, String> {
    logging::start()?;
    let interrupt = Interrupt::default();
    interrupt::watch(interrupt.clone())?;
    Ok(interrupt)
}

fn drive<R, E: Display>(interrupt: &Interrupt, program: impl Future<Output = Result<R, E>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let code = match runtime {
        Ok(runtime) => match runtime.block_on(interrupt.scope(program)) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Err(error) => fail(&format!("cannot start the client's runtime: {error}")),
    };
    interrupt.exit_code().unwrap_or(code)
}

#[expect(
    clippy::print_stderr,
    reason = "this is the edge where a program's last error is printed once"
)]
fn fail(error: &dyn Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

/// Separates `-D key=value` and `-Dkey=value` from the program's own arguments.
fn split_definitions(args: impl Iterator<Item = String>) -> (Vec<String>, Vec<String>) {
    let (mut definitions, mut rest) = (Vec::new(), Vec::new());
    let mut args = args;
    while let Some(arg) = args.next() {
        if arg == "--" {
            rest.push(arg);
            rest.extend(args);
            break;
        } else if arg == "-D" {
            definitions.push(args.next().unwrap_or_default());
        } else if let Some(definition) = arg.strip_prefix("-D").filter(|text| text.contains('=')) {
            definitions.push(definition.to_owned());
        } else {
            rest.push(arg);
        }
    }
    (definitions, rest)
}

/// The environment variable that names a YAML file of settings.
const CONF_FILE: &str = "HURTIG_CONFIG";

fn read_config(definitions: Vec<String>) -> Result<Configuration, String> {
    let mut builder = Configuration::builder();
    if let Some(path) = std::env::var_os(CONF_FILE) {
        let path = path.to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).map_err(|error| {
            format!("cannot read the settings file '{path}' named by {CONF_FILE}: {error}")
        })?;
        builder = builder.yaml(&path, &text);
    }
    let variables = std::env::vars();
    builder
        .environment(variables)
        .definitions(definitions)
        .build()
        .map_err(|errors| errors.to_string())
}

#[cfg(test)]
mod tests {
    use super::split_definitions;

    #[test]
    fn definitions_are_taken_out_and_the_rest_keeps_its_order() {
        let args = [
            "prog", "-D", "a=1", "--input", "x", "-Db=2", "-Dry", "--", "-D", "c=3",
        ];
        let (definitions, rest) = split_definitions(args.into_iter().map(str::to_owned));
        assert_eq!(definitions, ["a=1", "b=2"]);
        assert_eq!(rest, ["prog", "--input", "x", "-Dry", "--", "-D", "c=3"]);
    }
}
