//! What is wrong with a configuration, told to the person who wrote it.

use std::fmt;

use super::registry::nearest_key;
use super::{AnyOption, Source};
use crate::error::Error;

/// One thing wrong with a configuration. The fault is the user's; a retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A key that no option has.
    #[error("{at}: unknown option `{key}`{}", did_you_mean(nearest.as_deref()))]
    UnknownKey {
        /// Where it was written.
        at: Source,
        /// The key (or the environment variable) as written.
        key: String,
        /// The most similar one that there is.
        nearest: Option<String>,
    },
    /// A value that its option does not accept.
    #[error("{at}: `{key}` expects {expected}, found {found}")]
    BadValue {
        /// Where it was written.
        at: Source,
        /// The option's key.
        key: String,
        /// What the option accepts.
        expected: String,
        /// What was written.
        found: String,
    },
    /// An option that will be there and is not yet.
    #[error("{at}: `{key}` is `{found}`, but {problem}")]
    Unsupported {
        /// Where it was written.
        at: Source,
        /// The option's key.
        key: String,
        /// What was written.
        found: String,
        /// What is not there, and what to do.
        problem: String,
    },
    /// Program code set an option of the cluster.
    #[error(
        "program code: `{key}` configures the cluster, not a job; set it in the configuration file, \
         by an environment variable or with -D"
    )]
    ClusterOption {
        /// The option's key.
        key: String,
    },
    /// One file sets an option twice.
    #[error("{file}:{line}: `{key}` is set again; line {first_line} sets it already")]
    SetTwice {
        /// The file's name.
        file: String,
        /// The line of the second setting.
        line: u32,
        /// The option's key.
        key: String,
        /// The line of the first setting.
        first_line: u32,
    },
    /// A file that is not YAML, or uses a part of YAML that configuration does without.
    #[error("{file}:{line}: {problem}")]
    Syntax {
        /// The file's name.
        file: String,
        /// The line of the problem.
        line: u32,
        /// What is wrong there.
        problem: String,
    },
    /// A `-D` without an equals sign.
    #[error("-D expects key=value, found `{found}`")]
    Definition {
        /// What was given.
        found: String,
    },
}

impl ConfigError {
    pub(super) fn unknown(key: &str, at: Source) -> Self {
        Self::UnknownKey {
            at,
            key: key.to_owned(),
            nearest: nearest_key(key),
        }
    }

    pub(super) fn bad_value(option: &dyn AnyOption, found: &str, at: Source) -> Self {
        Self::BadValue {
            at,
            key: option.key().to_owned(),
            expected: option.expected().into_owned(),
            found: if found.is_empty() {
                "nothing".to_owned()
            } else if option.is_secret() {
                "something else".to_owned()
            } else {
                format!("`{found}`")
            },
        }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest
        .map(|key| format!("; did you mean `{key}`?"))
        .unwrap_or_default()
}

/// Everything wrong with a configuration: at least one [`ConfigError`], printed one on each line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// `Ok(value)` when there are no errors, all of them otherwise.
    pub(super) fn unless_none<T>(errors: Vec<ConfigError>, value: T) -> Result<T, Self> {
        if errors.is_empty() {
            Ok(value)
        } else {
            Err(Self(errors))
        }
    }

    /// The errors, in the order of the layers and of the lines in them.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::user(error.to_string())
    }
}

impl From<ConfigErrors> for Error {
    fn from(errors: ConfigErrors) -> Self {
        Self::user(errors.to_string())
    }
}
