//! Values of options: how they are read from text, written as text and described.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::structured;

/// What a value looks like in YAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One value.
    Scalar,
    /// A sequence; as text, its elements are separated by `;`.
    List,
    /// A mapping; as text, `key:value` pairs separated by `,`.
    Map,
}

/// A type that an option can have.
///
/// Text that [`Self::text`] writes, [`Self::parse`] reads back to the same value.
pub trait ConfigValue: Sized + 'static {
    /// What it looks like in YAML.
    const SHAPE: Shape = Shape::Scalar;

    /// The type's name in the reference, e.g. `integer`.
    fn type_name() -> Cow<'static, str>;

    /// What an error says was expected, e.g. ``a duration such as `10 s` ``.
    fn expected() -> Cow<'static, str>;

    /// Reads a value; `None` when the text is not one.
    fn parse(text: &str) -> Option<Self>;

    /// The value as a person would write it.
    fn text(&self) -> String;
}

impl ConfigValue for bool {
    fn type_name() -> Cow<'static, str> {
        "boolean".into()
    }

    fn expected() -> Cow<'static, str> {
        "`true` or `false`".into()
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("true") {
            Some(true)
        } else if text.eq_ignore_ascii_case("false") {
            Some(false)
        } else {
            None
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

macro_rules! number_values {
    ($($number:ty, $name:literal, $expected:literal;)*) => {$(
        impl ConfigValue for $number {
            fn type_name() -> Cow<'static, str> {
                $name.into()
            }

            fn expected() -> Cow<'static, str> {
                $expected.into()
            }

            fn parse(text: &str) -> Option<Self> {
                text.trim().parse().ok()
            }

            fn text(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

number_values! {
    i32, "integer", "an integer";
    i64, "integer", "an integer";
    u32, "integer", "an integer of at least 0";
    u64, "integer", "an integer of at least 0";
    usize, "integer", "an integer of at least 0";
}

impl ConfigValue for f64 {
    fn type_name() -> Cow<'static, str> {
        "number".into()
    }

    fn expected() -> Cow<'static, str> {
        "a finite number".into()
    }

    fn parse(text: &str) -> Option<Self> {
        text.trim()
            .parse()
            .ok()
            .filter(|number: &Self| number.is_finite())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl ConfigValue for String {
    fn type_name() -> Cow<'static, str> {
        "string".into()
    }

    fn expected() -> Cow<'static, str> {
        "a string".into()
    }

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn text(&self) -> String {
        self.clone()
    }
}

/// A value that may be left out; the empty text stands for that.
impl<T: ConfigValue> ConfigValue for Option<T> {
    const SHAPE: Shape = T::SHAPE;

    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn expected() -> Cow<'static, str> {
        T::expected()
    }

    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            Some(None)
        } else {
            T::parse(text).map(Some)
        }
    }

    fn text(&self) -> String {
        self.as_ref().map(T::text).unwrap_or_default()
    }
}

impl<T: ConfigValue> ConfigValue for Vec<T> {
    const SHAPE: Shape = Shape::List;

    fn type_name() -> Cow<'static, str> {
        format!("list of {}", T::type_name()).into()
    }

    fn expected() -> Cow<'static, str> {
        format!("a list separated by `;`, each element {}", T::expected()).into()
    }

    fn parse(text: &str) -> Option<Self> {
        structured::split(text, ';')?
            .iter()
            .map(|element| T::parse(element))
            .collect()
    }

    fn text(&self) -> String {
        structured::join_list(self.iter().map(T::text))
    }
}

impl<T: ConfigValue> ConfigValue for BTreeMap<String, T> {
    const SHAPE: Shape = Shape::Map;

    fn type_name() -> Cow<'static, str> {
        format!("map to {}", T::type_name()).into()
    }

    fn expected() -> Cow<'static, str> {
        format!("a map `key:value,key:value`, each value {}", T::expected()).into()
    }

    fn parse(text: &str) -> Option<Self> {
        let pairs = structured::split_map(text)?;
        let count = pairs.len();
        let map: Self = pairs
            .into_iter()
            .map(|(key, value)| Some((key, T::parse(&value)?)))
            .collect::<Option<_>>()?;
        (map.len() == count).then_some(map)
    }

    fn text(&self) -> String {
        structured::join_map(self.iter().map(|(key, value)| (key.as_str(), value.text())))
    }
}

/// Declares an enum that options can have, each variant with its word and the words also understood.
macro_rules! config_enum {
    (
        $(#[$about:meta])*
        pub enum $name:ident {
            $($(#[$variant_about:meta])* $variant:ident = $word:literal $(| $alias:literal)*,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_about])* #[serde(rename = $word)] $variant,)*
        }

        impl $crate::config::ConfigValue for $name {
            fn type_name() -> std::borrow::Cow<'static, str> {
                "enum".into()
            }

            fn expected() -> std::borrow::Cow<'static, str> {
                let words = [$(concat!("`", $word, "`")),*];
                format!("one of {}", words.join(", ")).into()
            }

            fn parse(text: &str) -> Option<Self> {
                match text.trim().to_ascii_lowercase().as_str() {
                    $($word $(| $alias)* => Some(Self::$variant),)*
                    _ => None,
                }
            }

            fn text(&self) -> String {
                match self {
                    $(Self::$variant => $word.to_owned(),)*
                }
            }
        }
    };
}

pub(crate) use config_enum;
