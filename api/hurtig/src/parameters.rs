//! Parameters of programs: from arguments, from property files, from pairs.

use crate::Error;
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

/// The value of a parameter that has none: `--verbose`.
const WITHOUT_VALUE: &str = "__NO_VALUE_KEY";

/// Named texts with typed access: Flink's `ParameterTool`.
///
/// ```
/// use hurtig::Parameters;
///
/// let parameters = Parameters::from_args(["--input", "clicks/", "--limit", "-5", "--verbose"])?;
/// assert_eq!(parameters.required::<String>("input")?, "clicks/");
/// assert_eq!(parameters.get_or("limit", 0)?, -5);
/// assert!(parameters.has("verbose"));
/// assert_eq!(parameters.get::<u32>("parallelism")?, None);
/// # Ok::<(), hurtig::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    values: BTreeMap<String, String>,
}

impl Parameters {
    /// From a program's own arguments (without the program's name): `--name value`, `-name value`,
    /// `--name`. A negative number is a value.
    ///
    /// # Errors
    /// When something stands where a name should.
    pub fn from_args<A: AsRef<str>>(args: impl IntoIterator<Item = A>) -> Result<Self, Error> {
        let mut values = BTreeMap::new();
        let mut args = args.into_iter().peekable();
        while let Some(arg) = args.next() {
            let arg = arg.as_ref();
            let Some(name) = name_of(arg) else {
                return Err(Error::program(format!(
                    "argument '{arg}' is no parameter: parameters are written `--name value`"
                )));
            };
            let value = args.next_if(|next| name_of(next.as_ref()).is_none());
            let value = value.map_or_else(|| WITHOUT_VALUE.to_owned(), |value| value.as_ref().to_owned());
            values.insert(name.to_owned(), value);
        }
        Ok(Self { values })
    }

    /// From the text of a property file: `name = value` or `name: value`, comments behind `#` or `!`
    /// at the beginning of a line.
    ///
    /// # Errors
    /// When a line is neither; the message names it.
    pub fn from_properties(text: &str) -> Result<Self, Error> {
        let mut values = BTreeMap::new();
        let lines = text.lines().map(str::trim).enumerate();
        for (at, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(['#', '!'])) {
            let Some((name, value)) = line.split_once(['=', ':']) else {
                let message = format!("line {} is no property: write `name=value`, not '{line}'", at + 1);
                return Err(Error::program(message));
            };
            values.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        Ok(Self { values })
    }

    /// From a property file; see [`Parameters::from_properties`].
    ///
    /// # Errors
    /// When it cannot be read; the message names the file.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::program(format!(
                "cannot read the parameters in '{}': {error}",
                path.display()
            ))
        })?;
        Self::from_properties(&text)
            .map_err(|error| Error::program(format!("parameters in '{}': {error}", path.display())))
    }

    /// These and those of `stronger`, which win.
    #[must_use]
    pub fn merged_with(mut self, stronger: Self) -> Self {
        self.values.extend(stronger.values);
        self
    }

    /// Whether the parameter is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The parameter's value; `None` when it is not there.
    ///
    /// # Errors
    /// When it has no value, or one that is no `T`; the message names it.
    pub fn get<T: FromStr>(&self, name: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.values.get(name) else {
            return Ok(None);
        };
        if text == WITHOUT_VALUE {
            return Err(Error::program(format!("parameter '{name}' has no value")));
        }
        let wanted = std::any::type_name::<T>();
        text.parse()
            .map(Some)
            .map_err(|_| Error::program(format!("parameter '{name}' is '{text}', which is no {wanted}")))
    }

    /// The parameter's value, or `default`.
    ///
    /// # Errors
    /// As [`Parameters::get`].
    pub fn get_or<T: FromStr>(&self, name: &str, default: T) -> Result<T, Error> {
        Ok(self.get(name)?.unwrap_or(default))
    }

    /// The value of a parameter that must be there.
    ///
    /// # Errors
    /// As [`Parameters::get`], and when it is not there.
    pub fn required<T: FromStr>(&self, name: &str) -> Result<T, Error> {
        self.get(name)?.ok_or_else(|| {
            Error::program(format!(
                "parameter '{name}' is missing: give it as `--{name} value`"
            ))
        })
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl IntoIterator for Parameters {
    type Item = (String, String);
    type IntoIter = std::collections::btree_map::IntoIter<String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.values.into_iter()
    }
}

/// The name in `--name` or `-name`; a negative number is none.
fn name_of(arg: &str) -> Option<&str> {
    let name = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))?;
    let is_number = arg.parse::<f64>().is_ok();
    (!name.is_empty() && !is_number).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn arguments_are_names_with_and_without_values() {
        let parameters = Parameters::from_args(["-a", "1", "--b", "--c", "-2.5", "--b2", "x y"]).unwrap();
        let want = [("a", "1"), ("b", WITHOUT_VALUE), ("b2", "x y"), ("c", "-2.5")];
        assert!(parameters.iter().eq(want));
        assert_eq!(parameters.get::<f64>("c").unwrap(), Some(-2.5));
        assert!(parameters.has("b") && !parameters.has("d"));
        assert_eq!(message(parameters.get::<i32>("b")), "parameter 'b' has no value");
        assert_eq!(
            message(parameters.get::<i32>("b2")),
            "parameter 'b2' is 'x y', which is no i32"
        );
        assert!(message(parameters.required::<i32>("d")).contains("--d value"));
        assert!(message(Parameters::from_args(["a"])).contains("argument 'a'"));
        assert!(message(Parameters::from_args(["--", "a"])).contains("argument '--'"));
    }

    #[test]
    fn properties_are_lines_and_the_stronger_win() {
        let file = Parameters::from_properties("# say\n a = 1 \n\n! more\nb: x=y\nc=").unwrap();
        assert!(file.iter().eq([("a", "1"), ("b", "x=y"), ("c", "")]));
        let all = file.merged_with(Parameters::from_args(["--a", "2"]).unwrap());
        assert!(all.iter().eq([("a", "2"), ("b", "x=y"), ("c", "")]));
        let error = message(Parameters::from_properties("a=1\nnonsense"));
        assert_eq!(error, "line 2 is no property: write `name=value`, not 'nonsense'");
        assert!(message(Parameters::from_file("/no/such/file")).contains("/no/such/file"));
    }
}
