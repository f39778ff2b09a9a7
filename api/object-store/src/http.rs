//! Requests on their way out: uploads in parts end with a condition.

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use reqwest::Method;
use reqwest::header::{HeaderValue, IF_NONE_MATCH};

/// Connects as usual, and lets the end of an upload in parts succeed only where no object is. `object_store`
/// has that for objects that are sent as a whole.
#[derive(Debug, Default)]
pub(crate) struct CreateOnly {
    inner: ReqwestConnector,
}

impl HttpConnector for CreateOnly {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = self.inner.connect(options)?;
        Ok(HttpClient::new(Conditional { client }))
    }
}

#[derive(Debug)]
struct Conditional {
    client: HttpClient,
}

#[async_trait]
impl HttpService for Conditional {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if ends_upload(request.method(), request.uri().query()) {
            // The signature says which headers it covers. One that it does not cover may be added.
            let headers = request.headers_mut();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        self.client.execute(request).await
    }
}

/// Whether a request makes an object of the parts of an upload.
fn ends_upload(method: &Method, query: Option<&str>) -> bool {
    let mut names = query.unwrap_or_default().split('&');
    *method == Method::POST && names.any(|name| name.starts_with("uploadId="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_an_upload_is_conditional() {
        assert!(ends_upload(&Method::POST, Some("uploadId=abc")));
        assert!(ends_upload(&Method::POST, Some("x=1&uploadId=abc")));
        for (method, query) in [
            (Method::POST, Some("uploads")),
            (Method::POST, Some("uploads=")),
            (Method::POST, Some("delete")),
            (Method::POST, None),
            (Method::PUT, Some("partNumber=1&uploadId=abc")),
            (Method::DELETE, Some("uploadId=abc")),
        ] {
            assert!(!ends_upload(&method, query), "{method} {query:?}");
        }
    }
}
