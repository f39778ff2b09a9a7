//! Which files a path means: a file, a folder, a glob, or several of them.
//!
//! Folders are listed recursively. Names that begin with `.` or `_` are left out below folders and in
//! globs: that is how writers hide what is not complete. A file that is named outright is read
//! whatever its name.

use hurtig_core::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Input paths of a source: made from one path or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputPaths(Vec<PathBuf>);

macro_rules! one_path {
    ($($path:ty),*) => {$(
        impl From<$path> for InputPaths {
            fn from(path: $path) -> Self {
                Self(vec![path.into()])
            }
        }
        impl From<Vec<$path>> for InputPaths {
            fn from(paths: Vec<$path>) -> Self {
                Self(paths.into_iter().map(PathBuf::from).collect())
            }
        }
        impl<const N: usize> From<[$path; N]> for InputPaths {
            fn from(paths: [$path; N]) -> Self {
                Self(paths.into_iter().map(PathBuf::from).collect())
            }
        }
    )*};
}

one_path!(&str, String, &String, &Path, PathBuf, &PathBuf);

impl From<&[String]> for InputPaths {
    fn from(paths: &[String]) -> Self {
        Self(paths.iter().map(PathBuf::from).collect())
    }
}

/// A file that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InputFile {
    pub(crate) path: String,
    /// `None` for what has no size: pipes and devices.
    pub(crate) bytes: Option<u64>,
}

impl InputPaths {
    /// The files that are there now, sorted by path, each once.
    ///
    /// # Errors
    /// A path that does not exist or cannot be listed, a glob that is ill-formed or, unless
    /// `may_be_empty`, matches nothing, no path at all.
    pub(crate) fn discover(&self, may_be_empty: bool) -> Result<BTreeSet<InputFile>> {
        if self.0.is_empty() {
            return Err(Error::user(
                "the file source has no input path; name a file, a folder or a glob",
            ));
        }
        let mut found = Listing::default();
        for path in &self.0 {
            match kind(path)? {
                Kind::File(bytes) => found.add(path, bytes)?,
                Kind::Folder => found.folder(path)?,
                Kind::Missing if is_glob(path) => found.glob(path, may_be_empty)?,
                Kind::Missing => {
                    return Err(Error::user(format!(
                        "input path '{}' does not exist",
                        path.display()
                    )));
                }
            }
        }
        Ok(found.files)
    }
}

enum Kind {
    File(Option<u64>),
    Folder,
    Missing,
}

fn kind(path: &Path) -> Result<Kind> {
    match fs::metadata(path) {
        Ok(about) if about.is_dir() => Ok(Kind::Folder),
        Ok(about) => Ok(Kind::File(about.is_file().then_some(about.len()))),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Kind::Missing)
        }
        Err(e) => Err(unreadable(path, e)),
    }
}

fn unreadable(path: &Path, e: impl Into<hurtig_core::UserError>) -> Error {
    Error::external(format!("cannot read input path '{}'", path.display()), e)
}

fn is_glob(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

/// Whether writers use such a name for what is not complete.
fn hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| matches!(name.as_encoded_bytes(), [b'.' | b'_', ..]))
}

#[derive(Default)]
struct Listing {
    files: BTreeSet<InputFile>,
    /// Folders that were listed, so that links in a circle end.
    folders: BTreeSet<PathBuf>,
}

impl Listing {
    fn add(&mut self, path: &Path, bytes: Option<u64>) -> Result<()> {
        let Some(text) = path.to_str() else {
            let text = format!(
                "the name of input file '{}' is not UTF-8; rename the file",
                path.display()
            );
            return Err(Error::user(text));
        };
        self.files.insert(InputFile {
            path: text.to_owned(),
            bytes,
        });
        Ok(())
    }

    /// Adds what is below `folder`. What vanishes meanwhile is left out.
    fn folder(&mut self, folder: &Path) -> Result<()> {
        let failed = |e| unreadable(folder, e);
        if !self.folders.insert(fs::canonicalize(folder).map_err(failed)?) {
            return Ok(());
        }
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if !hidden(&path) {
                self.any(&path)?;
            }
        }
        Ok(())
    }

    fn any(&mut self, path: &Path) -> Result<()> {
        match kind(path)? {
            Kind::File(bytes) => self.add(path, bytes),
            Kind::Folder => self.folder(path),
            Kind::Missing => Ok(()),
        }
    }

    fn glob(&mut self, pattern: &Path, may_be_empty: bool) -> Result<()> {
        let Some(text) = pattern.to_str() else {
            return Err(Error::user(format!(
                "the input pattern '{}' is not UTF-8",
                pattern.display()
            )));
        };
        let matches = glob::glob(text)
            .map_err(|e| Error::user(format!("the input pattern '{text}' is not a glob")).because(e))?;
        let literal = pattern
            .components()
            .take_while(|part| !is_glob(part.as_ref()))
            .count();
        let any_hidden = |path: &Path| path.components().skip(literal).any(|part| hidden(part.as_ref()));
        let wants_hidden = any_hidden(pattern);
        let mut any = false;
        for path in matches {
            let path = path.map_err(|e| unreadable(&PathBuf::from(e.path()), e))?;
            if wants_hidden || !any_hidden(&path) {
                any = true;
                self.any(&path)?;
            }
        }
        if any || may_be_empty {
            return Ok(());
        }
        Err(Error::user(format!("no file matches the input pattern '{text}'")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::write;

    fn names(paths: impl Into<InputPaths>, root: &Path) -> Vec<String> {
        let found = paths.into().discover(false).unwrap();
        let relative = |f: InputFile| {
            let path = Path::new(&f.path).strip_prefix(root).unwrap();
            path.to_str().unwrap().to_owned()
        };
        found.into_iter().map(relative).collect()
    }

    #[test]
    fn files_folders_and_globs() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in [
            "b.txt",
            "a.log",
            "x/c.txt",
            "x/y/d.txt",
            ".hidden",
            "_tmp",
            "x/.e.txt",
            "_z/f.txt",
            "[1].txt",
        ] {
            write(root, name, "");
        }
        assert_eq!(
            names(root, root),
            ["[1].txt", "a.log", "b.txt", "x/c.txt", "x/y/d.txt"]
        );
        assert_eq!(names(root.join("*.txt"), root), ["[1].txt", "b.txt"]);
        assert_eq!(
            names(root.join("**/*.txt"), root),
            ["[1].txt", "b.txt", "x/c.txt", "x/y/d.txt"]
        );
        assert_eq!(names(root.join("x*"), root), ["x/c.txt", "x/y/d.txt"]);
        assert_eq!(names(root.join("_*"), root), ["_tmp", "_z/f.txt"]);
        assert_eq!(names(root.join("_tmp"), root), ["_tmp"], "named outright");
        assert_eq!(
            names(root.join("[1].txt"), root),
            ["[1].txt"],
            "a name before a pattern"
        );
        let twice = vec![root.join("x"), root.join("x/c.txt"), root.join("a.log")];
        assert_eq!(names(twice, root), ["a.log", "x/c.txt", "x/y/d.txt"], "each once");
    }

    #[test]
    fn links_in_a_circle_end() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a/f", "");
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/back")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("nowhere"), dir.path().join("dangling")).unwrap();
        assert_eq!(names(dir.path(), dir.path()).len(), 1);
    }

    #[test]
    fn nothing_there_is_said_with_its_path() {
        let said = |path: &str, may_be_empty| {
            InputPaths::from(path)
                .discover(may_be_empty)
                .map_or_else(|e| e.to_string(), |f| f.len().to_string())
        };
        assert_eq!(
            said("/no/such/file", false),
            "input path '/no/such/file' does not exist"
        );
        assert_eq!(
            said("/no/such/*.csv", false),
            "no file matches the input pattern '/no/such/*.csv'"
        );
        assert_eq!(said("/no/such/*.csv", true), "0");
        assert_eq!(
            said("/no/such/***", false),
            "the input pattern '/no/such/***' is not a glob"
        );
        assert!(InputPaths::from(Vec::<String>::new()).discover(true).is_err());
    }
}
