//! What a command says: to people lines, to programs one JSON document. A closed pipe is no failure.

use crate::failure::Failure;
use clap::ValueEnum;
use serde_json::Value;
use std::fmt::Display;
use std::io::{IsTerminal as _, Write};
use std::process::ExitCode;

/// To whom answers are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// People: lines and tables
    Human,
    /// Programs: one JSON document on standard output, errors too
    Json,
}

/// What a command has found out or done.
pub(crate) struct Answer {
    /// For people, without the last line break; may be empty.
    human: String,
    json: Value,
    code: ExitCode,
}

impl Answer {
    pub(crate) fn new(json: Value, human: impl Into<String>) -> Self {
        let (human, code) = (human.into(), ExitCode::SUCCESS);
        Self { human, json, code }
    }

    /// The same with another exit code than that of success.
    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = ExitCode::from(code);
        self
    }
}

impl Output {
    /// Says how a command has ended. Its exit code is that of the process.
    pub(crate) fn end(self, outcome: Result<Answer, Failure>) -> ExitCode {
        clear_progress();
        match outcome {
            Ok(answer) => {
                match self {
                    Self::Human if answer.human.is_empty() => {}
                    Self::Human => line(answer.human.trim_end_matches('\n')),
                    Self::Json => line(format_args!("{:#}", answer.json)),
                }
                answer.code
            }
            Err(failure) => {
                if self == Self::Json {
                    line(format_args!("{:#}", failure.document()));
                }
                failure.texts().iter().for_each(|text| error(text));
                ExitCode::from(failure.kind.exit_code())
            }
        }
    }

    /// A line on the way, for people.
    pub(crate) fn meanwhile(self, text: impl Display) {
        if self == Self::Human {
            clear_progress();
            line(text);
        }
    }
}

/// A line on standard output.
fn line(text: impl Display) {
    let _closed = writeln!(std::io::stdout(), "{text}");
}

/// A line on standard error.
pub(crate) fn error(why: &dyn Display) {
    let _closed = writeln!(std::io::stderr(), "error: {why}");
}

/// What long work is doing, in a line of the terminal that the next one takes the place of.
pub(crate) fn progress(text: impl Display) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _closed = write!(stderr, "\r\x1b[2K{text}").and_then(|()| stderr.flush());
    }
}

fn clear_progress() {
    progress("");
}

/// Sends the log to standard error.
pub(crate) fn start_log() {
    let filter = std::env::var("HURTIG_LOG")
        .ok()
        .filter(|text| !text.trim().is_empty());
    let filter = filter.unwrap_or_else(|| "info".to_owned());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    // Nobody else installs one.
    let _ = subscriber.try_init();
}
