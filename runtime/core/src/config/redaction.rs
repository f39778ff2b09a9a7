//! Which settings are secrets, whoever has invented their keys, and how text is shown that may have some.

use std::borrow::Cow;

use super::{AnyOption, Configuration, find, options};

/// What is shown in place of a secret.
pub const HIDDEN: &str = "******";

/// Parts of keys that name secrets: Flink's list, and ours.
const SENSITIVE: [&str; 14] = [
    "password",
    "passwd",
    "secret",
    "token",
    "credential",
    "private-key",
    "fs.azure.account.key",
    "apikey",
    "api-key",
    "auth-params",
    "service-key",
    "basic-auth",
    "jaas.config",
    "http-headers",
];

/// Keys that contain such a part and name no secret.
const HARMLESS: [&str; 1] = ["rest.authentication.token-file"];

/// Decides what is shown of settings and arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redaction {
    /// More parts, in lower case.
    more: Vec<String>,
}

impl Redaction {
    /// With the parts that a configuration adds.
    #[must_use]
    pub fn of(config: &Configuration) -> Self {
        let more = config.get(&options::REDACTED_KEYS).into_iter();
        let more = more.filter(|part| !part.is_empty());
        Self {
            more: more.map(|part| normal(&part)).collect(),
        }
    }

    /// Whether the value of this key is a secret.
    #[must_use]
    pub fn hides(&self, key: &str) -> bool {
        if find(key).is_some_and(AnyOption::is_secret) {
            return true;
        }
        let key = normal(key);
        let known = SENSITIVE.iter().any(|part| key.contains(part));
        let more = self.more.iter().any(|part| key.contains(part.as_str()));
        more || known && !HARMLESS.contains(&key.as_str())
    }

    /// The value of a key, as it may be shown.
    #[must_use]
    pub fn shown<'a>(&self, key: &str, value: &'a str) -> &'a str {
        if self.hides(key) { HIDDEN } else { value }
    }

    /// Arguments of a process, as they may be shown: `-Dkey=value`, `--key=value`, and a value that follows its key.
    #[must_use]
    pub fn arguments(&self, arguments: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut after_secret = false;
        let mut shown = Vec::new();
        for argument in arguments {
            let hide = std::mem::take(&mut after_secret) && !argument.starts_with("--");
            let one = match argument.split_once('=') {
                _ if hide => Cow::Borrowed(HIDDEN),
                Some((key, _)) if self.hides(key_of(key)) => Cow::Owned(format!("{key}={HIDDEN}")),
                Some(_) => Cow::Borrowed(argument.as_str()),
                None => {
                    after_secret = argument.starts_with('-') && self.hides(key_of(&argument));
                    Cow::Borrowed(argument.as_str())
                }
            };
            shown.push(one.into_owned());
        }
        shown
    }
}

/// The key of an argument, without what says that it is one.
fn key_of(argument: &str) -> &str {
    let bare = argument.trim_start_matches('-');
    let defined = argument.starts_with("-D") && !argument.starts_with("--");
    if defined { &bare[1..] } else { bare }
}

/// `S3_SECRET_KEY`, `s3.secretKey` and `s3.secret-key` are spelled alike where words are separated.
fn normal(key: &str) -> String {
    key.to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(more: &str) -> Redaction {
        let definition = format!("security.redaction.additional-keys={more}");
        let config = Configuration::builder()
            .definitions([definition.as_str()])
            .build();
        Redaction::of(&config.unwrap())
    }

    #[test]
    fn keys_that_name_secrets_are_known_by_a_part() {
        let known = Redaction::default();
        for key in [
            "s3.secret-key",
            "S3_SECRET_KEY",
            "my.db.Password",
            "high-availability.etcd.password",
            "github_token",
            "fs.azure.account.key.x.blob",
            "x.api_key",
        ] {
            assert!(known.hides(key), "{key}");
        }
        for key in [
            "parallelism.default",
            "rest.authentication.token-file",
            "s3.endpoint",
            "key",
            "",
        ] {
            assert!(!known.hides(key), "{key}");
        }
        assert!(with("Pin_Code").hides("card.pin-code") && !known.hides("card.pin-code"));
        assert!(!with("").hides("card.pin-code"));
    }

    #[test]
    fn arguments_are_shown_without_secrets() {
        let shown = |all: &[&str]| Redaction::default().arguments(all.iter().map(|&one| one.to_owned()));
        let hidden = [
            &["-D", "s3.secret-key=hunter2"][..],
            &["-Ds3.secret-key=hunter2"],
            &["--db-password=hunter2"],
            &["--db-password", "hunter2", "x"],
            &["-Dx.token=a=hunter2"],
        ];
        for arguments in hidden {
            let shown = shown(arguments);
            assert!(!shown.concat().contains("hunter2"), "{shown:?}");
            assert_eq!(shown.len(), arguments.len());
            assert!(shown.iter().any(|one| one.contains(HIDDEN)), "{shown:?}");
        }
        let plain = ["-D", "a.b=c", "--port=1", "jobmanager", "-"];
        assert_eq!(shown(&plain), plain);
    }
}
