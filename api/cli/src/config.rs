//! Settings: what holds here, whether a file is right, and what can be set.

use crate::client::with;
use crate::failure::{Failure, Kind};
use crate::jobs::settings;
use crate::say::Answer;
use crate::session::{At, Session};
use crate::table::Table;
use clap::{Args, Subcommand};
use hurtig_core::config::{AnyOption, Configuration, Scope, all, default_yaml, find, reference_markdown};
use serde_json::{Value, json};
use std::path::PathBuf;

/// What is asked about settings.
#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// What is set, and where: by `-D`, by variables of the environment, in the file.
    Show(ShowArgs),
    /// Whether a file of settings, with the environment and `-D`, is right.
    Check {
        #[command(flatten)]
        layers: Layers,
    },
    /// What can be set: the reference of all options, or one of them.
    Docs {
        /// The file with all options in comments, to begin one's own with.
        #[arg(long, conflicts_with = "key")]
        yaml: bool,
        /// An option.
        key: Option<String>,
    },
}

/// Of what settings are shown.
#[derive(Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    layers: Layers,
    /// Options that are not set too, with their defaults.
    #[arg(short, long)]
    all: bool,
    /// What the jobmanager of a cluster was started with, instead of what is set here.
    #[arg(long, conflicts_with_all = ["all", "config", "definitions"])]
    cluster: bool,
    #[command(flatten)]
    at: At,
}

/// Where settings come from.
#[derive(Args)]
pub(crate) struct Layers {
    /// A file of settings, in YAML.
    #[arg(long, env = "HURTIG_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting. Comes before the file's, and before those of the environment.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    definitions: Vec<String>,
}

impl Layers {
    /// Without options of a command.
    pub(crate) fn of_environment() -> Self {
        Self {
            config: std::env::var_os("HURTIG_CONFIG").map(PathBuf::from),
            definitions: Vec::new(),
        }
    }

    /// With `more` definitions.
    pub(crate) fn read(&self, more: &[String]) -> Result<Configuration, Failure> {
        let mut builder = Configuration::builder();
        if let Some(file) = &self.config {
            let path = file.display().to_string();
            let text = std::fs::read_to_string(file).map_err(|error| format!("{path}: {error}"))?;
            builder = builder.yaml(&path, &text);
        }
        let definitions = self.definitions.iter().chain(more).map(String::as_str);
        let built = builder
            .environment(std::env::vars())
            .definitions(definitions)
            .build();
        built.map_err(|errors| Failure::several(errors.errors().iter().map(ToString::to_string).collect()))
    }
}

pub(crate) fn run(command: ConfigCommand, session: &Session) -> Result<Answer, Failure> {
    match command {
        ConfigCommand::Show(args) if args.cluster => with(async {
            let known = session.rest(&args.at)?.get("/jobmanager/config").await?;
            let human = settings(&known);
            Ok(Answer::new(known, human))
        }),
        ConfigCommand::Show(args) => Ok(shown(&args.layers.read(&[])?, args.all)),
        ConfigCommand::Check { layers } => {
            let read = layers.read(&[])?;
            let set = read.entries().filter(|entry| entry.source.is_some()).count();
            Ok(Answer::new(
                json!({ "set": set }),
                format!("{set} settings, and nothing is wrong with them"),
            ))
        }
        ConfigCommand::Docs { yaml: true, .. } => {
            let text = default_yaml();
            Ok(Answer::new(json!({ "yaml": text }), text))
        }
        ConfigCommand::Docs { key: Some(key), .. } => one(&key),
        ConfigCommand::Docs { .. } => {
            let options: Vec<Value> = all().map(described).collect();
            Ok(Answer::new(json!({ "options": options }), reference_markdown()))
        }
    }
}

fn shown(config: &Configuration, all: bool) -> Answer {
    let (mut found, mut table) = (Vec::new(), Table::new(&["KEY", "VALUE", "SET BY"]));
    for entry in config.entries().filter(|entry| all || entry.source.is_some()) {
        let source = entry.source.map(ToString::to_string);
        let set_by = source.clone().unwrap_or_else(|| "default".to_owned());
        table.row([entry.option.key().to_owned(), entry.value.clone(), set_by]);
        found.push(json!({ "key": entry.option.key(), "value": entry.value, "source": source }));
    }
    let human = match table.is_empty() {
        true => "nothing is set here; `hurtig config show -a` has the defaults".to_owned(),
        false => table.text(),
    };
    Answer::new(json!({ "settings": found }), human)
}

fn described(option: &dyn AnyOption) -> Value {
    let scope = match option.scope() {
        Scope::Program => "program",
        Scope::Cluster => "cluster",
    };
    json!({
        "key": option.key(),
        "type": option.type_name(),
        "accepts": option.expected(),
        "default": option.default_text(),
        "scope": scope,
        "doc": option.doc(),
    })
}

fn one(key: &str) -> Result<Answer, Failure> {
    let option = find(key).ok_or_else(|| {
        let near = Configuration::builder().definitions([format!("{key}=")]).build();
        let near = near.err().map(|errors| errors.to_string());
        let text = near.unwrap_or_else(|| format!("there is no option '{key}'"));
        Failure::new(
            Kind::Unknown,
            format!("{text}; `hurtig config docs` lists all options"),
        )
    })?;
    let known = described(option);
    let line = |name: &str, text: &str| format!("{name:8}  {text}\n");
    let default = option.default_text();
    let human = [
        line("option", option.key()),
        line("accepts", &option.expected()),
        line("default", if default.is_empty() { "none" } else { &default }),
        line(
            "set by",
            if option.scope() == Scope::Cluster {
                "-D, environment, file"
            } else {
                "code, -D, environment, file"
            },
        ),
    ];
    Ok(Answer::new(
        known,
        format!("{}\n{}", human.concat(), option.doc()),
    ))
}
