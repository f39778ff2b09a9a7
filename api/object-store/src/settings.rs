//! [`S3Settings`]: how a store that speaks S3 is reached.

use hurtig_core::config::{Configuration, options};
use std::fmt;
use std::time::Duration;

/// How a store that speaks S3 is reached. What is not set comes from the environment.
#[derive(Clone)]
pub struct S3Settings {
    /// URL of the store.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Who asks.
    pub access_key: Option<String>,
    /// What proves it.
    pub secret_key: Option<String>,
    /// Whether the bucket's name is in the path.
    pub path_style: bool,
    /// Size of parts, in bytes.
    pub part_bytes: u64,
    /// Longest time of a request with its repetitions.
    pub timeout: Duration,
}

impl S3Settings {
    /// What a configuration says.
    pub fn of(config: &Configuration) -> Self {
        Self {
            endpoint: config.get(&options::S3_ENDPOINT),
            region: config.get(&options::S3_REGION),
            access_key: config.get(&options::S3_ACCESS_KEY),
            secret_key: config.get(&options::S3_SECRET_KEY),
            path_style: config.get(&options::S3_PATH_STYLE),
            part_bytes: config.get(&options::S3_PART_SIZE).get(),
            timeout: config.get(&options::S3_TIMEOUT),
        }
    }
}

impl fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Settings")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key", &self.access_key)
            .field("secret_key", &self.secret_key.as_ref().map(|_| "******"))
            .field("path_style", &self.path_style)
            .field("part_bytes", &self.part_bytes)
            .field("timeout", &self.timeout)
            .finish()
    }
}
