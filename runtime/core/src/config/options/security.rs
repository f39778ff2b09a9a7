//! TLS: who has which certificate, and whose certificates are good.

use crate::config::{AnyOption, ConfigOption, Scope};

/// An option that names a file.
const fn file(key: &'static str, doc: &'static str) -> ConfigOption<Option<String>> {
    ConfigOption::new(key, Scope::Cluster, || None, doc)
}

/// TLS between processes.
pub static SSL_INTERNAL: ConfigOption<bool> = ConfigOption::new(
    "security.ssl.internal.enabled",
    Scope::Cluster,
    || false,
    "Whether the processes of the cluster and of its jobs speak TLS with each other, both sides with a certificate: messages, artifacts, and records \
     between workers. All of them have to agree.",
)
.flink("false");

/// Own certificate.
pub static SSL_INTERNAL_CERTIFICATE: ConfigOption<Option<String>> = file(
    "security.ssl.internal.certificate",
    "File (PEM) with the certificate of jobmanager or TaskManager, followed by those that lead to its authority. With `key` what \
     Flink has in `security.ssl.internal.keystore`. Read again when it changes.",
);

/// Own key.
pub static SSL_INTERNAL_KEY: ConfigOption<Option<String>> = file(
    "security.ssl.internal.key",
    "File (PEM) with the private key of `security.ssl.internal.certificate`, without a password: only its owner and group may read it.",
);

/// Who is believed.
pub static SSL_INTERNAL_AUTHORITIES: ConfigOption<Option<String>> = file(
    "security.ssl.internal.authorities",
    "File (PEM) with the authorities whose certificates are good, on both sides. They should sign for this cluster only: who has one of their \
     certificates belongs to it. What Flink has in `security.ssl.internal.truststore`.",
);

/// The name that is looked for.
pub static SSL_INTERNAL_SERVER_NAME: ConfigOption<Option<String>> = file(
    "security.ssl.internal.server-name",
    "The name that must stand in the certificate of whoever is reached. Without it: the host of the address, so `127.0.0.1` on one machine.",
);

/// Who signs for jobs.
pub static SSL_JOB_AUTHORITY_CERTIFICATE: ConfigOption<Option<String>> = file(
    "security.ssl.internal.job-authority.certificate",
    "File (PEM) with the certificate of the authority of jobs, an authority of its own: with it TaskManagers make a certificate for each process of a job, \
     and jobmanagers and TaskManagers let its owner speak of that job only.",
);

/// The key of who signs for jobs.
pub static SSL_JOB_AUTHORITY_KEY: ConfigOption<Option<String>> = file(
    "security.ssl.internal.job-authority.key",
    "File (PEM) with the private key of `security.ssl.internal.job-authority.certificate`: only its owner and group may read it. TaskManagers \
     need it, jobmanagers do not.",
);

/// TLS of the REST API.
pub static SSL_REST: ConfigOption<bool> = ConfigOption::new(
    "security.ssl.rest.enabled",
    Scope::Cluster,
    || false,
    "Whether the REST API is served by HTTPS, and by nothing else.",
)
.flink("false");

/// Certificate of the REST API.
pub static SSL_REST_CERTIFICATE: ConfigOption<Option<String>> = file(
    "security.ssl.rest.certificate",
    "File (PEM) with the certificate of the REST API, followed by those that lead to its authority. With `key` what Flink has in \
     `security.ssl.rest.keystore`.",
);

/// Key of the REST API.
pub static SSL_REST_KEY: ConfigOption<Option<String>> = file(
    "security.ssl.rest.key",
    "File (PEM) with the private key of `security.ssl.rest.certificate`, without a password: only its owner and group may read it.",
);

/// Whose REST certificates are good.
pub static SSL_REST_AUTHORITIES: ConfigOption<Option<String>> = file(
    "security.ssl.rest.authorities",
    "File (PEM) with the authorities of REST certificates: those of other jobmanagers, for commands those of the jobmanager, and with \
     `authentication-enabled` those of clients. What Flink has in `security.ssl.rest.truststore`.",
);

/// Mutual TLS of the REST API.
pub static SSL_REST_AUTHENTICATION: ConfigOption<bool> = ConfigOption::new(
    "security.ssl.rest.authentication-enabled",
    Scope::Cluster,
    || false,
    "Whether clients of the REST API need a certificate of `security.ssl.rest.authorities`. Tokens are asked for all the same where there are any.",
)
.flink("false");

/// All of this file.
pub(super) static OPTIONS: &[&dyn AnyOption] = &[
    &SSL_INTERNAL,
    &SSL_INTERNAL_CERTIFICATE,
    &SSL_INTERNAL_KEY,
    &SSL_INTERNAL_AUTHORITIES,
    &SSL_INTERNAL_SERVER_NAME,
    &SSL_JOB_AUTHORITY_CERTIFICATE,
    &SSL_JOB_AUTHORITY_KEY,
    &SSL_REST,
    &SSL_REST_CERTIFICATE,
    &SSL_REST_KEY,
    &SSL_REST_AUTHORITIES,
    &SSL_REST_AUTHENTICATION,
];
