//! The web page. All of it is in the program and nothing is loaded from elsewhere.

use actix_web::{HttpResponse, http::header, web};

/// Mails are shown in a sandboxed frame that inherits this policy: their inline styles work, their scripts and
/// their remote images and fonts do not.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path, content type, content.
const FILES: [(&str, &str, &str); 9] = [
    ("/", HTML, include_str!("../web/index.html")),
    ("/web/style.css", CSS, include_str!("../web/style.css")),
    ("/web/reader.css", CSS, include_str!("../web/reader.css")),
    ("/web/icon.svg", SVG, include_str!("../web/icon.svg")),
    ("/web/app.js", JAVASCRIPT, include_str!("../web/app.js")),
    ("/web/api.js", JAVASCRIPT, include_str!("../web/api.js")),
    ("/web/dom.js", JAVASCRIPT, include_str!("../web/dom.js")),
    ("/web/list.js", JAVASCRIPT, include_str!("../web/list.js")),
    (
        "/web/reader.js",
        JAVASCRIPT,
        include_str!("../web/reader.js"),
    ),
];

pub(super) fn routes(app: &mut web::ServiceConfig) {
    for (path, kind, content) in FILES {
        app.route(
            path,
            web::get().to(move || async move { file(kind, content) }),
        );
    }
}

fn file(kind: &'static str, content: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, kind))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(content)
}
