//! What a state is declared with.

use crate::ttl::StateTtlConfig;

/// The name of a state, and how it expires: Flink's `StateDescriptor`. A name alone is one of state that does not
/// expire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDescriptor {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    ttl: Option<StateTtlConfig>,
}

impl StateDescriptor {
    /// A state that does not expire.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            aliases: Vec::new(),
            ttl: None,
        }
    }

    /// Has the state expire.
    #[must_use]
    pub fn enable_time_to_live(mut self, ttl: StateTtlConfig) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Lets the state continue one of another name: a state that was renamed finds at a restore what it held under
    /// its old name, if there is nothing under its own.
    ///
    /// *Cost*: where state is kept in a store, it is written anew when it is restored.
    #[must_use]
    pub fn alias(mut self, former_name: impl Into<String>) -> Self {
        self.aliases.push(former_name.into());
        self
    }

    /// The state's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the state expires; `None` when it does not.
    pub fn ttl(&self) -> Option<&StateTtlConfig> {
        self.ttl.as_ref().filter(|ttl| ttl.is_enabled())
    }
}

impl From<&str> for StateDescriptor {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for StateDescriptor {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl From<&String> for StateDescriptor {
    fn from(name: &String) -> Self {
        Self::new(name)
    }
}
