//! The options of a table's watermarks, as SQL gives them to a source: `scan.watermark.*`.
//!
//! They belong to one source of a program and to no configuration, so they are no part of the reference of options.

use super::registry::nearest;
use super::value::config_enum;
use super::{AnyOption, ConfigError, ConfigErrors, ConfigOption, Scope, Source};
use std::time::Duration;

config_enum! {
    /// When watermarks are sent.
    pub enum WatermarkEmitStrategy {
        /// Once in `pipeline.auto-watermark-interval`.
        OnPeriodic = "on-periodic",
        /// Behind records, as many as the gap says.
        OnEvent = "on-event",
    }
}

static EMIT_STRATEGY: ConfigOption<WatermarkEmitStrategy> = ConfigOption::new(
    "scan.watermark.emit.strategy",
    Scope::Program,
    || WatermarkEmitStrategy::OnPeriodic,
    "When watermarks are sent: by the clock, or behind records.",
)
.flink("on-periodic");

static ON_EVENT_GAP: ConfigOption<u32> = ConfigOption::new(
    "scan.watermark.emit.on-event.gap",
    Scope::Program,
    || 1,
    "With `on-event`: from one watermark to the next, in records.",
)
.flink("1")
.accepting(|gap| *gap >= 1, "an integer of at least 1");

static IDLE_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "scan.watermark.idle-timeout",
    Scope::Program,
    || Duration::ZERO,
    "After how long without records a split is idle; with 0 it never is.",
);

static OPTIONS: &[&dyn AnyOption] = &[&EMIT_STRATEGY, &ON_EVENT_GAP, &IDLE_TIMEOUT];

/// What the keys of aligning watermarks begin with, which nothing does yet.
const ALIGNMENT: &str = "scan.watermark.alignment.";

/// What options say about the watermarks of a source; what they do not mention stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatermarkOptions {
    /// When they are sent (`scan.watermark.emit.strategy`).
    pub emit: Option<WatermarkEmitStrategy>,
    /// With `on-event`, behind how many records (`scan.watermark.emit.on-event.gap`).
    pub on_event_gap: Option<u32>,
    /// After how long a split is idle, zero for never (`scan.watermark.idle-timeout`).
    pub idle_timeout: Option<Duration>,
}

impl WatermarkOptions {
    /// Reads options by their keys. Of two with one key the later one counts.
    ///
    /// # Errors
    /// Everything that is wrong: keys that there are not, with the most similar one, values that are none of their
    /// options, and options of watermark alignment, which does not exist yet.
    pub fn parse<K, V>(options: impl IntoIterator<Item = (K, V)>) -> Result<Self, ConfigErrors>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let (mut parsed, mut errors) = (Self::default(), Vec::new());
        for (key, value) in options {
            errors.extend(parsed.read(key.as_ref(), value.as_ref()).err());
        }
        ConfigErrors::unless_none(errors, parsed)
    }

    fn read(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        if key == EMIT_STRATEGY.key() {
            self.emit = Some(read(&EMIT_STRATEGY, value)?);
        } else if key == ON_EVENT_GAP.key() {
            self.on_event_gap = Some(read(&ON_EVENT_GAP, value)?);
        } else if key == IDLE_TIMEOUT.key() {
            self.idle_timeout = Some(read(&IDLE_TIMEOUT, value)?);
        } else if key.starts_with(ALIGNMENT) {
            return Err(ConfigError::Unsupported {
                at: Source::WatermarkOptions,
                key: key.to_owned(),
                found: value.to_owned(),
                problem: "watermarks of different sources are not aligned yet; leave the options \
                          `scan.watermark.alignment.*` out"
                    .to_owned(),
            });
        } else {
            return Err(ConfigError::UnknownKey {
                at: Source::WatermarkOptions,
                key: key.to_owned(),
                nearest: nearest(key, OPTIONS.iter().map(|option| option.key().to_owned())),
            });
        }
        Ok(())
    }
}

fn read<T: super::ConfigValue>(option: &'static ConfigOption<T>, value: &str) -> Result<T, ConfigError> {
    let bad = || ConfigError::bad_value(option, value, Source::WatermarkOptions);
    option.parse(value).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<WatermarkOptions, String> {
        WatermarkOptions::parse(options.iter().copied()).map_err(|errors| errors.to_string())
    }

    #[test]
    fn options_are_read_as_a_table_definition_gives_them() {
        assert_eq!(parse(&[]), Ok(WatermarkOptions::default()));
        let all = parse(&[
            ("scan.watermark.emit.strategy", "on-event"),
            ("scan.watermark.emit.on-event.gap", "10"),
            ("scan.watermark.idle-timeout", "1 min"),
        ]);
        let want = WatermarkOptions {
            emit: Some(WatermarkEmitStrategy::OnEvent),
            on_event_gap: Some(10),
            idle_timeout: Some(Duration::from_secs(60)),
        };
        assert_eq!(all, Ok(want));
        let twice = parse(&[
            ("scan.watermark.emit.strategy", "ON-EVENT"),
            ("scan.watermark.emit.strategy", "on-periodic"),
            ("scan.watermark.idle-timeout", "0"),
        ]);
        let want = WatermarkOptions {
            emit: Some(WatermarkEmitStrategy::OnPeriodic),
            on_event_gap: None,
            idle_timeout: Some(Duration::ZERO),
        };
        assert_eq!(twice, Ok(want));
    }

    #[test]
    fn errors_say_key_value_what_is_expected_and_the_nearest_key() {
        for (key, value, message) in [
            (
                "scan.watermark.emit.strategie",
                "on-event",
                "watermark options: unknown option `scan.watermark.emit.strategie`; did you mean \
                 `scan.watermark.emit.strategy`?",
            ),
            (
                "on-event.gap",
                "1",
                "watermark options: unknown option `on-event.gap`; did you mean \
                 `scan.watermark.emit.on-event.gap`?",
            ),
            (
                "connector",
                "files",
                "watermark options: unknown option `connector`",
            ),
            (
                "scan.watermark.emit.strategy",
                "on-record",
                "watermark options: `scan.watermark.emit.strategy` expects one of `on-periodic`, `on-event`, found \
                 `on-record`",
            ),
            (
                "scan.watermark.emit.on-event.gap",
                "0",
                "watermark options: `scan.watermark.emit.on-event.gap` expects an integer of at least 1, found `0`",
            ),
            (
                "scan.watermark.emit.on-event.gap",
                "",
                "watermark options: `scan.watermark.emit.on-event.gap` expects an integer of at least 1, found nothing",
            ),
            (
                "scan.watermark.idle-timeout",
                "soon",
                "watermark options: `scan.watermark.idle-timeout` expects a duration such as `10 s`, `500 ms` or \
                 `2 min`, found `soon`",
            ),
            (
                "scan.watermark.alignment.max-drift",
                "1 s",
                "watermark options: `scan.watermark.alignment.max-drift` is `1 s`, but watermarks of different sources \
                 are not aligned yet; leave the options `scan.watermark.alignment.*` out",
            ),
        ] {
            assert_eq!(parse(&[(key, value)]), Err(message.to_owned()), "{key}={value}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let errors = WatermarkOptions::parse([
            ("scan.watermark.alignment.group", "a"),
            ("scan.watermark.idle-timeout", "1 s"),
            ("scan.watermark.idle_timeout", "1 s"),
        ]);
        assert_eq!(errors.unwrap_err().errors().len(), 2);
    }
}
