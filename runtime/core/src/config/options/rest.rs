//! Who may ask a jobmanager what over its REST API, and how much.

use crate::config::{AnyOption, ByteSize, ConfigOption, RestAuthentication, Scope};
use std::net::IpAddr;

/// Where it listens.
pub static REST_BIND_ADDRESS: ConfigOption<String> = ConfigOption::new(
    "rest.bind-address",
    Scope::Cluster,
    || "127.0.0.1".to_owned(),
    "Address at which a jobmanager listens for requests: an address of this machine, `localhost`, or `0.0.0.0` or `::` for all of them. Beyond \
     this machine it wants `rest.authentication.token-file`, or `rest.authentication: none` in so many words.",
)
.flink("(none)")
.accepting(|text| is_address(text), "an IP address or `localhost`");

/// Where others find it.
pub static REST_ADDRESS: ConfigOption<Option<String>> = ConfigOption::new(
    "rest.address",
    Scope::Cluster,
    || None,
    "Name or address by which other jobmanagers and commands reach this one; clients may ask for it as `Host`. Without it: \
     `rest.bind-address`, and for all addresses the loopback.",
)
.flink("(none)")
.accepting(|name| name.as_deref().is_none_or(is_host), "a host without scheme and port");

/// What it is asked for as.
pub static REST_ALLOWED_HOSTS: ConfigOption<Vec<String>> = ConfigOption::new(
    "rest.allowed-hosts",
    Scope::Cluster,
    Vec::new,
    "Hosts, without ports, that requests may name in `Host`, beside names of the loopback, `rest.bind-address` and `rest.address`. Others are \
     refused with 403 before a body is read: a web page whose name leads to this machine must not be served.",
)
.accepting(|names| names.iter().all(|name| is_host(name)), "hosts without schemes and ports");

/// Who is believed to be whom.
pub static REST_AUTHENTICATION: ConfigOption<RestAuthentication> = ConfigOption::new(
    "rest.authentication",
    Scope::Cluster,
    || RestAuthentication::Auto,
    "Who may ask. `token`: who has a token of `rest.authentication.token-file`. `none`: everybody who reaches the port, as \
     administrator. `auto`: tokens if there is such a file; else everybody, and only the loopback may be listened at.",
);

/// Tokens and roles.
pub static REST_TOKEN_FILE: ConfigOption<Option<String>> = ConfigOption::new(
    "rest.authentication.token-file",
    Scope::Cluster,
    || None,
    "File of tokens, one a line: `<role> <name> <token>`, with a role of `viewer`, `operator` or `admin`, and in place of the token, better, \
     `sha256:` and its hash. Only its owner and group may read it. Changes count within a second.",
);

/// Pages of others.
pub static REST_ALLOWED_ORIGINS: ConfigOption<Vec<String>> = ConfigOption::new(
    "web.access-control-allow-origin",
    Scope::Cluster,
    Vec::new,
    "Origins of web pages that may send requests and read the answers, as `https://dashboard.example.com`. Requests from pages of other sites \
     are refused with 403. There is no `*`: it would let every page that somebody visits control the cluster.",
)
.flink("\"*\"")
.accepting(|all| all.iter().all(|origin| is_origin(origin)), "origins such as `https://host:port`, without `*`");

/// Uploads.
pub static REST_SUBMIT: ConfigOption<bool> = ConfigOption::new(
    "web.submit.enable",
    Scope::Cluster,
    || true,
    "Whether programs can be uploaded, planned and run over the REST API.",
)
.flink("true");

/// Cancellations.
pub static REST_CANCEL: ConfigOption<bool> = ConfigOption::new(
    "web.cancel.enable",
    Scope::Cluster,
    || true,
    "Whether jobs can be cancelled over the REST API.",
)
.flink("true");

/// Where operators may write.
pub static REST_SAVEPOINT_DIRS: ConfigOption<Vec<String>> = ConfigOption::new(
    "rest.savepoint-directories",
    Scope::Cluster,
    Vec::new,
    "Directories below which operators may have savepoints written, as `/savepoints` or `s3://bucket/savepoints`. Without any, operators \
     take savepoints where the job's settings say. Administrators may name any directory.",
)
.accepting(
    |all| all.iter().all(|dir| dir.starts_with('/') || dir.contains("://")),
    "whole paths, or URLs of stores",
);

/// The largest upload.
pub static REST_MAX_UPLOAD: ConfigOption<ByteSize> = ConfigOption::new(
    "rest.server.max-content-length",
    Scope::Cluster,
    || ByteSize::mb(1024),
    "The largest upload of a program, at most `4 gb`. Bodies of other requests have at most 1 MiB.",
)
.flink("104857600")
.accepting(
    |size| (1..=MAX_UPLOAD).contains(&size.get()),
    "a size from `1 b` to `4 gb`",
);

/// Bytes of an artifact that the cluster takes at all.
const MAX_UPLOAD: u64 = 4 << 30;

/// Connections in all.
pub static REST_MAX_CONNECTIONS: ConfigOption<usize> = ConfigOption::new(
    "rest.server.max-connections",
    Scope::Cluster,
    || 2_048,
    "Connections at once. Others wait until one is closed; silent ones are, after five seconds.",
)
.accepting(|count| (1..=65_536).contains(count), "a number from 1 to 65536");

/// What else is secret.
pub static REDACTED_KEYS: ConfigOption<Vec<String>> = ConfigOption::new(
    "security.redaction.additional-keys",
    Scope::Cluster,
    Vec::new,
    "Parts of keys whose values are shown nowhere, beside those that are known: `password`, `secret`, `token` and the like.",
)
.flink("");

fn is_address(text: &str) -> bool {
    text == "localhost" || text.parse::<IpAddr>().is_ok()
}

/// As it may stand in a URL: a name, an address, or one of version 6 with or without brackets.
fn is_host(text: &str) -> bool {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    bare.unwrap_or(text).parse::<IpAddr>().is_ok() || !text.is_empty() && text.chars().all(name)
}

fn is_origin(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, port),
            _ => (host, "1"),
        };
        is_host(name) && port.parse::<u16>().is_ok()
    })
}

/// All of this file.
pub(super) static OPTIONS: &[&dyn AnyOption] = &[
    &REST_BIND_ADDRESS,
    &REST_ADDRESS,
    &REST_ALLOWED_HOSTS,
    &REST_AUTHENTICATION,
    &REST_TOKEN_FILE,
    &REST_ALLOWED_ORIGINS,
    &REST_SUBMIT,
    &REST_CANCEL,
    &REST_SAVEPOINT_DIRS,
    &REST_MAX_UPLOAD,
    &REST_MAX_CONNECTIONS,
    &REDACTED_KEYS,
];
