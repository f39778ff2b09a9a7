//! [`S3Opener`]: buckets and their clients.

use crate::blobs::{Limits, ObjectBlobs, Objects, Place};
use crate::http::CreateOnly;
use crate::settings::S3Settings;
use crate::worker::Worker;
use hurtig_storage::{BlobStore, OpenStore, StorageError};
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a request is repeated at most; the deadline usually comes first.
const MAX_REPETITIONS: usize = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens stores at `s3://bucket/path`. All of a bucket share one client with its connections.
#[derive(Debug)]
pub struct S3Opener {
    settings: S3Settings,
    opened: Mutex<Opened>,
}

#[derive(Debug, Default)]
struct Opened {
    worker: Option<Arc<Worker>>,
    buckets: BTreeMap<String, Arc<dyn Objects>>,
}

impl S3Opener {
    /// Opens stores with these settings; what they leave open comes from the environment.
    pub fn new(settings: S3Settings) -> Self {
        Self {
            settings,
            opened: Mutex::default(),
        }
    }

    fn client(&self, bucket: &str) -> object_store::Result<Arc<dyn Objects>> {
        let settings = &self.settings;
        let mut builder = AmazonS3Builder::from_env();
        let pairs: [(&Option<String>, fn(AmazonS3Builder, &str) -> AmazonS3Builder); 3] = [
            (&settings.region, |builder, region| builder.with_region(region)),
            (&settings.access_key, |builder, key| {
                builder.with_access_key_id(key)
            }),
            (&settings.secret_key, |builder, key| {
                builder.with_secret_access_key(key)
            }),
        ];
        for (value, set) in pairs {
            if let Some(value) = value {
                builder = set(builder, value);
            }
        }
        let endpoint = settings.endpoint.clone().or_else(environment_endpoint);
        let path_style = settings.path_style || endpoint.as_deref().is_some_and(has_no_subdomains);
        builder = builder.with_virtual_hosted_style_request(!path_style);
        let plain = endpoint.as_deref().is_some_and(|url| url.starts_with("http://"));
        if let Some(url) = endpoint {
            builder = builder.with_endpoint(if path_style { url } else { hosted(&url, bucket) });
        }
        let client = builder
            .with_bucket_name(bucket)
            .with_allow_http(plain)
            // One request an object, which every store knows.
            .with_disable_bulk_delete(true)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(repetition(settings.timeout))
            .with_client_options(client_options(settings.timeout, plain))
            .with_http_connector(CreateOnly::default())
            .build()?;
        Ok(Arc::new(client))
    }
}

impl OpenStore for S3Opener {
    fn open(&self, location: &str) -> hurtig_storage::Result<Arc<dyn BlobStore>> {
        let place = Place::parse(location)?;
        let bad = |problem: String| StorageError::Refused {
            location: place.location(),
            problem,
        };
        // Every change is one call of a map, so a panic elsewhere left it whole.
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let worker = match &opened.worker {
            Some(worker) => worker.clone(),
            None => {
                let started = Worker::start().map_err(|error| bad(error.to_string()))?;
                opened.worker.insert(Arc::new(started)).clone()
            }
        };
        let objects = match opened.buckets.get(&place.bucket) {
            Some(client) => client.clone(),
            None => {
                let client = self.client(&place.bucket).map_err(|error| {
                    bad(format!(
                        "{}; check the settings `s3.…`",
                        crate::problem::chain(&error)
                    ))
                })?;
                opened.buckets.insert(place.bucket.clone(), client.clone());
                client
            }
        };
        let limits = Limits {
            part_bytes: self.settings.part_bytes,
            timeout: self.settings.timeout,
        };
        Ok(Arc::new(ObjectBlobs::new(worker, objects, place, limits)))
    }
}

fn environment_endpoint() -> Option<String> {
    let names = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    names.iter().find_map(|name| std::env::var(name).ok())
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// Whether the host of a URL is an address, or this machine: it has no host for each bucket.
fn has_no_subdomains(url: &str) -> bool {
    let host = host(url);
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || host.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok()
}

/// The URL with the bucket in the name of the host.
fn hosted(url: &str, bucket: &str) -> String {
    let host = host(url);
    match host.starts_with(&format!("{bucket}.")) {
        true => url.to_owned(),
        false => url.replacen(host, &format!("{bucket}.{host}"), 1),
    }
}

fn repetition(timeout: Duration) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: FIRST_PAUSE,
            max_backoff: LONGEST_PAUSE,
            base: 2.0,
        },
        max_retries: MAX_REPETITIONS,
        retry_timeout: timeout,
    }
}

fn client_options(timeout: Duration, plain: bool) -> ClientOptions {
    // Who has chosen another provider for the process keeps it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    ClientOptions::new()
        .with_timeout(timeout)
        .with_connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .with_allow_http(plain)
        .with_no_system_certificates(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_hosts_where_hosts_can_have_them() {
        for url in [
            "http://localhost:9000",
            "http://127.0.0.1:9000/x",
            "http://[::1]:9000",
            "https://10.0.0.1",
        ] {
            assert!(has_no_subdomains(url), "{url}");
        }
        assert!(!has_no_subdomains("https://objects.example.com:9000"));
        assert_eq!(
            hosted("https://o.example.com:9/x", "b"),
            "https://b.o.example.com:9/x"
        );
        assert_eq!(hosted("https://b.o.example.com", "b"), "https://b.o.example.com");
    }
}
