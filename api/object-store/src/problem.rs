//! What went wrong, in words that help.

use crate::blobs::Place;
use hurtig_storage::StorageError;
use object_store::Error;
use std::error::Error as _;
use std::io;

/// What is said of a request that failed.
pub(crate) fn problem(place: &Place, action: &'static str, path: &str, error: Error) -> StorageError {
    let said = chain(&error);
    if let Some(problem) = refusal(place, &said, &error) {
        return StorageError::Refused {
            location: place.location(),
            problem,
        };
    }
    match error {
        Error::NotFound { .. } => StorageError::NotFound {
            path: path.to_owned(),
        },
        Error::AlreadyExists { .. } => StorageError::AlreadyExists {
            path: path.to_owned(),
        },
        _ => StorageError::Io {
            action,
            path: path.to_owned(),
            source: io::Error::other(advised(short(&said))),
        },
    }
}

/// The settings that hold keys.
const KEYS: &str = "`s3.access-key` and `s3.secret-key`, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

/// With advice where no key is set: then the machine's own are asked for, at addresses that only Amazon's machines
/// have. These may be silent for a while, so this is no refusal.
fn advised(said: String) -> String {
    match ["169.254.169.254", "169.254.170.2"]
        .iter()
        .any(|address| said.contains(address))
    {
        true => format!("no access key is set, and the machine gives none; set {KEYS} ({said})"),
        false => said,
    }
}

/// What somebody has to set right before any request can succeed.
fn refusal(place: &Place, said: &str, error: &Error) -> Option<String> {
    let code = code(said);
    let bucket = &place.bucket;
    let keys = KEYS;
    let reach = "check `s3.endpoint` and `s3.region`";
    match code {
        Some("NoSuchBucket") => Some(format!(
            "there is no bucket '{bucket}'; create it or correct its name, and {reach}"
        )),
        Some(
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "NotSignedUp" | "InvalidToken" | "ExpiredToken",
        ) => Some(format!(
            "it does not know the access key or the secret key is another one ({}); check {keys}",
            code.unwrap_or_default()
        )),
        Some("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            Some(format!("bucket '{bucket}' is in another region; {reach}"))
        }
        _ if matches!(
            error,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. }
        ) =>
        {
            Some(format!(
                "it denies access to bucket '{bucket}' ({}); check {keys}, and that these may list, read, write and delete in it",
                code.unwrap_or("no reason is given")
            ))
        }
        _ if said.contains("Received redirect without LOCATION") => {
            Some(format!("bucket '{bucket}' is in another region; {reach}"))
        }
        _ => None,
    }
}

/// The code of an answer in S3's words.
fn code(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code)
}

/// The errors behind one another, each once.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

/// Without what the server's page says behind the code.
fn short(said: &str) -> String {
    match (
        said.split_once("<?xml").or_else(|| said.split_once("<Error>")),
        code(said),
    ) {
        (Some((before, _)), Some(code)) => format!("{} {code}", before.trim_end()),
        _ => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            bucket: "bills".to_owned(),
            prefix: "a/b".to_owned(),
        }
    }

    fn generic(text: &str) -> Error {
        Error::Generic {
            store: "S3",
            source: text.to_owned().into(),
        }
    }

    #[test]
    fn what_is_wrong_with_the_setup_says_what_to_do() {
        for (said, expected) in [
            ("x <Error><Code>NoSuchBucket</Code></Error>", "no bucket 'bills'"),
            (
                "x <Error><Code>SignatureDoesNotMatch</Code></Error>",
                "check `s3.access-key`",
            ),
            (
                "x <Error><Code>PermanentRedirect</Code></Error>",
                "another region",
            ),
        ] {
            let text = problem(&place(), "list", "p", generic(said)).to_string();
            assert!(
                text.contains(expected) && text.contains("'s3://bills/a/b'"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_machine_without_keys_is_told_what_to_set_and_may_try_again() {
        let said = "Error performing PUT http://169.254.169.254/latest/api/token: timed out";
        let error = problem(&place(), "write", "p", generic(said));
        assert!(error.can_retry());
        let StorageError::Io { source, .. } = error else {
            panic!("it may pass")
        };
        let text = source.to_string();
        assert!(
            text.contains("set `s3.access-key`") && text.contains("timed out"),
            "{text}"
        );
    }

    #[test]
    fn pages_of_the_server_are_shortened_to_their_code() {
        let said = "status 503: <?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Key>secret</Key></Error>";
        let StorageError::Io { source, .. } = problem(&place(), "write", "p", generic(said)) else {
            panic!("it may pass")
        };
        let text = source.to_string();
        assert!(text.ends_with("status 503: SlowDown"), "{text}");
    }
}
