//! Lists and maps as one line of text: `a;b;c` and `k:v,k:v`, with quotes where a part holds a
//! separator. The syntax is that of Flink's list and map options.

/// Splits at `separator` outside of quotes; `None` when a quote is not closed.
pub(super) fn split(text: &str, separator: char) -> Option<Vec<String>> {
    Some(
        split_raw(text, separator)?
            .iter()
            .map(|part| unquote(part))
            .collect(),
    )
}

/// Splits `k:v,k:v`; `None` when a quote is not closed or a pair has no colon.
pub(super) fn split_map(text: &str) -> Option<Vec<(String, String)>> {
    split_raw(text, ',')?
        .iter()
        .map(|pair| match split_raw(pair, ':')?.as_slice() {
            [key, value] => Some((unquote(key), unquote(value))),
            _ => None,
        })
        .collect()
}

/// The elements of a list as one text.
pub(super) fn join_list(elements: impl Iterator<Item = String>) -> String {
    let quoted: Vec<_> = elements.map(|element| quote(&element, ";")).collect();
    quoted.join(";")
}

/// The pairs of a map as one text.
pub(super) fn join_map<'a>(pairs: impl Iterator<Item = (&'a str, String)>) -> String {
    let quoted: Vec<_> = pairs
        .map(|(key, value)| format!("{}:{}", quote(key, ",:"), quote(&value, ",:")))
        .collect();
    quoted.join(",")
}

/// The parts between separators, still quoted, without the blanks around them. The empty text has
/// no parts.
fn split_raw(text: &str, separator: char) -> Option<Vec<&str>> {
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    let (mut parts, mut start, mut open) = (Vec::new(), 0, None);
    for (at, character) in text.char_indices() {
        match open {
            Some(mark) if character == mark => open = None,
            Some(_) => {}
            None if matches!(character, '\'' | '"') => open = Some(character),
            None if character == separator => {
                parts.push(text[start..at].trim());
                start = at + separator.len_utf8();
            }
            None => {}
        }
    }
    parts.push(text[start..].trim());
    open.is_none().then_some(parts)
}

/// Removes the quotes around a part; a doubled quote inside stands for one.
fn unquote(part: &str) -> String {
    for mark in ['\'', '"'] {
        let inner = part.strip_prefix(mark).and_then(|rest| rest.strip_suffix(mark));
        if let Some(inner) = inner {
            return inner.replace(&format!("{mark}{mark}"), &mark.to_string());
        }
    }
    part.to_owned()
}

fn quote(part: &str, separators: &str) -> String {
    let plain = !part.is_empty()
        && part.trim() == part
        && !part.contains(|character| separators.contains(character) || matches!(character, '\'' | '"'));
    if plain {
        part.to_owned()
    } else {
        format!("'{}'", part.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists() {
        assert_eq!(split("a; b ;c", ';').unwrap(), ["a", "b", "c"]);
        assert_eq!(split("'a;b';\"c'd\"", ';').unwrap(), ["a;b", "c'd"]);
        assert_eq!(split("", ';').unwrap(), [""; 0]);
        assert_eq!(split("a;", ';').unwrap(), ["a", ""]);
        assert_eq!(split("'a", ';'), None);
    }

    #[test]
    fn maps() {
        let pairs = split_map("a:1, 'b:c' : 'd''e'").unwrap();
        assert_eq!(pairs, [("a".into(), "1".into()), ("b:c".into(), "d'e".into())]);
        assert_eq!(split_map("a"), None);
        assert_eq!(split_map("a:b:c"), None);
    }

    proptest! {
        #[test]
        fn lists_round_trip(elements in proptest::collection::vec("[a;,:'\" ]{0,6}", 0..5)) {
            let text = join_list(elements.clone().into_iter());
            prop_assert_eq!(split(&text, ';'), Some(elements));
        }

        #[test]
        fn maps_round_trip(pairs in proptest::collection::vec(("[a;,:'\" ]{0,6}", "[a;,:'\" ]{0,6}"), 0..5)) {
            let text = join_map(pairs.iter().map(|(key, value)| (key.as_str(), value.clone())));
            prop_assert_eq!(split_map(&text), Some(pairs));
        }
    }
}
