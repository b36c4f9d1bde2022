//! `/openapi.json` and `/docs`, the page that renders it; `/asyncapi.json`.

use crate::{app::Endpoint, asyncapi, openapi};
use actix_web::{
    HttpResponse,
    http::header,
    web::{Bytes, ServiceConfig},
};

pub fn configure(app: &mut ServiceConfig) {
    for path in ["/openapi.json", "/api/v1/openapi.json"] {
        app.service(Endpoint::at(path).get(document).build());
    }
    for path in ["/asyncapi.json", "/api/v1/asyncapi.json"] {
        app.service(Endpoint::at(path).get(messages).build());
    }
    for path in ["/docs", "/api/v1/docs", "/"] {
        app.service(Endpoint::at(path).get(page).build());
    }
    app.service(Endpoint::at("/docs/docs.css").get(style).build())
        .service(Endpoint::at("/docs/docs.js").get(script).build())
        .service(Endpoint::at("/docs/render.js").get(render).build());
}

async fn document() -> HttpResponse {
    file("application/json", openapi::json())
}

async fn messages() -> HttpResponse {
    file("application/json", asyncapi::json())
}

async fn page() -> HttpResponse {
    super::html(include_str!("docs.html"))
}

async fn style() -> HttpResponse {
    file("text/css; charset=utf-8", include_str!("docs.css"))
}

async fn script() -> HttpResponse {
    file("text/javascript; charset=utf-8", include_str!("docs.js"))
}

async fn render() -> HttpResponse {
    file("text/javascript; charset=utf-8", include_str!("render.js"))
}

/// Changes with the program alone, so a browser need only ask whether it has.
fn file(content_type: &str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(Bytes::from_static(text.as_bytes()))
}
