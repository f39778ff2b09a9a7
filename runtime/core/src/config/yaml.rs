//! A YAML file as a list of settings with their lines.
//!
//! Keys may be flat (`pipeline.name: clicks`), nested, or both; nested ones are joined by dots.
//! Values stay the text that was written, so that `1.10` is not mistaken for `1.1`. Anchors,
//! aliases and further documents are refused: nothing in a configuration needs them.

use granit_parser::{Event, Marker, Parser, ScalarStyle, StrInput};

use super::{AnyOption, ConfigError, Shape, find, structured};

/// Nested maps and sequences deeper than this are refused.
const MAX_DEPTH: usize = 32;

/// One setting of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) key: String,
    pub(super) line: u32,
    pub(super) value: Value,
}

/// The value of a setting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A scalar, or a sequence or mapping written as an option's text.
    Text(String),
    /// A sequence where the key's option, if any, wants something else.
    Sequence,
}

/// A node of the file.
enum Node {
    Null,
    Scalar(String),
    Sequence(Vec<Node>),
    Mapping(Vec<(String, u32, Node)>),
}

/// The settings in `text`, in their order.
///
/// # Errors
///
/// [`ConfigError::Syntax`] with the line of the first thing that is not understood.
pub(super) fn read(file: &str, text: &str) -> Result<Vec<Line>, ConfigError> {
    let mut reader = Reader {
        file,
        events: Parser::new_from_str(text),
        line: 1,
    };
    let mut lines = Vec::new();
    match reader.document()? {
        Node::Null => {}
        Node::Mapping(entries) => flatten("", entries, &mut lines),
        _ => return Err(reader.problem("expected options as `key: value`")),
    }
    Ok(lines)
}

fn flatten(prefix: &str, entries: Vec<(String, u32, Node)>, lines: &mut Vec<Line>) {
    for (name, line, node) in entries {
        let key = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}.{name}")
        };
        let value = match node {
            // A key without a value sets nothing, but must be an option or a section of some.
            Node::Null if find(&key).is_some() || is_section(&key) => continue,
            Node::Null => Value::Text(String::new()),
            Node::Scalar(text) => Value::Text(text),
            Node::Sequence(elements) => sequence_value(find(&key), elements),
            Node::Mapping(entries) => match map_text(find(&key), &entries) {
                Some(text) => Value::Text(text),
                None => {
                    flatten(&key, entries, lines);
                    continue;
                }
            },
        };
        lines.push(Line { key, line, value });
    }
}

fn is_section(key: &str) -> bool {
    super::all().any(|option| {
        option
            .key()
            .strip_prefix(key)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

fn sequence_value(option: Option<&dyn AnyOption>, elements: Vec<Node>) -> Value {
    let wanted = option.is_none_or(|option| option.shape() == Shape::List);
    let texts: Option<Vec<String>> = elements.into_iter().map(Node::into_scalar).collect();
    match texts {
        Some(texts) if wanted => Value::Text(structured::join_list(texts.into_iter())),
        _ => Value::Sequence,
    }
}

/// The entries of a map option as its text; `None` when `option` is not one.
fn map_text(option: Option<&dyn AnyOption>, entries: &[(String, u32, Node)]) -> Option<String> {
    if option?.shape() != Shape::Map {
        return None;
    }
    let pairs: Option<Vec<(&str, String)>> = entries
        .iter()
        .map(|(name, _, node)| match node {
            Node::Scalar(text) => Some((name.as_str(), text.clone())),
            _ => None,
        })
        .collect();
    Some(structured::join_map(pairs?.into_iter()))
}

impl Node {
    fn into_scalar(self) -> Option<String> {
        match self {
            Self::Scalar(text) => Some(text),
            _ => None,
        }
    }
}

struct Reader<'a> {
    file: &'a str,
    events: Parser<'a, StrInput<'a>>,
    line: u32,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Node, ConfigError> {
        let mut found = Node::Null;
        let (mut documents, mut begins) = (0, self.line);
        loop {
            match self.next()? {
                Event::StreamEnd => {
                    // What is said of the whole is said of its beginning.
                    self.line = begins;
                    return Ok(found);
                }
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(self.problem("a second document; a configuration is one"));
                    }
                }
                event => {
                    begins = self.line;
                    found = self.node(event, 0)?;
                }
            }
        }
    }

    fn next(&mut self) -> Result<Event<'a>, ConfigError> {
        match self.events.next() {
            Some(Ok((event, span))) => {
                self.line = line_of(&span.start);
                Ok(event)
            }
            Some(Err(error)) => {
                self.line = line_of(error.marker());
                Err(self.problem(&format!("not YAML: {}", error.kind())))
            }
            None => Ok(Event::StreamEnd),
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Node, ConfigError> {
        if depth > MAX_DEPTH {
            return Err(self.problem("nested too deeply"));
        }
        match event {
            Event::Scalar(text, ScalarStyle::Plain, 0, _) if is_null(&text) => Ok(Node::Null),
            Event::Scalar(text, _, 0, _) => Ok(Node::Scalar(text.into_owned())),
            Event::SequenceStart(_, 0, _) => self.sequence(depth),
            Event::MappingStart(_, 0, _) => self.mapping(depth),
            Event::Alias(_) | Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) => {
                Err(self.problem("anchors and aliases are not supported; write the value out"))
            }
            _ => Err(self.problem("expected a value")),
        }
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, ConfigError> {
        let mut elements = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Node::Sequence(elements)),
                event => elements.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Node, ConfigError> {
        let mut entries = Vec::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(Node::Mapping(entries)),
                Event::Scalar(key, _, 0, _) if !key.is_empty() => key.into_owned(),
                _ => return Err(self.problem("expected the key of an option")),
            };
            let line = self.line;
            let event = self.next()?;
            entries.push((key, line, self.node(event, depth + 1)?));
        }
    }

    fn problem(&self, problem: &str) -> ConfigError {
        ConfigError::Syntax {
            file: self.file.to_owned(),
            line: self.line,
            problem: problem.to_owned(),
        }
    }
}

/// The null values of YAML's core schema.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn line_of(marker: &Marker) -> u32 {
    u32::try_from(marker.line()).unwrap_or(u32::MAX)
}
