//! An api-service with a schema and a vhost of its own.

use api_service::{auth::Scope, cli::key, service};
use reqwest::{Method, RequestBuilder, header::HeaderMap};
use secrecy::ExposeSecret;
use serde_json::Value;
use shared::{
    config::Config,
    db::{self, Session},
    telemetry,
};
use std::time::Duration;
use testkit::{
    harness::{TestEnv, wait_until},
    proxy::Proxy,
};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A running service.
pub(crate) struct Api {
    pub(crate) env: TestEnv,
    pub(crate) key: String,
    pub(crate) url: String,
    /// Of the listener that needs no key.
    pub(crate) internal_url: String,
    pub(crate) client: reqwest::Client,
    config: Config,
    running: service::Running,
    stop: CancellationToken,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The slug of a problem, which it must be.
    #[track_caller]
    pub(crate) fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        let instance = format!("urn:request:{}", self.header("x-request-id"));
        assert_eq!(problem["instance"], instance);
        assert!(problem["title"].is_string());
        problem["type"]
            .as_str()
            .unwrap()
            .strip_prefix("/problems/")
            .unwrap()
            .to_owned()
    }

    /// Where the errors are: pointers, parameters or headers.
    pub(crate) fn places(&self) -> Vec<String> {
        let errors = self.json()["errors"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        errors
            .iter()
            .map(|error| {
                let place = ["pointer", "parameter", "header"]
                    .into_iter()
                    .find_map(|name| error[name].as_str());
                place.unwrap().to_owned()
            })
            .collect()
    }

    /// The id of what was accepted.
    #[track_caller]
    pub(crate) fn accepted(&self) -> String {
        assert_eq!(self.status, 202, "{self:?}");
        let id = self.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(self.header("location"), format!("/api/v1/tasks/{id}"));
        id
    }
}

impl Api {
    pub(crate) async fn start(name: &str) -> Self {
        Self::start_with(name, &[]).await
    }

    pub(crate) async fn start_with(name: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_in(TestEnv::new(name).await, settings).await
    }

    /// With a proxy between the service and its database.
    pub(crate) async fn start_behind_proxy(name: &str, settings: &[(&str, &str)]) -> (Self, Proxy) {
        let env = TestEnv::new(name).await;
        let authority = env
            .database_url
            .split("://")
            .nth(1)
            .unwrap()
            .split('/')
            .next()
            .unwrap();
        let server = authority.rsplit('@').next().unwrap();
        let proxy = Proxy::start(server).await.unwrap();
        let url = env
            .database_url
            .replace(server, &proxy.address().to_string());
        let mut all = vec![("database.url", url.as_str())];
        all.extend_from_slice(settings);
        (Self::start_in(env, &all).await, proxy)
    }

    async fn start_in(env: TestEnv, settings: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("database.url", env.database_url.as_str()),
            ("broker.url", env.amqp_url.as_str()),
            ("http.listen", "127.0.0.1:0"),
            ("http.metrics_listen", "127.0.0.1:0"),
            ("service.demo_kinds", "true"),
            ("service.shutdown_grace_s", "5"),
            ("mail.default_from", "Shop <shop@example.com>"),
        ];
        all.extend_from_slice(settings);
        let level = std::env::var("WARREN_TEST_LOG").unwrap_or_else(|_| "off".into());
        all.extend([("log.level", level.as_str()), ("log.format", "pretty")]);
        let config = Config::with(&all).unwrap();
        // The first test of the process sets it up for all.
        let _already = telemetry::init_log(&config.log);
        // Keys are made beside the service, whose way to the database a test may have bent.
        let direct = Config::with(&[("database.url", &env.database_url)]).unwrap();
        let key = make_key(direct, &[Scope::Admin]).await;
        let stop = CancellationToken::new();
        let running = service::start(&config, stop.clone()).unwrap();
        let api = Self {
            key,
            url: format!("http://{}", running.api_addr),
            internal_url: format!("http://{}", running.internal_addr),
            client: testkit::http::client(),
            config,
            running,
            stop,
            env,
        };
        // RabbitMQ 3.10 does not survive the deletion of a queue that is being declared (its supervisor of
        // dead-letter workers ends, and no later queue works), so no test ends before the declarations have.
        let has_broker = api.config.broker.url.expose_secret() == api.env.amqp_url;
        wait_until(LONG, "the service to be ready", async || {
            let is_ready = api.open(Method::GET, "/health/ready").await.status == 200;
            let is_up = async || api.open(Method::GET, "/health").await.json()["broker"] == "up";
            is_ready && (!has_broker || is_up().await)
        })
        .await;
        api
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// A key that may do only that.
    pub(crate) async fn key_with(&self, scopes: &'static [Scope]) -> String {
        let direct = Config::with(&[("database.url", &self.env.database_url)]).unwrap();
        make_key(direct, scopes).await
    }

    /// Does something as the command line would: beside the service, straight on the database.
    pub(crate) async fn on_database<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut diesel::PgConnection) -> T + Send + 'static,
    ) -> T {
        let direct = Config::with(&[("database.url", &self.env.database_url)]).unwrap();
        let working = move || {
            Session::new(&direct.database)
                .run(|connection| Ok(work(connection)))
                .unwrap()
        };
        tokio::task::spawn_blocking(working).await.unwrap()
    }

    /// Another replica on the same database and broker.
    pub(crate) fn replica(&self) -> (service::Running, CancellationToken) {
        let stop = CancellationToken::new();
        (service::start(&self.config, stop.clone()).unwrap(), stop)
    }

    /// A request with the key.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.key)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(body)).await
    }

    /// Without a key.
    pub(crate) async fn open(&self, method: Method, path: &str) -> Answer {
        Answer::of(self.client.request(method, format!("{}{path}", self.url))).await
    }

    pub(crate) async fn noop(&self) -> String {
        let body = serde_json::json!({"kind": "demo.noop", "payload": {}});
        self.post("/api/v1/tasks", &body).await.accepted()
    }

    pub(crate) async fn finish(self) {
        self.stop().await.finish().await;
    }

    /// Stops the service; what it has left behind is still there.
    pub(crate) async fn stop(self) -> TestEnv {
        self.stop.cancel();
        self.running.wait().await.unwrap();
        self.env
    }
}

async fn make_key(config: Config, scopes: &'static [Scope]) -> String {
    let making = move || {
        Session::new(&config.database)
            .run(|connection| {
                db::migrate(connection).unwrap();
                Ok(key::create(connection, "test", None, scopes).unwrap())
            })
            .unwrap()
    };
    tokio::task::spawn_blocking(making).await.unwrap()
}
