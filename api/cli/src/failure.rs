//! What goes wrong, by who has to do what about it, and the exit code that says so.

use serde_json::{Value, json};
use std::fmt;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// One sentence each: what is wrong, and what to do.
    texts: Vec<String>,
    /// What was found out all the same.
    facts: Value,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The job has failed, the cluster has refused, or the machine has.
    Failed,
    /// The command line is wrong; nothing was asked of anybody.
    Usage,
    /// No jobmanager answers.
    Unreachable,
    /// What was named is not there.
    Unknown,
    /// The jobmanager wants to know who asks, or does not serve him.
    Forbidden,
}

/// Exit codes with their meanings, as the reference lists them.
pub(crate) const EXIT_CODES: [(u8, &str); 7] = [
    (0, "done"),
    (
        1,
        "the job has failed, or what was asked for was refused or did not succeed",
    ),
    (2, "the job that `run` waited for was cancelled"),
    (3, "the command line is wrong, or an id in it"),
    (4, "no jobmanager answers, or no cluster is known"),
    (
        5,
        "what was named is not there: the job, artifact, TaskManager, log, option",
    ),
    (6, "the jobmanager wants a token, or whose it is may not do that"),
];

/// Of a job that was cancelled while somebody waited for its end.
pub(crate) const CANCELLED: u8 = 2;

/// The exit codes, for the help.
pub(crate) fn exit_codes() -> String {
    let lines = EXIT_CODES
        .iter()
        .map(|(code, meaning)| format!("\n  {code}  {meaning}"));
    format!("Exit codes:{}", lines.collect::<String>())
}

impl Kind {
    /// The exit code of the process.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 3,
            Self::Unreachable => 4,
            Self::Unknown => 5,
            Self::Forbidden => 6,
        }
    }
}

impl Failure {
    pub(crate) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            texts: vec![text.into()],
            facts: json!({}),
        }
    }

    /// The command line is wrong.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Kind::Usage, text)
    }

    /// Several things are wrong at once.
    pub(crate) fn several(texts: Vec<String>) -> Self {
        Self {
            kind: Kind::Failed,
            texts,
            facts: json!({}),
        }
    }

    /// With what is known all the same; an object.
    pub(crate) fn with_facts(mut self, facts: Value) -> Self {
        self.facts = facts;
        self
    }

    /// With `context` before each of its texts.
    pub(crate) fn about(mut self, context: &str) -> Self {
        for text in &mut self.texts {
            *text = format!("{context}: {text}");
        }
        self
    }

    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The one document of a command that was asked for JSON.
    pub(crate) fn document(&self) -> Value {
        let mut document = self.facts.clone();
        document["errors"] = json!(self.texts);
        document
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts.join("; "))
    }
}

impl std::error::Error for Failure {}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::new(Kind::Failed, text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self::new(Kind::Failed, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_code_that_is_listed() {
        use Kind::{Failed, Forbidden, Unknown, Unreachable, Usage};
        let listed: Vec<u8> = EXIT_CODES.iter().map(|(code, _)| *code).collect();
        let codes = [Failed, Usage, Unreachable, Unknown, Forbidden].map(Kind::exit_code);
        assert!(
            codes
                .iter()
                .all(|code| listed.contains(code) && *code != CANCELLED)
        );
    }

    #[test]
    fn what_is_known_stands_beside_the_errors() {
        let failure = Failure::from("boom")
            .with_facts(json!({ "jobid": "1" }))
            .about("here");
        assert_eq!(
            failure.document(),
            json!({ "jobid": "1", "errors": ["here: boom"] })
        );
    }
}
