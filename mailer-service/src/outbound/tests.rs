//! The client against a real endpoint on this machine; names lead where each test says.

mod connecting;
mod outcomes;
mod redirects;

use super::*;
use crate::permit::Always;
use futures_util::future::BoxFuture;
use hyper::{Method, body::Bytes, header::HeaderMap};
use shared::{config::Config, outbound::EndpointUrl};
use std::{collections::VecDeque, io, net::IpAddr, sync::Mutex};
use testkit::endpoint::Endpoint;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The answers to names, in their order; the last one stays.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<VecDeque<Vec<IpAddr>>>>, Arc<Mutex<Vec<String>>>);

impl Names {
    fn leading_to(answers: &[&[&str]]) -> Self {
        let answers = answers
            .iter()
            .map(|answer| answer.iter().map(|text| text.parse().unwrap()).collect());
        Self(Arc::new(Mutex::new(answers.collect())), Arc::default())
    }

    fn asked(&self) -> Vec<String> {
        self.1.lock().unwrap().clone()
    }
}

impl Resolve for Names {
    fn resolve(&self, name: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        self.1.lock().unwrap().push(name);
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 {
            answers.pop_front()
        } else {
            answers.front().cloned()
        };
        Box::pin(async move { answer.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

fn client_with(settings: &[(&str, &str)], names: &Names) -> Client {
    let mut all = vec![
        ("outbound.secrets.default", SECRET),
        ("outbound.max_idle_s", "60"),
    ];
    all.extend(settings);
    let config = Config::with(&all).unwrap();
    Client::with_resolver(&config.outbound, Box::new(names.clone())).unwrap()
}

/// May call this machine, and knows no name.
fn client() -> Client {
    client_with(&[("outbound.allow", "127.0.0.1")], &Names::default())
}

fn url(text: &str) -> EndpointUrl {
    EndpointUrl::parse(text).unwrap()
}

fn call(url: &EndpointUrl, method: Method) -> Call<'_> {
    Call {
        url,
        is_repeatable: method != Method::POST,
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{\"a\": 1}"),
        content_type: (method != Method::GET).then(|| HeaderValue::from_static("application/json")),
        method,
        signature: Some(Signature {
            secret: "default",
            id: "task-1",
        }),
        max_redirects: 0,
        timeout: Duration::from_secs(30),
    }
}

async fn made(client: &Client, call: &Call<'_>) -> Result<Answer, CallError> {
    let deadline = Instant::now() + Duration::from_secs(60);
    client.call(call, &Always::default(), deadline).await
}

async fn made_to(client: &Client, url: &EndpointUrl, method: Method) -> Result<Answer, CallError> {
    made(client, &call(url, method)).await
}

fn ending(outcome: Result<Answer, CallError>) -> (&'static str, Class) {
    let error = outcome.unwrap_err();
    (error.code, error.class)
}
