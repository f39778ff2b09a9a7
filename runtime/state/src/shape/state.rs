//! The types of one state, and those of an operator's states together.

use super::{Comparison, Difference, Shape, compare};
use hurtig_core::error::{Error, Result};
use hurtig_core::key::{StableKey, shape_of};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Differences that an error names.
const NAMED: usize = 8;

/// The types of a state: those of its keys, and the shapes of its values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateShape {
    /// The text of the key's type, see [`StableKey::shape`]; `None` for state without a key.
    pub key: Option<String>,
    /// The text of the type that stands beside the key: a map's user key, a window, a timer's namespace.
    pub namespace: Option<String>,
    /// The shapes that values were written with, the last one last. Where values are kept as bytes, those that were not
    /// written since a type has changed still have the shapes of before. None for state without values.
    pub values: Vec<Shape>,
    /// Other names that the state is found under.
    #[serde(skip)]
    pub aliases: Vec<String>,
}

/// The types of an operator's states, by name. One with keys and one without may have the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateShapes {
    /// States by key.
    pub keyed: BTreeMap<String, StateShape>,
    /// States without keys.
    pub operator: BTreeMap<String, StateShape>,
}

impl StateShapes {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keyed.is_empty() && self.operator.is_empty()
    }

    /// All of them, those with keys first.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &StateShape)> {
        self.keyed.iter().chain(&self.operator)
    }

    /// The states among which one belongs.
    fn like(&self, shape: &StateShape) -> &BTreeMap<String, StateShape> {
        if shape.key.is_some() {
            &self.keyed
        } else {
            &self.operator
        }
    }

    /// Those that stand beside a state of this kind, to be changed.
    pub fn like_mut(&mut self, shape: &StateShape) -> &mut BTreeMap<String, StateShape> {
        if shape.key.is_some() {
            &mut self.keyed
        } else {
            &mut self.operator
        }
    }

    /// Sets the types of a state.
    pub fn insert(&mut self, name: impl Into<String>, shape: StateShape) {
        self.like_mut(&shape).insert(name.into(), shape);
    }

    /// The state that one goes on with which is declared as `name`, and its name.
    pub fn continued<'a>(
        &'a self,
        name: &str,
        declared: &StateShape,
    ) -> Option<(&'a String, &'a StateShape)> {
        let like = self.like(declared);
        like.get_key_value(declared.name_in(name, |former| like.contains_key(former)))
    }
}

impl Extend<(String, StateShape)> for StateShapes {
    fn extend<I: IntoIterator<Item = (String, StateShape)>>(&mut self, states: I) {
        states
            .into_iter()
            .for_each(|(name, shape)| self.insert(name, shape));
    }
}

impl FromIterator<(String, StateShape)> for StateShapes {
    fn from_iter<I: IntoIterator<Item = (String, StateShape)>>(states: I) -> Self {
        let mut shapes = Self::default();
        shapes.extend(states);
        shapes
    }
}

impl<const N: usize> From<[(String, StateShape); N]> for StateShapes {
    fn from(states: [(String, StateShape); N]) -> Self {
        states.into_iter().collect()
    }
}

impl IntoIterator for StateShapes {
    type Item = (String, StateShape);
    type IntoIter = std::iter::Chain<
        std::collections::btree_map::IntoIter<String, StateShape>,
        std::collections::btree_map::IntoIter<String, StateShape>,
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.keyed.into_iter().chain(self.operator)
    }
}

impl StateShape {
    /// A state of values of `V` by keys of `K`.
    pub fn keyed<K: StableKey, V: DeserializeOwned>() -> Self {
        Self {
            values: vec![Shape::of::<V>()],
            ..Self::timers::<K>()
        }
    }

    /// Keys of `K` without values.
    pub fn timers<K: StableKey>() -> Self {
        Self {
            key: Some(shape_of::<K>()),
            ..Self::default()
        }
    }

    /// The same with keys of `N` beside the key.
    #[must_use]
    pub fn by<N: StableKey>(self) -> Self {
        Self {
            namespace: Some(shape_of::<N>()),
            ..self
        }
    }

    /// A state of entries of `V` without keys.
    pub fn operator<V: DeserializeOwned>() -> Self {
        Self {
            values: vec![Shape::of::<V>()],
            ..Self::default()
        }
    }

    /// Compares what was written as `self` to a state that is declared as `new`.
    pub fn compare(&self, new: &Self) -> Comparison {
        let mut found = Comparison::default();
        let keys = [
            ("key", &self.key, &new.key),
            ("user key", &self.namespace, &new.namespace),
        ];
        for (what, was, is) in keys {
            if was != is {
                let path = format!("{{{what}}}");
                let shown = |key: &Option<String>| key.clone().unwrap_or_else(|| "nothing".to_owned());
                let what = format!(
                    "is {} and was {}, and keys cannot change: keep the old one, or give the state another name",
                    shown(is),
                    shown(was)
                );
                found.refused.push(Difference { path, what });
            }
        }
        if let Some(is) = new.values.last() {
            self.values.iter().for_each(|was| found.merge(compare(was, is)));
        }
        found
    }

    /// Adds the shapes that values may have from before, for values that are kept as bytes.
    pub fn written_before(&mut self, before: &[Shape]) {
        let own = std::mem::take(&mut self.values);
        for shape in before.iter().cloned().chain(own) {
            // The last one stays last.
            self.values.retain(|known| *known != shape);
            self.values.push(shape);
        }
    }

    /// The name among those of an operator's former states that this state, declared as `name`, continues.
    pub fn name_in<'a>(&'a self, name: &'a str, is_former: impl Fn(&str) -> bool) -> &'a str {
        let alias = || self.aliases.iter().find(|alias| is_former(alias));
        match is_former(name) {
            true => name,
            false => alias().map_or(name, String::as_str),
        }
    }
}

impl Shape {
    /// The shape of values of which nothing was written down.
    pub fn unknown() -> Self {
        Self::Opaque("nothing was written down of its type".to_owned())
    }
}

impl Comparison {
    /// What is to be said of a state that cannot be read; `None` when it can.
    pub fn problem(&self, name: &str) -> Option<String> {
        let more = self.refused.len().saturating_sub(NAMED);
        let named: Vec<String> = self.refused.iter().take(NAMED).map(ToString::to_string).collect();
        let more = if more > 0 {
            format!("; and {more} more")
        } else {
            String::new()
        };
        (!self.is_readable()).then(|| {
            format!(
                "state '{name}' holds values of a type that has changed so that they cannot be read: {}{more}. Change \
                 the type as said, or give the state another name, under which it begins empty",
                named.join("; ")
            )
        })
    }

    /// What can only be seen when values are read, in one text; `None` when there is nothing of that kind.
    pub fn doubts(&self, name: &str) -> Option<String> {
        let doubts: Vec<String> = self
            .unproven
            .iter()
            .take(NAMED)
            .map(ToString::to_string)
            .collect();
        (!doubts.is_empty()).then(|| {
            format!(
                "whether state '{name}' can be read is seen only when its values are: {}",
                doubts.join("; ")
            )
        })
    }
}

/// Refuses what `stored` says of a state if it does not fit what the state is declared as.
///
/// # Errors
/// When values cannot be read, which no restart will change; the text names the state and every difference.
pub fn check(name: &str, declared: &StateShape, stored: &StateShapes) -> Result<()> {
    let former = stored.continued(name, declared);
    let problem = former.and_then(|(_, former)| former.compare(declared).problem(name));
    problem.map_or(Ok(()), |problem| Err(Error::user(problem).for_good()))
}

/// What has been asked of a snapshot that is made to learn that.
#[derive(Debug, Default)]
pub struct Asked {
    states: Mutex<StateShapes>,
}

impl Asked {
    fn lock(&self) -> MutexGuard<'_, StateShapes> {
        // Whoever panicked had not begun to change it.
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a state.
    pub fn note(&self, name: &str, shape: StateShape) {
        self.lock().insert(name, shape);
    }

    /// What was noted.
    pub fn states(&self) -> StateShapes {
        self.lock().clone()
    }
}

impl PartialEq for Asked {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Asked {}
