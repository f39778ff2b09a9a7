//! The declaration of one option.

use std::borrow::Cow;

use super::{ConfigValue, Shape};

/// Who an option belongs to, and so who may set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A job: program code may set it, every other layer may too.
    Program,
    /// The cluster's processes: program code may not set it.
    Cluster,
}

/// A condition on values beyond their type, and how an error words it.
struct Condition<T> {
    holds: fn(&T) -> bool,
    expected: &'static str,
}

impl<T> Clone for Condition<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Condition<T> {}

/// An option: its key, its type `T`, its default and its documentation.
///
/// Declared as a constant in [`options`](super::options) and listed in the registry.
pub struct ConfigOption<T: 'static> {
    key: &'static str,
    scope: Scope,
    default: fn() -> T,
    doc: &'static str,
    flink: Option<&'static str>,
    condition: Option<Condition<T>>,
    secret: bool,
}

impl<T> ConfigOption<T> {
    /// An option with this key, default and documentation (Markdown, one paragraph).
    pub(super) const fn new(key: &'static str, scope: Scope, default: fn() -> T, doc: &'static str) -> Self {
        Self {
            key,
            scope,
            default,
            doc,
            flink: None,
            condition: None,
            secret: false,
        }
    }

    /// Notes that Flink has this option, under the same key, with this default.
    pub(super) const fn flink(mut self, default: &'static str) -> Self {
        self.flink = Some(default);
        self
    }

    /// Keeps its value out of everything that is printed.
    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Accepts only values for which `holds` is true; errors say `expected`.
    pub(super) const fn accepting(mut self, holds: fn(&T) -> bool, expected: &'static str) -> Self {
        self.condition = Some(Condition { holds, expected });
        self
    }

    /// The option's key.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// The value when nothing sets it.
    #[must_use]
    pub fn default_value(&self) -> T {
        (self.default)()
    }
}

impl<T: ConfigValue> ConfigOption<T> {
    /// Reads a value of this option; `None` when it is ill-typed or not accepted.
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<T> {
        T::parse(text).filter(|value| self.condition.is_none_or(|condition| (condition.holds)(value)))
    }
}

/// An option of any type: what the registry, the parsers and the documentation need to know.
pub trait AnyOption: Sync {
    /// Its key.
    fn key(&self) -> &'static str;
    /// Who may set it.
    fn scope(&self) -> Scope;
    /// What it means: one paragraph of Markdown.
    fn doc(&self) -> &'static str;
    /// The default of Flink's option with the same key, when it has one.
    fn flink_default(&self) -> Option<&'static str>;
    /// Whether its value is printed nowhere.
    fn is_secret(&self) -> bool;
    /// The name of its type.
    fn type_name(&self) -> Cow<'static, str>;
    /// What it looks like in YAML.
    fn shape(&self) -> Shape;
    /// Its default as text; empty when there is none.
    fn default_text(&self) -> String;
    /// What an error says was expected.
    fn expected(&self) -> Cow<'static, str>;
    /// The value in its canonical text; `None` when `text` is not a value of this option.
    fn canonical(&self, text: &str) -> Option<String>;
}

impl<T: ConfigValue> AnyOption for ConfigOption<T> {
    fn key(&self) -> &'static str {
        self.key
    }

    fn scope(&self) -> Scope {
        self.scope
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn flink_default(&self) -> Option<&'static str> {
        self.flink
    }

    fn is_secret(&self) -> bool {
        self.secret
    }

    fn type_name(&self) -> Cow<'static, str> {
        T::type_name()
    }

    fn shape(&self) -> Shape {
        T::SHAPE
    }

    fn default_text(&self) -> String {
        self.default_value().text()
    }

    fn expected(&self) -> Cow<'static, str> {
        match &self.condition {
            Some(condition) => condition.expected.into(),
            None => T::expected(),
        }
    }

    fn canonical(&self, text: &str) -> Option<String> {
        self.parse(text).map(|value| value.text())
    }
}
