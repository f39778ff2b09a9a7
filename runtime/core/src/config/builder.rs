//! Reads the layers of a configuration and collects everything that is wrong with them.

use super::registry::{RESERVED_VARIABLES, VARIABLE_PREFIX, find_variable, nearest_variable};
use super::yaml::{self, Line, Value};
use super::{ConfigError, ConfigErrors, Configuration, Source, find};

/// Gathers layers in any order; the kind of a layer, not the order, decides which one wins. Of two
/// files the later one wins.
#[derive(Debug, Default)]
pub struct ConfigurationBuilder {
    config: Configuration,
    errors: Vec<ConfigError>,
}

impl ConfigurationBuilder {
    /// Adds the text of a YAML file; `name` is how errors call the file.
    #[must_use]
    pub fn yaml(mut self, name: &str, text: &str) -> Self {
        match yaml::read(name, text) {
            Ok(lines) => self.lines(name, lines),
            Err(error) => self.errors.push(error),
        }
        self
    }

    /// Adds environment variables. Those whose names do not begin with `HURTIG_` are ignored, as are those that
    /// are no options: `HURTIG_CONFIG`, `HURTIG_LOG`, `HURTIG_CLUSTER_DIR` and the like.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut variables: Vec<_> = variables
            .into_iter()
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
            .filter(|(name, _)| !RESERVED_VARIABLES.contains(&name.as_str()))
            .collect();
        // Environments have no order; errors should.
        variables.sort();
        for (variable, value) in variables {
            self.variable(variable, &value);
        }
        self
    }

    /// Adds the `key=value` of each `-D`; of two for one key the later one wins.
    #[must_use]
    pub fn definitions<D: AsRef<str>>(mut self, definitions: impl IntoIterator<Item = D>) -> Self {
        for definition in definitions {
            let definition = definition.as_ref();
            match definition.split_once('=') {
                Some((key, value)) => self.put(key.trim(), value, Source::CommandLine),
                None => self.errors.push(ConfigError::Definition {
                    found: definition.to_owned(),
                }),
            }
        }
        self
    }

    /// Adds what the cluster's configuration says of jobs. The cluster may be newer than the program: a key that the
    /// program does not know concerns nothing that it could do, and is left out.
    #[must_use]
    pub fn cluster<'a>(mut self, defaults: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        for (key, value) in defaults {
            if find(key).is_some() {
                self.put(key, value, Source::Cluster);
            }
        }
        self
    }

    /// The configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with everything that is wrong with any of the layers.
    pub fn build(self) -> Result<Configuration, ConfigErrors> {
        ConfigErrors::unless_none(self.errors, self.config)
    }

    fn lines(&mut self, file: &str, lines: Vec<Line>) {
        let mut seen: Vec<(String, u32)> = Vec::new();
        for Line { key, line, value } in lines {
            if let Some((_, first_line)) = seen.iter().find(|(earlier, _)| *earlier == key) {
                let (file, first_line) = (file.to_owned(), *first_line);
                self.errors.push(ConfigError::SetTwice {
                    file,
                    line,
                    key,
                    first_line,
                });
                continue;
            }
            let at = Source::File {
                name: file.to_owned(),
                line,
            };
            match value {
                Value::Text(text) => self.put(&key, &text, at),
                Value::Sequence => self.errors.push(sequence_error(&key, at)),
            }
            seen.push((key, line));
        }
    }

    fn variable(&mut self, variable: String, value: &str) {
        match find_variable(&variable) {
            Some(option) => self.put(option.key(), value, Source::Environment { variable }),
            None => self.errors.push(ConfigError::UnknownKey {
                nearest: nearest_variable(&variable),
                key: variable.clone(),
                at: Source::Environment { variable },
            }),
        }
    }

    fn put(&mut self, key: &str, text: &str, at: Source) {
        if let Err(error) = self.config.put(key, text, at) {
            self.errors.push(error);
        }
    }
}

fn sequence_error(key: &str, at: Source) -> ConfigError {
    match find(key) {
        Some(option) => ConfigError::BadValue {
            at,
            key: key.to_owned(),
            expected: option.expected().into_owned(),
            found: "a sequence".to_owned(),
        },
        None => ConfigError::unknown(key, at),
    }
}
