//! Lines for people, where somebody reads them: a closed pipe is no failure.

use std::fmt::Display;
use std::io::Write;

/// A line on standard output.
pub(crate) fn line(text: impl Display) {
    let _closed = writeln!(std::io::stdout(), "{text}");
}

/// A line on standard error.
pub(crate) fn error(why: &dyn Display) {
    let _closed = writeln!(std::io::stderr(), "error: {why}");
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
