//! What Flink has and is not here: why, for those who ask for it all the same.

use actix_web::http::Method;

const NOT_SERVED: &str = include_str!("../not-served.tsv");

/// Why a request that Flink would serve is not served.
pub(crate) fn why(method: &Method, path: &str) -> Option<&'static str> {
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let rows = NOT_SERVED.lines().filter(|line| !line.starts_with('#'));
    let mut rows = rows.filter_map(|line| {
        let (name, rest) = line.split_once('\t')?;
        let (pattern, why) = rest.split_once('\t')?;
        Some((name, pattern, why))
    });
    let found = rows.find(|(name, pattern, _)| *name == method.as_str() && fits(pattern, path));
    found.map(|(_, _, why)| why)
}

/// Whether a path is one of a pattern, in which names in braces stand for anything.
fn fits(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), parts.next()) {
            (None, None) => return true,
            (Some(name), Some(part)) if name.starts_with('{') && !part.is_empty() => {}
            (Some(name), Some(part)) if name == part => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_here_has_its_reason() {
        let of = |method: Method, path| why(&method, path);
        let submission = of(Method::POST, "/jobs").unwrap();
        assert!(submission.contains("/jars/upload"), "{submission}");
        assert_eq!(of(Method::POST, "/v1/jobs"), Some(submission));
        assert!(of(Method::GET, "/jobs/x/yarn-stop").is_some());
        for (method, path) in [
            (Method::GET, "/jobs"),
            (Method::POST, "/jobs/x"),
            (Method::GET, "/jobs//yarn-stop"),
            (Method::GET, "/"),
        ] {
            assert_eq!(of(method.clone(), path), None, "{method} {path}");
        }
    }
}
