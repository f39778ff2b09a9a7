//! The workspace as data: every file's path, and the text of those that the checks read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// Directories that hold no source, wherever they lie.
const SKIPPED_DIRS: [&str; 3] = [".git", "target", "node_modules"];
/// Directories that hold products, by their path from the root.
const SKIPPED_PATHS: [&str; 2] = ["docs/book", "out"];
/// Ends of the names of files whose text is read.
const TEXTS: [&str; 5] = [".rs", ".md", ".tsv", ".toml", "Makefile"];

/// Files by their path from the root, with `/` between parts.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads a workspace from disk.
    ///
    /// # Errors
    /// Any failure to list a directory or to read a text as UTF-8.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.read_dir(root, "")?;
        Ok(tree)
    }

    /// A tree made of `(path, text)` pairs, for tests.
    #[must_use]
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(path, text)| ((*path).into(), (*text).into()))
                .collect(),
        }
    }

    /// The text of a file; empty for files that are not read.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether a file or a directory lies at `path`.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        path.is_empty() || self.files.contains_key(path) || self.has_dir(path)
    }

    /// Paths and texts of all files whose name ends in `suffix`, in order of their paths.
    pub fn ending<'a>(&'a self, suffix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(suffix))
            .map(|(p, t)| (p.as_str(), t.as_str()))
    }

    fn has_dir(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        self.files
            .range(prefix.clone()..)
            .next()
            .is_some_and(|(file, _)| file.starts_with(&prefix))
    }

    fn read_dir(&mut self, dir: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if prefix.is_empty() {
                name.clone()
            } else {
                format!("{prefix}/{name}")
            };
            if !entry.file_type()?.is_dir() {
                let is_text = TEXTS.iter().any(|end| name.ends_with(end));
                let text = if is_text {
                    fs::read_to_string(entry.path())?
                } else {
                    String::new()
                };
                self.files.insert(path, text);
            } else if !SKIPPED_DIRS.contains(&name.as_str()) && !SKIPPED_PATHS.contains(&path.as_str()) {
                self.read_dir(&entry.path(), &path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Tree;

    #[test]
    fn files_and_directories_exist_and_others_do_not() {
        let tree = Tree::of(&[("docs/a.md", "x")]);
        assert!(tree.exists("docs/a.md") && tree.exists("docs") && tree.exists("docs/"));
        assert!(!tree.exists("doc") && !tree.exists("docs/b.md"));
    }
}
