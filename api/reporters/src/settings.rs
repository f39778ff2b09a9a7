//! `metrics.reporter.<name>.*`: which reporters there are, and what each of them is told.

use crate::filter::Filter;
use crate::names::{Naming, ScopeFormats};
use crate::prometheus::Limits;
use hurtig_core::config::{ConfigValue as _, Configuration, options};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often a reporter tells what it has, unless it is said otherwise.
const INTERVAL: Duration = Duration::from_secs(10);
/// What all reporters may be told.
const COMMON: [&str; 5] = [
    "factory.class",
    "interval",
    "scope.delimiter",
    "filter.includes",
    "filter.excludes",
];

/// Which reporters there are, and how Prometheus is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reporting {
    pub(crate) reporters: Vec<Reporter>,
    /// How `/metrics` is written.
    pub limits: Limits,
}

/// A reporter that tells what there is every so often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reporter {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) interval: Duration,
    pub(crate) naming: Naming,
    pub(crate) filter: Filter,
}

/// Whom a reporter tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The jobmanager's log.
    Log,
    /// A StatsD server.
    StatsD {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
    },
}

impl Reporting {
    /// Reads it from what a jobmanager is configured with.
    ///
    /// # Errors
    /// What is wrong, by key.
    pub fn read(settings: &Configuration) -> Result<Self, String> {
        let (mut named, mut reporting) = (
            BTreeMap::<String, BTreeMap<String, String>>::new(),
            Self::default(),
        );
        for (key, value) in settings.get(&options::METRICS_REPORTER) {
            let (name, parameter) = key.split_once('.').ok_or_else(|| {
                format!("`metrics.reporter.{key}` names a reporter and nothing about it: `metrics.reporter.{key}.factory.class` says what it is")
            })?;
            let parameters = named.entry(name.to_owned()).or_default();
            parameters.insert(parameter.to_owned(), value);
        }
        let wanted = settings.get(&options::METRICS_REPORTERS).unwrap_or_default();
        let wanted: Vec<&str> = wanted
            .split([',', ';', '|', ' '])
            .filter(|name| !name.is_empty())
            .collect();
        if let Some(unknown) = wanted.iter().find(|name| !named.contains_key(**name)) {
            return Err(format!(
                "`metrics.reporters` names '{unknown}', but nothing is said of it: `metrics.reporter.{unknown}.factory.class` says what it is"
            ));
        }
        for (name, parameters) in named {
            if wanted.is_empty() || wanted.contains(&name.as_str()) {
                reporting.add(settings, name, parameters)?;
            }
        }
        Ok(reporting)
    }

    fn add(
        &mut self,
        settings: &Configuration,
        name: String,
        parameters: BTreeMap<String, String>,
    ) -> Result<(), String> {
        let own = Parameters {
            name: &name,
            all: &parameters,
        };
        let class = own.get("factory.class").ok_or_else(|| {
            format!("`metrics.reporter.{name}.factory.class` is not set: slf4j, statsd or prometheus")
        })?;
        let kind = match class.rsplit('.').next().unwrap_or(class) {
            "Slf4jReporterFactory" | "slf4j" | "log" => {
                own.only(&[])?;
                Kind::Log
            }
            "StatsDReporterFactory" | "statsd" => {
                own.only(&["host", "port"])?;
                Kind::StatsD {
                    host: own.needed("host")?.to_owned(),
                    port: own.port()?,
                }
            }
            "PrometheusReporterFactory" | "prometheus" => return self.prometheus(&own),
            _ => {
                return Err(format!(
                    "`metrics.reporter.{name}.factory.class` is '{class}', but there are only slf4j, statsd and prometheus, \
                     and Flink's names of their factories"
                ));
            }
        };
        let delimiter = own.get("scope.delimiter").map(ToOwned::to_owned);
        let naming = Naming {
            formats: ScopeFormats::read(settings),
            delimiter: delimiter.unwrap_or_else(|| settings.get(&options::METRICS_SCOPE_DELIMITER)),
            instead: matches!(kind, Kind::StatsD { .. }).then_some((':', '-')),
        };
        let (interval, filter) = (own.interval()?, own.filter()?);
        self.reporters.push(Reporter {
            name,
            kind,
            interval,
            naming,
            filter,
        });
        Ok(())
    }

    /// Prometheus asks by itself: there is nothing to start.
    fn prometheus(&mut self, own: &Parameters<'_>) -> Result<(), String> {
        const FILTERS: &str = "filterLabelValueCharacters";
        if own.get("port").is_some() {
            return Err(own.wrong(
                "port",
                "Prometheus is answered at `/metrics` of `rest.port`: leave it out",
            ));
        }
        let mut all = own.all.keys();
        if let Some(strange) = all.find(|key| ![FILTERS, "factory.class"].contains(&key.as_str())) {
            return Err(own.wrong(
                strange,
                "a reporter for Prometheus has only `filterLabelValueCharacters`",
            ));
        }
        self.limits.filter_label_values = match own.get(FILTERS) {
            None | Some("true") => true,
            Some("false") => false,
            Some(_) => return Err(own.wrong(FILTERS, "`true` or `false` is")),
        };
        Ok(())
    }
}

/// What a reporter is told.
struct Parameters<'a> {
    name: &'a str,
    all: &'a BTreeMap<String, String>,
}

impl Parameters<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.all.get(key).map(|value| value.trim())
    }

    fn wrong(&self, key: &str, why: &str) -> String {
        let value = self.get(key).unwrap_or_default();
        format!("`metrics.reporter.{}.{key}` is '{value}': {why}", self.name)
    }

    fn needed(&self, key: &str) -> Result<&str, String> {
        let found = self.get(key).filter(|value| !value.is_empty());
        found.ok_or_else(|| format!("`metrics.reporter.{}.{key}` is not set", self.name))
    }

    /// Refuses what nobody reads.
    fn only(&self, more: &[&str]) -> Result<(), String> {
        let known = |key: &&String| COMMON.contains(&key.as_str()) || more.contains(&key.as_str());
        match self.all.keys().find(|key| !known(key)) {
            None => Ok(()),
            Some(strange) => {
                let known: Vec<&str> = COMMON.iter().chain(more).copied().collect();
                let text = format!("this reporter does not know that; it knows {}", known.join(", "));
                Err(self.wrong(strange, &text))
            }
        }
    }

    fn port(&self) -> Result<u16, String> {
        let port = self.needed("port")?.parse().ok().filter(|port| *port > 0);
        port.ok_or_else(|| self.wrong("port", "a port is a number from 1 to 65535"))
    }

    fn interval(&self) -> Result<Duration, String> {
        let Some(text) = self.get("interval") else {
            return Ok(INTERVAL);
        };
        let parsed = Duration::parse(text).filter(|interval| *interval >= Duration::from_secs(1));
        parsed.ok_or_else(|| self.wrong("interval", "a duration of at least `1 s` is needed"))
    }

    fn filter(&self) -> Result<Filter, String> {
        let list = |key| {
            let text = self.get(key).unwrap_or_default().split(';');
            let parts = text.map(|part| part.trim().to_owned());
            parts.filter(|part| !part.is_empty()).collect::<Vec<_>>()
        };
        let filter = Filter::parse(&list("filter.includes"), &list("filter.excludes"));
        filter.map_err(|error| format!("`metrics.reporter.{}.filter`: {error}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(definitions: &[&str]) -> Result<Reporting, String> {
        let settings = Configuration::builder().definitions(definitions.iter().copied());
        Reporting::read(&settings.build().unwrap())
    }

    #[test]
    fn reporters_are_read_under_the_names_that_flink_has_for_them() {
        let class = "factory.class=org.apache.flink.metrics.statsd.StatsDReporterFactory";
        let all = [
            "metrics.reporter.log.factory.class=slf4j",
            "metrics.reporter.log.interval=30 s",
            &format!("metrics.reporter.a.{class}"),
            "metrics.reporter.a.host=localhost",
            "metrics.reporter.a.port=8125",
            "metrics.reporter.a.scope.delimiter=-",
            "metrics.reporter.prom.factory.class=prometheus",
            "metrics.reporter.prom.filterLabelValueCharacters=false",
        ];
        let reporting = read(&all).unwrap();
        assert!(!reporting.limits.filter_label_values);
        let [a, log] = reporting.reporters.as_slice() else {
            panic!("{reporting:?}")
        };
        assert_eq!(
            (log.kind.clone(), log.interval),
            (Kind::Log, Duration::from_secs(30))
        );
        let (host, port) = ("localhost".to_owned(), 8_125);
        assert_eq!(a.kind, Kind::StatsD { host, port });
        assert_eq!((a.interval, a.naming.delimiter.as_str()), (INTERVAL, "-"));
        let named: Vec<&str> = all.iter().copied().chain(["metrics.reporters=log"]).collect();
        assert_eq!(read(&named).unwrap().reporters.len(), 1);
        assert_eq!(read(&[]).unwrap(), Reporting::default());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_key() {
        let statsd = [
            "metrics.reporter.a.factory.class=statsd",
            "metrics.reporter.a.host=h",
        ];
        let cases: [(&[&str], &str); 10] = [
            (
                &["metrics.reporter.a=b"],
                "`metrics.reporter.a.factory.class` says",
            ),
            (
                &["metrics.reporter.a.interval=1 s"],
                "`metrics.reporter.a.factory.class` is not set",
            ),
            (
                &["metrics.reporter.a.factory.class=jmx"],
                "only slf4j, statsd and prometheus",
            ),
            (&["metrics.reporters=b"], "names 'b'"),
            (&statsd, "`metrics.reporter.a.port` is not set"),
            (
                &[statsd[0], statsd[1], "metrics.reporter.a.port=70000"],
                "from 1 to 65535",
            ),
            (
                &[
                    statsd[0],
                    statsd[1],
                    "metrics.reporter.a.port=1",
                    "metrics.reporter.a.hots=h",
                ],
                "`metrics.reporter.a.hots` is 'h'",
            ),
            (
                &[
                    "metrics.reporter.a.factory.class=log",
                    "metrics.reporter.a.interval=1 ms",
                ],
                "at least `1 s`",
            ),
            (
                &[
                    "metrics.reporter.a.factory.class=log",
                    "metrics.reporter.a.filter.includes=*:*:x",
                ],
                "'x' in '*:*:x'",
            ),
            (
                &[
                    "metrics.reporter.a.factory.class=prometheus",
                    "metrics.reporter.a.port=9249",
                ],
                "`/metrics` of `rest.port`",
            ),
        ];
        for (definitions, wanted) in cases {
            let error = read(definitions).unwrap_err();
            assert!(error.contains(wanted), "{definitions:?}: {error}");
        }
    }
}
