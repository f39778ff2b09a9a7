//! Where a setting was written.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The place where a setting was written; a later kind wins over an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The configuration of the cluster that runs the job.
    Cluster,
    /// A line of a YAML file.
    File {
        /// The file's name as it was given.
        name: String,
        /// The line of the key, counted from 1.
        line: u32,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// `-D key=value` on the command line.
    CommandLine,
    /// Program code.
    Program,
    /// Options of a source's watermarks, which are no part of a configuration.
    WatermarkOptions,
}

impl Source {
    /// Settings of a greater rank win.
    pub(super) const fn rank(&self) -> u8 {
        match self {
            Self::Cluster => 0,
            Self::File { .. } => 1,
            Self::Environment { .. } => 2,
            Self::CommandLine => 3,
            Self::Program | Self::WatermarkOptions => 4,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the cluster's configuration"),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::CommandLine => f.write_str("-D"),
            Self::Program => f.write_str("program code"),
            Self::WatermarkOptions => f.write_str("watermark options"),
        }
    }
}
