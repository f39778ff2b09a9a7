//! `/openapi.json`: what this API is, for programs. A test generates it from the tables beside the sources.

use actix_web::HttpResponse;

const OPENAPI: &str = include_str!("../../../docs/reference/openapi.json");

pub(crate) async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(OPENAPI)
}
