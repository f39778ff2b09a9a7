//! What may be the path of an object: relative, without detours, and possible in every store.

use crate::error::{Result, StorageError};

/// What names of unfinished files start with; no object's name does.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// The longest path, in bytes; that of object stores.
pub const MAX_PATH_BYTES: usize = 1024;

/// The longest name between two slashes, in bytes; that of file systems.
pub const MAX_NAME_BYTES: usize = 255;

/// Checks the path of an object.
///
/// # Errors
/// [`StorageError::BadPath`] when it is empty, absolute, too long, goes through `.` or `..`, or has
/// characters or names that some store cannot hold.
pub fn check_path(path: &str) -> Result<()> {
    let problem = match path {
        "" => Some("it is empty"),
        _ if path.len() > MAX_PATH_BYTES => Some("it is longer than 1024 bytes"),
        _ if path.starts_with('/') => Some("it is absolute"),
        _ => path.split('/').find_map(name_problem),
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(StorageError::BadPath {
            path: path.to_owned(),
            problem,
        }),
    }
}

/// The scheme of a URL; `None` for a plain path.
pub(crate) fn scheme_of(location: &str) -> Option<&str> {
    let (scheme, _) = location.split_once("://")?;
    let letters = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    (!scheme.is_empty() && scheme.chars().all(letters)).then_some(scheme)
}

/// Whether a path says which store it lies in: it is absolute, or a URL.
pub fn is_whole(path: &str) -> bool {
    path.starts_with('/') || scheme_of(path).is_some()
}

/// Checks the path of a folder; the empty one is the whole store.
///
/// # Errors
/// As [`check_path`].
pub fn check_folder(folder: &str) -> Result<()> {
    if folder.is_empty() {
        Ok(())
    } else {
        check_path(folder)
    }
}

/// `name` within `folder`.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

/// The rest of `path` below `folder`.
pub(crate) fn below<'a>(folder: &str, path: &'a str) -> Option<&'a str> {
    if folder.is_empty() {
        return Some(path);
    }
    path.strip_prefix(folder)?.strip_prefix('/')
}

fn name_problem(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("it has an empty name between slashes"),
        "." | ".." => Some("it goes through '.' or '..'"),
        _ if name.len() > MAX_NAME_BYTES => Some("a name in it is longer than 255 bytes"),
        _ if name.starts_with(TEMPORARY) => Some("names that start with '.tmp-' are for unfinished files"),
        _ if name.contains('\\') || name.contains(char::is_control) => {
            Some("it has a backslash or a control character")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_paths_pass() {
        for good in ["a", "a/b", "0f/chk-1/_metadata", "a.b/..c/c..", "ä/ö"] {
            check_path(good).unwrap();
        }
        let long = "x".repeat(256);
        let deep = ["x"; 600].join("/");
        for bad in [
            "", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\\b", "a\0", "a\nb", "a/.tmp-1",
            &long, &deep,
        ] {
            let error = check_path(bad).unwrap_err();
            assert!(matches!(error, StorageError::BadPath { .. }), "{bad:?}");
        }
        check_folder("").unwrap();
        assert!(check_folder("..").is_err());
    }

    #[test]
    fn below_respects_names() {
        assert_eq!(below("a/b", "a/b/c"), Some("c"));
        assert_eq!(below("a/b", "a/bc"), None);
        assert_eq!(below("a/b", "a/b"), None);
        assert_eq!(below("", "x"), Some("x"));
    }
}
