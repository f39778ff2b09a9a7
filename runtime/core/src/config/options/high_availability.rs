//! Who leads the cluster, and where jobs are recorded.

use std::time::Duration;

use crate::config::{AnyOption, ConfigOption, HighAvailability, Scope};

/// Where jobs are recorded.
pub static HIGH_AVAILABILITY_TYPE: ConfigOption<HighAvailability> = ConfigOption::new(
    "high-availability.type",
    Scope::Cluster,
    || HighAvailability::None,
    "Where jobs are recorded, so that they outlive the cluster's processes. `none`: nowhere. `file`: in \
     `high-availability.storageDir`, which must be a local disk, for one machine. `etcd`: in etcd, for any number of jobmanagers. A \
     program that runs without a cluster takes only `none`: it has no process that could outlive it.",
)
.flink("NONE");

/// Which cluster this is.
pub static CLUSTER_ID: ConfigOption<String> = ConfigOption::new(
    "high-availability.cluster-id",
    Scope::Cluster,
    || "default".to_owned(),
    "Name of the cluster among those that share an etcd: letters, digits, `-`, `_` and `.`.",
)
.flink("/default")
.accepting(|id| is_name(id), "letters, digits, `-`, `_` and `.`, at most 128");

/// Where the bytes are.
pub static STORAGE_DIR: ConfigOption<Option<String>> = ConfigOption::new(
    "high-availability.storageDir",
    Scope::Cluster,
    || None,
    "Directory for what is too large for records: artifacts, JobGraphs, archives. All jobmanagers must share it, and prove that they do when \
     they start. With `file`, the records are there too.",
)
.flink("(none)");

/// Members of etcd.
pub static ETCD_ENDPOINTS: ConfigOption<Vec<String>> = ConfigOption::new(
    "high-availability.etcd.endpoints",
    Scope::Cluster,
    Vec::new,
    "URLs of etcd's members, as `https://etcd-1:2379;https://etcd-2:2379`. One is asked at a time, the next one when it fails.",
);

/// Above all keys.
pub static ETCD_PREFIX: ConfigOption<String> = ConfigOption::new(
    "high-availability.etcd.path.root",
    Scope::Cluster,
    || "/hurtig".to_owned(),
    "What all keys in etcd begin with, before the cluster's id.",
)
.accepting(
    |path| path.strip_prefix('/').is_some_and(is_name),
    "`/` and a name of letters, digits, `-`, `_` and `.`",
);

/// Who we are.
pub static ETCD_USER: ConfigOption<Option<String>> = ConfigOption::new(
    "high-availability.etcd.user",
    Scope::Cluster,
    || None,
    "User of etcd. Without it: whoever etcd takes us for by our certificate.",
);

/// What proves it.
pub static ETCD_PASSWORD: ConfigOption<Option<String>> = ConfigOption::new(
    "high-availability.etcd.password",
    Scope::Cluster,
    || None,
    "Password of `high-availability.etcd.user`. It is printed nowhere. Arguments of a process can be seen by others on its machine: set it in a \
     file or by the environment.",
)
.secret();

/// Whom we trust.
pub static ETCD_CA_FILE: ConfigOption<Option<String>> = ConfigOption::new(
    "high-availability.etcd.ssl.ca-file",
    Scope::Cluster,
    || None,
    "PEM file with the certificates that sign those of etcd's members. Needed for `https://`.",
);

/// Our certificate.
pub static ETCD_CERTIFICATE_FILE: ConfigOption<Option<String>> = ConfigOption::new(
    "high-availability.etcd.ssl.certificate-file",
    Scope::Cluster,
    || None,
    "PEM file with our own certificate, where etcd asks for one.",
);

/// Its key.
pub static ETCD_KEY_FILE: ConfigOption<Option<String>> = ConfigOption::new(
    "high-availability.etcd.ssl.key-file",
    Scope::Cluster,
    || None,
    "PEM file with the key of `high-availability.etcd.ssl.certificate-file`.",
);

/// How long etcd may take to answer.
pub static ETCD_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "high-availability.etcd.request-timeout",
    Scope::Cluster,
    || Duration::from_secs(2),
    "How long a request to etcd may take. Then its outcome is unknown, and is found out.",
)
.accepting(|timeout| !timeout.is_zero(), "a duration of more than 0");

/// How long a lease lives.
pub static LEASE_TTL: ConfigOption<Duration> = ConfigOption::new(
    "high-availability.leader.lease-duration",
    Scope::Cluster,
    || Duration::from_secs(5),
    "How long a leader's lease lives without renewal. A standby leads at most so long after the leader has died, and two seconds.",
)
.accepting(|ttl| *ttl >= Duration::from_secs(2), "a duration of at least `2 s`");

/// How long a leader may decide.
pub static LEADER_DEADLINE: ConfigOption<Duration> = ConfigOption::new(
    "high-availability.leader.renew-deadline",
    Scope::Cluster,
    || Duration::from_secs(4),
    "How long after its last renewal a leader decides anything. Must be shorter than `high-availability.leader.lease-duration`.",
)
.accepting(|deadline| !deadline.is_zero(), "a duration of more than 0");

/// How often a lease is renewed.
pub static LEADER_RENEWAL: ConfigOption<Duration> = ConfigOption::new(
    "high-availability.leader.renew-period",
    Scope::Cluster,
    || Duration::from_millis(1500),
    "How often a leader renews its lease. Must be less than half of `high-availability.leader.renew-deadline`.",
)
.accepting(|period| !period.is_zero(), "a duration of more than 0");

fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= 128 && !text.starts_with('.') && text.chars().all(allowed)
}

/// All of this file.
pub(super) static OPTIONS: &[&dyn AnyOption] = &[
    &HIGH_AVAILABILITY_TYPE,
    &CLUSTER_ID,
    &STORAGE_DIR,
    &ETCD_ENDPOINTS,
    &ETCD_PREFIX,
    &ETCD_USER,
    &ETCD_PASSWORD,
    &ETCD_CA_FILE,
    &ETCD_CERTIFICATE_FILE,
    &ETCD_KEY_FILE,
    &ETCD_TIMEOUT,
    &LEASE_TTL,
    &LEADER_DEADLINE,
    &LEADER_RENEWAL,
];
