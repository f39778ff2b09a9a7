//! Where `#[hurtig::main]` enters.

use crate::interrupt::{self, Interrupt};
use crate::role::ProgramRole;
use crate::{StreamEnv, logging};
use hurtig_core::config::{Configuration, options};
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
    match ProgramRole::of_process() {
        Ok(None) => {}
        Ok(Some(role)) => return run_in(&role, main),
        Err(message) => return fail(&message),
    }
    let prepared = || {
        let interrupt = start()?;
        let mut line = CommandLine::read(arguments(std::env::args_os())?.into_iter())?;
        let config = read_config(std::mem::take(&mut line.definitions))?;
        Ok::<_, String>((StreamEnv::of_program(config, line, interrupt.clone()), interrupt))
    };
    match prepared() {
        Ok((env, interrupt)) => drive(&interrupt, main(env)),
        Err(message) => fail(&message),
    }
}

/// Runs a program that makes its own environments: as [`run`], without settings.
pub fn run0<F, R, E>(main: impl FnOnce() -> F) -> ExitCode
where
    F: Future<Output = Result<R, E>>,
    E: Display,
{
    match ProgramRole::of_process() {
        Ok(None) => {}
        Ok(Some(role)) => return drive_in(&role, main()),
        Err(message) => return fail(&message),
    }
    match start() {
        Ok(interrupt) => drive(&interrupt, main()),
        Err(message) => fail(&message),
    }
}

/// Runs a program in a role of a cluster: with the command line and settings of its submission.
fn run_in<F, R, E>(role: &ProgramRole, main: impl FnOnce(StreamEnv) -> F) -> ExitCode
where
    F: Future<Output = Result<R, E>>,
    E: Display,
{
    let prepared = || {
        let mut line = CommandLine::read(role.arguments().into_iter())?;
        line.parallelism = line.parallelism.or(role.parallelism());
        let mut definitions = role.definitions();
        definitions.append(&mut line.definitions);
        let config = Configuration::builder()
            .cluster(role.defaults())
            .definitions(definitions)
            .build();
        let config = config.map_err(|errors| errors.to_string())?;
        Ok::<_, String>(StreamEnv::in_role(config, line, role.clone()))
    };
    match prepared() {
        Ok(env) => drive_in(role, main(env)),
        Err(message) => role.ended(Err(message)),
    }
}

fn drive_in<R, E: Display>(role: &ProgramRole, program: impl Future<Output = Result<R, E>>) -> ExitCode {
    if let Err(message) = logging::start() {
        return fail(&message);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(role.scope(program));
            ended.map(drop).map_err(|error| error.to_string())
        }
        Err(error) => Err(format!("cannot start the program's runtime: {error}")),
    };
    role.ended(ended)
}

/// The command line as text.
fn arguments(args: impl Iterator<Item = std::ffi::OsString>) -> Result<Vec<String>, String> {
    let text = |arg: std::ffi::OsString| {
        arg.into_string()
            .map_err(|arg| format!("argument '{}' is not UTF-8", arg.display()))
    };
    args.map(text).collect()
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
    interrupt.wait_until_told();
    interrupt.exit_code().unwrap_or(code)
}

fn fail(error: &dyn Display) -> ExitCode {
    logging::say(format_args!("error: {error}"));
    ExitCode::FAILURE
}

/// What a program's command line says to Hurtig, and the rest of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// Of each `-D key=value`.
    pub(crate) definitions: Vec<String>,
    /// Of `-p N`.
    pub(crate) parallelism: Option<u32>,
    /// The program's own arguments, its name first.
    pub(crate) rest: Vec<String>,
}

impl CommandLine {
    /// `-D key=value`, `-Dkey=value`, `--restore PATH` and `--allow-non-restored-state` may stand anywhere
    /// before `--`. `-p N` counts before the
    /// first argument of the program's own, so that a program may have a `-p` too.
    fn read(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut line = Self::default();
        let mut args = args;
        line.rest.extend(args.next());
        while let Some(arg) = args.next() {
            if arg == "--" {
                line.rest.push(arg);
                line.rest.extend(args);
                break;
            } else if arg == "-D" {
                line.definitions.push(args.next().unwrap_or_default());
            } else if let Some(definition) = arg.strip_prefix("-D").filter(|text| text.contains('=')) {
                line.definitions.push(definition.to_owned());
            } else if arg == "--restore" {
                line.definitions.push(restore(args.next())?);
            } else if let Some(path) = arg.strip_prefix("--restore=") {
                line.definitions.push(restore(Some(path.to_owned()))?);
            } else if arg == "--allow-non-restored-state" {
                line.definitions
                    .push(format!("{}=true", options::IGNORE_UNCLAIMED_STATE.key()));
            } else if arg == "-p" && line.rest.len() == 1 {
                line.parallelism = Some(parallelism(args.next())?);
            } else {
                line.rest.push(arg);
            }
        }
        Ok(line)
    }
}

fn restore(path: Option<String>) -> Result<String, String> {
    let path = path.filter(|path| !path.is_empty()).ok_or(
        "--restore is followed by the folder of a checkpoint, or by `latest` for the job's last one",
    )?;
    Ok(format!("{}={path}", options::RESTORE_PATH.key()))
}

fn parallelism(text: Option<String>) -> Result<u32, String> {
    let text = text.unwrap_or_default();
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| {
        format!(
            "-p is followed by the job's parallelism, an integer of at least 1, not by '{text}'; a `-p` of the \
             program's own stands behind another of its arguments"
        )
    })
}

/// The environment variable that names a YAML file of settings.
const CONF_FILE: &str = "HURTIG_CONFIG";

/// The settings of this process: of the file that the environment names, the environment, and `definitions`.
pub(crate) fn read_config(definitions: Vec<String>) -> Result<Configuration, String> {
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
    use super::CommandLine;

    fn read(args: &[&str]) -> Result<CommandLine, String> {
        CommandLine::read(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn definitions_are_taken_out_and_the_rest_keeps_its_order() {
        let line = read(&[
            "prog", "-D", "a=1", "--input", "x", "-Db=2", "-Dry", "--", "-D", "c=3",
        ])
        .unwrap();
        assert_eq!(line.definitions, ["a=1", "b=2"]);
        assert_eq!(line.rest, ["prog", "--input", "x", "-Dry", "--", "-D", "c=3"]);
        assert_eq!(line.parallelism, None);
    }

    #[test]
    fn what_a_job_begins_with_is_a_setting() {
        let line = read(&["prog", "--restore", "latest", "x", "--allow-non-restored-state"]).unwrap();
        let want = [
            "execution.state-recovery.path=latest",
            "execution.state-recovery.ignore-unclaimed-state=true",
        ];
        assert_eq!(line.definitions, want);
        assert_eq!(line.rest, ["prog", "x"]);
        let line = read(&["prog", "--restore=/c/chk-3", "--", "--restore"]).unwrap();
        assert_eq!(line.definitions, ["execution.state-recovery.path=/c/chk-3"]);
        assert!(read(&["prog", "--restore"]).unwrap_err().contains("latest"));
    }

    #[test]
    fn parallelism_stands_before_what_is_the_programs() {
        let line = read(&["prog", "-D", "a=1", "-p", "4", "-Db=2", "--port", "-p", "80"]).unwrap();
        assert_eq!(line.parallelism, Some(4));
        assert_eq!(line.definitions, ["a=1", "b=2"]);
        assert_eq!(line.rest, ["prog", "--port", "-p", "80"]);
        for wrong in [&["prog", "-p"][..], &["prog", "-p", "0"], &["prog", "-p", "x"]] {
            let error = read(wrong).unwrap_err();
            assert!(
                error.starts_with("-p is followed by the job's parallelism"),
                "{error}"
            );
        }
    }
}
