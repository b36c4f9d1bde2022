//! What is asked of an endpoint, and how it looks on the wire.

use super::{
    error::{CallError, Class, code},
    redirect::Hop,
    sign::Signer,
};
use http_body_util::Full;
use hyper::{
    Method, Request,
    body::Bytes,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use shared::outbound::EndpointUrl;
use std::time::Duration;

/// One call. It may take several requests, when redirects are followed.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    pub url: &'a EndpointUrl,
    pub method: Method,
    /// Of the caller; they stay with the origin of the URL.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// None: there is no body.
    pub content_type: Option<HeaderValue>,
    pub signature: Option<Signature<'a>>,
    pub max_redirects: u8,
    /// For the whole call.
    pub timeout: Duration,
    /// A repeat does no more than the first call.
    pub is_repeatable: bool,
}

/// How a call is signed.
#[derive(Debug, Clone, Copy)]
pub struct Signature<'a> {
    /// The name of the secret.
    pub secret: &'a str,
    /// Equal on every attempt.
    pub id: &'a str,
}

/// Headers of the caller that may go to another origin: they say what is wanted, and nothing of who wants it.
const TRAVELLING: [HeaderName; 3] = [header::ACCEPT, header::ACCEPT_LANGUAGE, header::USER_AGENT];

impl Call<'_> {
    pub(super) fn first_hop(&self) -> Hop {
        Hop {
            url: self.url.clone(),
            method: self.method.clone(),
            has_body: self.content_type.is_some(),
            is_home: true,
        }
    }

    /// The request of a hop. The timestamp is in seconds of the Unix epoch.
    pub(super) fn request(
        &self,
        hop: &Hop,
        user_agent: &HeaderValue,
        signer: Option<&Signer>,
        timestamp: i64,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let body = if hop.has_body {
            self.body.clone()
        } else {
            Bytes::new()
        };
        let unfit = |error: hyper::http::Error| {
            let what = "the request can't be put into HTTP";
            CallError::at(&hop.url, Class::Fail, code::NOT_BUILDABLE, what).caused_by(error)
        };
        let host =
            HeaderValue::from_str(hop.url.authority()).map_err(|error| unfit(error.into()))?;
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 8);
        headers.insert(header::HOST, host);
        headers.insert(header::USER_AGENT, user_agent.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        for (name, value) in &self.headers {
            if hop.is_home || TRAVELLING.contains(name) {
                headers.insert(name, value.clone());
            }
        }
        // What is unpacked could be a thousand times as large as what was sent.
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        if let (true, Some(content_type)) = (hop.has_body, &self.content_type) {
            headers.insert(header::CONTENT_TYPE, content_type.clone());
        }
        if let (true, Some(signature), Some(signer)) = (hop.is_home, self.signature, signer) {
            let value =
                |text: &str| HeaderValue::from_str(text).map_err(|error| unfit(error.into()));
            headers.insert("webhook-id", value(signature.id)?);
            headers.insert("webhook-timestamp", timestamp.into());
            headers.insert(
                "webhook-signature",
                value(&signer.sign(signature.id, timestamp, &body))?,
            );
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = hop.method.clone();
        *request.uri_mut() = hop
            .url
            .path_and_query()
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| unfit(error.into()))?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}
