//! What is generated from the sources and kept in the repository, so that people can read it there.

use crate::Findings;
use std::path::PathBuf;
use std::{env, fs, io};

/// Whether the file of the workspace is what was generated. With `HURTIG_BLESS` in the environment it is written first.
///
/// # Errors
/// When the workspace is not found, or the file cannot be written.
pub fn check(path: &str, generated: &str) -> io::Result<Findings> {
    let path = workspace()?.join(path);
    if env::var_os("HURTIG_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(&path, generated)?;
    }
    let on_disk = fs::read_to_string(&path).unwrap_or_default();
    if on_disk == generated {
        return Ok(Findings::new());
    }
    let differs = on_disk.lines().zip(generated.lines());
    let line = 1 + differs.take_while(|(one, other)| one == other).count();
    let place = format!("{}:{line}", path.display());
    Ok(vec![format!(
        "{place}: not up to date; run this test again with HURTIG_BLESS=1"
    )])
}

/// Asked for when a test runs: a target folder may have come with another path.
fn workspace() -> io::Result<PathBuf> {
    let missing = || io::Error::other("no Cargo.lock above the crate: run this with `cargo test`");
    let of_crate = env::var_os("CARGO_MANIFEST_DIR").ok_or_else(missing)?;
    let of_crate = PathBuf::from(of_crate);
    let found = of_crate.ancestors().find(|dir| dir.join("Cargo.lock").exists());
    found.map(Into::into).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_found_with_its_line() {
        let text = fs::read_to_string(workspace().unwrap().join("LICENSE")).unwrap();
        let of = |text: &str| check("LICENSE", text).unwrap();
        if env::var_os("HURTIG_BLESS").is_some() {
            return;
        }
        assert_eq!(of(&text), Findings::new());
        let found = of(&text.replacen('\n', "\nanother line\n", 1));
        assert!(found.len() == 1 && found[0].contains("LICENSE:2: "), "{found:?}");
        let missing = check("no-such-file", "text").unwrap();
        assert!(missing[0].contains("no-such-file:1: "), "{missing:?}");
    }
}
