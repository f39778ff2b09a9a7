//! Keys that are folders of the server's directory: to S3 they are nothing.

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use std::path::Path;

/// The answer to a request for an object that cannot be one; `None` for everything else.
pub(crate) fn answer(dir: &Path, request: &Request<Incoming>) -> Option<Response<s3s::Body>> {
    let deletes = request.method() == Method::DELETE;
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    if !(reads || deletes) || request.uri().query().is_some() {
        return None;
    }
    let path = decoded(request.uri().path())?;
    let (bucket, key) = path.trim_start_matches('/').split_once('/')?;
    let bucket = dir.join(bucket);
    if key.is_empty() || !bucket.is_dir() || bucket.join(key).is_file() {
        return None;
    }
    if deletes {
        let mut answer = Response::new(s3s::Body::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        return Some(answer);
    }
    let page = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code></Error>".to_owned();
    let mut answer = Response::new(s3s::Body::from(page));
    *answer.status_mut() = StatusCode::NOT_FOUND;
    Some(answer)
}

fn decoded(path: &str) -> Option<String> {
    let mut parts = path.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}
