//! The reference page and the commented default file, written from the declarations.

use super::options::{REGISTRY, Section};
use super::registry::variable_of;
use super::{AnyOption, Scope};

/// Columns of a comment in the default file.
const WIDTH: usize = 100;

const YAML_HEAD: &str = "\
# Configuration of Hurtig. Every option is here with its default; remove the # before a key to set it.
# Keys may be written flat, as here, or nested. Environment variables (HURTIG_PARALLELISM_DEFAULT) and
# -D key=value on the command line win over this file, and a program's own settings over those.
#
# Generated from the options' declarations.
";

const REFERENCE_HEAD: &str = "\
# Configuration

<!-- Generated from the options' declarations; edits are overwritten. -->

An option's value comes from the strongest of these that sets it:

1. program code (options of programs only),
2. `-D key=value` on the command line,
3. an environment variable: the key in capitals after `HURTIG_`, every other character an underscore
   (`HURTIG_PARALLELISM_DEFAULT`),
4. the configuration file, with flat or nested keys,
5. its default.

A key that no option has, or a value that an option does not accept, stops the start with the place
where it is written, what was expected and the nearest key.

Durations are numbers with a unit (`ns`, `µs`, `ms`, `s`, `min`, `h`, `d`; milliseconds without one), sizes
too (`b`, `kb`, `mb`, `gb`, `tb`, powers of 1024; bytes without one). A list is separated by `;`, a map is
`key:value,key:value`; in YAML both may be written as such.
";

/// The commented default file: each option as a comment that can be uncommented.
#[must_use]
pub fn default_yaml() -> String {
    let mut text = YAML_HEAD.to_owned();
    for section in REGISTRY {
        text.push_str(&format!("\n# ---- {} ----\n", section.title));
        push_comment(&mut text, section.doc);
        for option in section.options {
            text.push('\n');
            push_comment(&mut text, option.doc());
            push_comment(&mut text, &facts(*option));
            let line = format!("#{}: {}", option.key(), option.default_text());
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

/// The reference of all options as a page of Markdown.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = REFERENCE_HEAD.to_owned();
    for section in REGISTRY {
        push_section(&mut text, section);
    }
    text
}

fn push_section(text: &mut String, section: &Section) {
    text.push_str(&format!("\n## {}\n\n{}\n", section.title, section.doc));
    for option in section.options {
        text.push_str(&format!("\n### `{}`\n\n{}\n\n", option.key(), option.doc()));
        text.push_str(&format!("- Type: {}\n", option.type_name()));
        text.push_str(&format!("- Accepts: {}\n", option.expected()));
        text.push_str(&format!("- Default: {}\n", default_of(*option)));
        text.push_str(&format!("- Set by: {}\n", set_by(option.scope())));
        text.push_str(&format!(
            "- Environment variable: `{}`\n",
            variable_of(option.key())
        ));
        if let Some(default) = option.flink_default() {
            text.push_str(&format!("- Flink: same key, default `{default}`\n"));
        }
    }
}

fn facts(option: &dyn AnyOption) -> String {
    let scope = match option.scope() {
        Scope::Program => "programs may set it",
        Scope::Cluster => "cluster only",
    };
    format!("({}; {scope})", option.expected())
}

fn default_of(option: &dyn AnyOption) -> String {
    match option.default_text().as_str() {
        "" => "none".to_owned(),
        text => format!("`{text}`"),
    }
}

fn set_by(scope: Scope) -> &'static str {
    match scope {
        Scope::Program => "program code, `-D`, environment, file",
        Scope::Cluster => "`-D`, environment, file; not by program code",
    }
}

/// Appends `paragraph` as lines of a comment.
fn push_comment(text: &mut String, paragraph: &str) {
    let mut column = 0;
    for word in paragraph.split_whitespace() {
        let width = word.chars().count() + 1;
        if column == 0 || column + width > WIDTH {
            text.push_str(if column == 0 { "#" } else { "\n#" });
            column = 1;
        }
        text.push(' ');
        text.push_str(word);
        column += width;
    }
    text.push('\n');
}
