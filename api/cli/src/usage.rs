//! What is wrong with a command line, in one line.

use crate::failure::Failure;
use crate::say::Output;
use clap::error::{Error, ErrorKind};
use std::ffi::OsString;
use std::process::ExitCode;

/// Says what a command line that is none has asked for, or what is wrong with it.
pub(crate) fn end(error: &Error, args: &[OsString]) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe is no failure.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => output(args).end(Err(failure(error))),
    }
}

/// To whom answers were to be said, as far as that can be told.
fn output(args: &[OsString]) -> Output {
    let json = |pair: &[OsString]| pair[0] == "--output" && pair[1] == "json";
    match args.windows(2).any(json) || args.iter().any(|arg| arg == "--output=json") {
        true => Output::Json,
        false => Output::Human,
    }
}

fn failure(error: &Error) -> Failure {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    ) {
        return Failure::usage("a command is missing; `--help` lists those that there are");
    }
    let text = error.to_string();
    let paragraphs = text.split("\n\n").map(one_line);
    let kept = paragraphs.filter(|text| !text.is_empty() && !text.starts_with("For more information"));
    let kept: Vec<String> = kept.collect();
    let text = kept.join("; ").replace("Usage: ", "usage: ");
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    Failure::usage(format!("{text}; `--help` says more"))
}

fn one_line(paragraph: &str) -> String {
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Line;
    use crate::failure::Kind;
    use clap::Parser as _;

    #[test]
    fn what_is_wrong_is_one_line_that_says_what_to_do() {
        for (args, wanted) in [
            (&["cancel"][..], "<JOB>"),
            (
                &["cancel", "zzz"],
                "32 hexadecimal digits; `hurtig list -a` shows them",
            ),
            (&["lst"], "list"),
            (&["list", "--runing"], "--running"),
            (&["run", "-p", "0", "x"], "0"),
            (&["run", "-D", "parallelism", "x"], "key=value"),
            (&["savepoint"], "<JOB>"),
            (&["list", "-a", "-r"], "--running"),
            (&["cluster"], "a command is missing"),
            (&[], "a command is missing"),
        ] {
            let line = ["hurtig"].iter().chain(args);
            let error = Line::try_parse_from(line).err().unwrap();
            let failure = failure(&error);
            let text = failure.to_string();
            assert_eq!(failure.kind, Kind::Usage);
            assert!(
                text.contains(wanted) && text.contains("--help"),
                "{args:?}: {text}"
            );
            assert!(
                !text.contains('\n') && !text.starts_with("error"),
                "{args:?}: {text}"
            );
        }
    }
}
