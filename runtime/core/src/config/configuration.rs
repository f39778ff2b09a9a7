//! The values of all options, as the layers set them.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::registry::{find_map_entry, of_jobs};
use super::{
    AnyOption, ConfigError, ConfigErrors, ConfigOption, ConfigValue, ConfigurationBuilder, HIDDEN, Scope,
    Source, all, find, structured,
};

/// The value of every option: what the layers set, and defaults for the rest.
///
/// Every setting was checked when it was made, so [`Self::get`] cannot fail. A serialized
/// configuration is checked again when it is read.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Setting>", into = "BTreeMap<String, Setting>")]
pub struct Configuration {
    settings: BTreeMap<&'static str, Setting>,
}

/// What a cluster's configuration says of its jobs, where neither they nor whoever submits them do.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct JobDefaults {
    /// What may be recorded with a job.
    pub settings: BTreeMap<String, String>,
    /// Passwords and keys, which may not.
    pub secrets: BTreeMap<String, String>,
}

impl fmt::Debug for JobDefaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobDefaults")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// How the keys begin that say what one job begins with; another one must not.
const OF_ONE_JOB: &str = "execution.state-recovery.";

/// One value that a layer set.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Setting {
    /// The value in its option's canonical text.
    value: String,
    source: Source,
}

/// The value of one option and where it comes from.
#[derive(Clone)]
pub struct Entry<'a> {
    /// The option.
    pub option: &'static dyn AnyOption,
    /// Its value as text, as it may be shown: asterisks for a secret.
    pub value: String,
    /// Where it was set; `None` for a default.
    pub source: Option<&'a Source>,
}

impl Configuration {
    /// Starts reading the layers of a configuration.
    #[must_use]
    pub fn builder() -> ConfigurationBuilder {
        ConfigurationBuilder::default()
    }

    /// The option's value: the one that was set, else its default.
    #[must_use]
    pub fn get<T: ConfigValue>(&self, option: &ConfigOption<T>) -> T {
        let Some(setting) = self.settings.get(option.key()) else {
            return option.default_value();
        };
        match option.parse(&setting.value) {
            Some(value) => value,
            None => unreachable!("`{}` was accepted for `{}` before", setting.value, option.key()),
        }
    }

    /// Whether a layer has set the option.
    #[must_use]
    pub fn is_set<T>(&self, option: &ConfigOption<T>) -> bool {
        self.settings.contains_key(option.key())
    }

    /// Sets an option from program code, over every other layer.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ClusterOption`] when the option belongs to the cluster,
    /// [`ConfigError::BadValue`] when the option does not accept the value.
    pub fn set<T: ConfigValue>(&mut self, option: &ConfigOption<T>, value: T) -> Result<(), ConfigError> {
        self.set_text(option.key(), &value.text())
    }

    /// Sets an option from program code by its key and the text of its value.
    ///
    /// # Errors
    ///
    /// As [`Self::set`], and [`ConfigError::UnknownKey`].
    pub fn set_text(&mut self, key: &str, text: &str) -> Result<(), ConfigError> {
        self.put(key, text, Source::Program)
    }

    /// Takes over every setting of `other` that was not made in a stronger layer here.
    pub fn overlay(&mut self, other: &Self) {
        for (key, setting) in &other.settings {
            self.insert(key, setting.clone());
        }
    }

    /// Every option with its value, in the order of the reference.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        all().map(|option| match self.settings.get(option.key()) {
            Some(setting) => Entry {
                option,
                value: shown(option, &setting.value).to_owned(),
                source: Some(&setting.source),
            },
            None => Entry {
                option,
                value: option.default_text(),
                source: None,
            },
        })
    }

    /// What is set here that the jobs of a cluster with this configuration begin with.
    #[must_use]
    pub fn job_defaults(&self) -> JobDefaults {
        let mut defaults = JobDefaults::default();
        for option in of_jobs().filter(|option| !option.key().starts_with(OF_ONE_JOB)) {
            let Some(setting) = self.settings.get(option.key()) else {
                continue;
            };
            let layer = match option.is_secret() {
                true => &mut defaults.secrets,
                false => &mut defaults.settings,
            };
            layer.insert(option.key().to_owned(), setting.value.clone());
        }
        defaults
    }

    /// Sets an option from any layer, unless a stronger one has set it.
    pub(super) fn put(&mut self, key: &str, text: &str, source: Source) -> Result<(), ConfigError> {
        let (option, text, is_entry) = match (find(key), find_map_entry(key)) {
            (Some(option), _) => (option, text.to_owned(), false),
            (None, Some((map, entry))) => {
                let pair = std::iter::once((entry, text.to_owned()));
                (map, structured::join_map(pair), true)
            }
            (None, None) => return Err(ConfigError::unknown(key, source)),
        };
        if source == Source::Program && option.scope() == Scope::Cluster {
            return Err(ConfigError::ClusterOption { key: key.to_owned() });
        }
        let text = if is_entry {
            self.with_earlier_entries(option, text, &source)
        } else {
            text
        };
        match option.canonical(&text) {
            Some(value) => self.insert(option.key(), Setting { value, source }),
            None => return Err(ConfigError::bad_value(option, &text, source)),
        }
        Ok(())
    }

    /// Entries of one map that are set one by one in a layer belong together.
    fn with_earlier_entries(&self, option: &dyn AnyOption, pair: String, source: &Source) -> String {
        match self.settings.get(option.key()) {
            Some(earlier) if earlier.source.rank() == source.rank() && !earlier.value.is_empty() => {
                format!("{},{pair}", earlier.value)
            }
            _ => pair,
        }
    }

    fn insert(&mut self, key: &'static str, setting: Setting) {
        match self.settings.entry(key) {
            btree_map::Entry::Vacant(entry) => {
                entry.insert(setting);
            }
            btree_map::Entry::Occupied(mut entry) => {
                if entry.get().source.rank() <= setting.source.rank() {
                    entry.insert(setting);
                }
            }
        }
    }
}

fn shown<'a>(option: &dyn AnyOption, value: &'a str) -> &'a str {
    if option.is_secret() { HIDDEN } else { value }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = self.entries().filter_map(|entry| {
            let source = entry.source?;
            Some((entry.option.key(), (entry.value, source)))
        });
        f.debug_map().entries(set).finish()
    }
}

impl From<Configuration> for BTreeMap<String, Setting> {
    fn from(config: Configuration) -> Self {
        config
            .settings
            .into_iter()
            .map(|(key, setting)| (key.to_owned(), setting))
            .collect()
    }
}

impl TryFrom<BTreeMap<String, Setting>> for Configuration {
    type Error = ConfigErrors;

    fn try_from(settings: BTreeMap<String, Setting>) -> Result<Self, ConfigErrors> {
        let mut config = Self::default();
        let mut errors = Vec::new();
        for (key, Setting { value, source }) in settings {
            errors.extend(config.put(&key, &value, source).err());
        }
        ConfigErrors::unless_none(errors, config)
    }
}
