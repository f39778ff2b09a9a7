//! What shells and readers of manuals are given, made from the command line itself.

use crate::Line;
use crate::failure::Failure;
use crate::say::Answer;
use clap::{Args, CommandFactory as _, ValueEnum};
use serde_json::json;
use std::path::PathBuf;

/// For which shell.
#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// A shell that completes words.
#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    /// `source <(hurtig completions bash)`
    Bash,
    /// `hurtig completions zsh > "${fpath[1]}/_hurtig"`
    Zsh,
    /// `hurtig completions fish > ~/.config/fish/completions/hurtig.fish`
    Fish,
}

/// Which manual pages.
#[derive(Args)]
pub(crate) struct ManArgs {
    /// A directory that the pages of all commands are written into, as `hurtig-run.1`.
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl From<Shell> for clap_complete::Shell {
    fn from(shell: Shell) -> Self {
        match shell {
            Shell::Bash => Self::Bash,
            Shell::Zsh => Self::Zsh,
            Shell::Fish => Self::Fish,
        }
    }
}

pub(crate) fn completions(args: &CompletionsArgs) -> Answer {
    let (mut script, mut command) = (Vec::new(), Line::command());
    clap_complete::generate(
        clap_complete::Shell::from(args.shell),
        &mut command,
        "hurtig",
        &mut script,
    );
    let script = String::from_utf8_lossy(&script).into_owned();
    Answer::new(json!({ "script": script }), script)
}

pub(crate) fn man(args: &ManArgs) -> Result<Answer, Failure> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Line::command())
            .render(&mut page)
            .map_err(|error| error.to_string())?;
        let page = String::from_utf8_lossy(&page).into_owned();
        return Ok(Answer::new(json!({ "page": page }), page));
    };
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Line::command(), dir).map_err(failed)?;
    let human = format!("the pages are in {}", dir.display());
    Ok(Answer::new(json!({ "dir": dir }), human))
}
