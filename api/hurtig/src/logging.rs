//! Where a program's log goes, and what of it, and the other lines on standard error: for
//! `#[hurtig::main]` only. Standard error may be closed (`2>&1 | head`), and then nothing is said.

use std::env::VarError;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use tracing_subscriber::EnvFilter;

/// The variables that may hold the filter; the first that is set decides.
const FILTERS: [&str; 2] = ["HURTIG_LOG", "RUST_LOG"];
/// The filter of a program that is told nothing.
const DEFAULT_FILTER: &str = "warn";

/// Sends the log to standard error, in colours only where somebody sees them.
pub(crate) fn start() -> Result<(), String> {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(|name| std::env::var(name))?)
        .with_ansi(colours(
            std::io::stderr().is_terminal(),
            std::env::var_os("NO_COLOR").is_some_and(|text| !text.is_empty()),
        ))
        // Otherwise a line that cannot be written panics, and with it whoever logs.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    // A program that has installed its own subscriber keeps it.
    let _already_set = subscriber.try_init();
    Ok(())
}

/// Writes a line to standard error. Unlike `eprintln!` it does not panic where nobody reads it.
pub(crate) fn say(line: impl Display) {
    let _closed = writeln!(std::io::stderr(), "{line}");
}

fn colours(terminal: bool, unwanted: bool) -> bool {
    terminal && !unwanted
}

fn filter(variable: impl Fn(&str) -> Result<String, VarError>) -> Result<EnvFilter, String> {
    for name in FILTERS {
        let text = match variable(name) {
            Ok(text) if text.trim().is_empty() => continue,
            Ok(text) => text,
            Err(VarError::NotPresent) => continue,
            Err(VarError::NotUnicode(_)) => {
                return Err(format!("the log filter in {name} is not UTF-8 text"));
            }
        };
        return EnvFilter::builder().parse(&text).map_err(|error| {
            format!(
                "the log filter '{text}' in {name} cannot be read: {error}; write a level (`info`) or \
                 levels of modules (`hurtig_cluster=debug,warn`)"
            )
        });
    }
    Ok(EnvFilter::new(DEFAULT_FILTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<String, String> {
        let found = filter(|name| {
            let pair = variables.iter().find(|(known, _)| *known == name);
            pair.map(|(_, text)| (*text).to_owned())
                .ok_or(VarError::NotPresent)
        });
        found.map(|filter| filter.to_string())
    }

    #[test]
    fn the_own_variable_comes_before_the_common_one() {
        assert_eq!(of(&[]).unwrap(), "warn");
        assert_eq!(of(&[("RUST_LOG", "info")]).unwrap(), "info");
        assert_eq!(
            of(&[("RUST_LOG", "info"), ("HURTIG_LOG", "debug")]).unwrap(),
            "debug"
        );
        assert_eq!(of(&[("RUST_LOG", "info"), ("HURTIG_LOG", " ")]).unwrap(), "info");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named_with_its_variable() {
        let error = of(&[("HURTIG_LOG", "a=b=c"), ("RUST_LOG", "info")]).unwrap_err();
        assert!(
            error.starts_with("the log filter 'a=b=c' in HURTIG_LOG cannot be read: "),
            "{error}"
        );
        assert!(
            of(&[("RUST_LOG", "hurtig=loud")])
                .unwrap_err()
                .contains("RUST_LOG")
        );
    }

    #[test]
    fn colours_need_a_terminal_and_consent() {
        assert!(colours(true, false) && !colours(true, true) && !colours(false, false));
    }
}
