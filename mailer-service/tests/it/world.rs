//! A Warren of its own for each test.

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use shared::{config::Config, db::Session};
use std::time::Duration;
use testkit::{
    harness::{Events, TestEnv},
    inbox::{Inbox, InboxOptions},
};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes, even on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) env: TestEnv,
    pub(crate) inbox: Inbox,
    config: Config,
    api: Option<(api_service::service::Running, CancellationToken)>,
    mailers: Vec<(mailer_service::service::Running, CancellationToken)>,
    url: String,
    key: String,
    http: Client,
}

impl World {
    /// With one api-service and one mailer-service.
    pub(crate) async fn new(name: &str) -> Self {
        let mut world = Self::without_mailer(name, &[]).await;
        world.start_mailer();
        world
    }

    /// Likewise, with these settings.
    pub(crate) async fn started(name: &str, settings: &[(&str, &str)]) -> Self {
        let mut world = Self::without_mailer(name, settings).await;
        world.start_mailer();
        world
    }

    /// A request without a key, to a path from the root.
    pub(crate) async fn open(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let root = self.url.trim_end_matches("/api/v1");
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method, format!("{root}{path}"));
        let request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.to_owned());
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// A key with other scopes.
    pub(crate) async fn key_with(&self, scopes: &'static [api_service::auth::Scope]) -> String {
        let database = self.config.database.clone();
        tokio::task::spawn_blocking(move || {
            Session::new(&database).run(|connection| {
                Ok(api_service::cli::key::create(connection, "other", None, scopes).unwrap())
            })
        })
        .await
        .unwrap()
        .unwrap()
    }

    /// Posts with another key; returns the headers too, without those that differ by request.
    pub(crate) async fn post_as(
        &self,
        key: &str,
        path: &str,
        body: &Value,
    ) -> (u16, Vec<(String, String)>, Value) {
        let request = self.http.post(format!("{}{path}", self.url));
        let answer = request.bearer_auth(key).json(body).send().await.unwrap();
        let status = answer.status().as_u16();
        let told = |name: &str| !["x-request-id", "date", "location"].contains(&name);
        let headers = answer
            .headers()
            .iter()
            .filter(|(name, _)| told(name.as_str()))
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        (status, headers, answer.json().await.unwrap())
    }

    /// Status, Retry-After and body.
    pub(crate) async fn raw_post(&self, path: &str, body: &Value) -> (u16, String, Value) {
        let request = self.http.post(format!("{}{path}", self.url));
        let request = request.bearer_auth(&self.key).json(body);
        let answer = request.send().await.unwrap();
        let retry_after = answer.headers().get("retry-after");
        let retry_after = retry_after.map_or("", |value| value.to_str().unwrap());
        let (status, retry_after) = (answer.status().as_u16(), retry_after.to_owned());
        (status, retry_after, answer.json().await.unwrap())
    }

    /// Under an Idempotency-Key; status and the body as it came.
    pub(crate) async fn post_keyed(&self, path: &str, key: &str, body: &Value) -> (u16, String) {
        let request = self.http.post(format!("{}{path}", self.url));
        let request = request
            .bearer_auth(&self.key)
            .header("idempotency-key", key)
            .json(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// To any URL, as another api-service has.
    pub(crate) async fn post_to(&self, url: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(url).bearer_auth(&self.key).json(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// A body of another type than JSON; the answer must be 200.
    pub(crate) async fn post_raw(&self, path: &str, content_type: &str, body: String) -> Value {
        let request = self.http.post(format!("{}{path}", self.url));
        let request = request
            .bearer_auth(&self.key)
            .header("content-type", content_type)
            .body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    pub(crate) async fn without_mailer(name: &str, settings: &[(&str, &str)]) -> Self {
        Self::within(TestEnv::new(name).await, settings).await
    }

    /// Without a mailer, on servers that the test has chosen.
    pub(crate) async fn within(env: TestEnv, settings: &[(&str, &str)]) -> Self {
        let inbox = Inbox::start(InboxOptions::default()).unwrap();
        let smtp = inbox.smtp_addr();
        let port = smtp.port().to_string();
        let mut all = vec![
            ("database.url", env.database_url.as_str()),
            ("database.pool_size", "2"),
            ("broker.url", env.amqp_url.as_str()),
            ("http.listen", "127.0.0.1:0"),
            ("http.metrics_listen", "127.0.0.1:0"),
            ("worker.http_listen", "127.0.0.1:0"),
            ("service.demo_kinds", "true"),
            ("service.shutdown_grace_s", "10"),
            ("mail.default_from", "Warren <warren@example.com>"),
            ("mail.relays.default.port", &port),
            ("mail.relays.default.tls", "none"),
            ("mail.relays.default.connections", "4"),
        ];
        all.extend(settings);
        let config = Config::with(&all).unwrap();
        let stop = CancellationToken::new();
        let api = api_service::service::start(&config, stop.clone()).unwrap();
        let url = format!("http://{}/api/v1", api.api_addr);
        let mut world = Self {
            key: String::new(),
            http: testkit::http::client(),
            mailers: Vec::new(),
            api: Some((api, stop)),
            url,
            config,
            inbox,
            env,
        };
        world.wait_ready().await;
        let database = world.config.database.clone();
        world.key = tokio::task::spawn_blocking(move || {
            Session::new(&database).run(|connection| {
                Ok(api_service::cli::key::create(
                    connection,
                    "test",
                    None,
                    &[api_service::auth::Scope::Admin],
                )
                .unwrap())
            })
        })
        .await
        .unwrap()
        .unwrap();
        world
    }

    /// The schema is there and the broker is connected, so that tests begin from the same state.
    async fn wait_ready(&self) {
        let ready = format!("{}/health", self.url);
        self.env
            .wait_until(LONG, "the api-service to be ready", async || {
                let Ok(answer) = self.http.get(&ready).send().await else {
                    return false;
                };
                answer
                    .json::<Value>()
                    .await
                    .is_ok_and(|health| health["status"] == "ok")
            })
            .await;
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn start_mailer(&mut self) {
        let stop = CancellationToken::new();
        let mailer = mailer_service::service::start(&self.config, stop.clone()).unwrap();
        self.mailers.push((mailer, stop));
    }

    /// Another api-service on the same database and broker.
    pub(crate) fn start_api_replica(&self) -> (api_service::service::Running, CancellationToken) {
        let stop = CancellationToken::new();
        let replica = api_service::service::start(&self.config, stop.clone()).unwrap();
        (replica, stop)
    }

    /// Stops the api-service in order, and starts it anew.
    pub(crate) async fn restart_api(&mut self) {
        self.stop_api().await;
        let api = self.start_api_replica();
        self.url = format!("http://{}/api/v1", api.0.api_addr);
        self.api = Some(api);
        self.wait_ready().await;
    }

    async fn stop_api(&mut self) {
        let (api, stop) = self.api.take().unwrap();
        stop.cancel();
        api.wait().await.unwrap();
    }

    /// Stops the oldest mailer in order, and waits until it has.
    pub(crate) async fn stop_mailer(&mut self) {
        let (mailer, stop) = self.mailers.remove(0);
        stop.cancel();
        mailer.wait().await.unwrap();
    }

    /// Waits until the oldest mailer has ended by itself.
    pub(crate) async fn mailer_ends(&mut self) -> mailer_service::service::Ended {
        let (mailer, _) = self.mailers.remove(0);
        mailer.wait().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.send(Method::POST, path, body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.send(Method::PATCH, path, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.send(Method::PUT, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> StatusCode {
        self.send(Method::DELETE, path, &Value::Null).await.0
    }

    pub(crate) async fn upload(&self, content: Vec<u8>) -> (u16, Value) {
        let sent = self
            .http
            .post(format!("{}/files", self.url))
            .bearer_auth(&self.key)
            .body(content)
            .send();
        let answer = sent.await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// The tables that hold the text in any column, whatever the case.
    pub(crate) async fn tables_with(&self, text: &str) -> Vec<String> {
        let names = "select tablename as name from pg_tables where schemaname = current_schema()";
        let mut found = Vec::new();
        for name in self.env.rows(names).await {
            let name = name["name"].as_str().unwrap();
            let count = format!(
                "select count(*) from {name} as t where position(lower('{text}') in lower(t::text)) > 0"
            );
            if self.env.sql::<i64>(&count).await > 0 {
                found.push(name.to_owned());
            }
        }
        found
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> (StatusCode, Value) {
        let answer = self
            .http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.key)
            .json(body)
            .send()
            .await
            .unwrap();
        let status = answer.status();
        let body = answer.bytes().await.unwrap();
        let empty = body.is_empty().then_some(Value::Null);
        let body = empty.unwrap_or_else(|| serde_json::from_slice(&body).unwrap());
        (status, body)
    }

    /// Posts a task that must be accepted; returns its id.
    pub(crate) async fn accept(&self, body: &Value) -> String {
        let (status, task) = self.post("/tasks", body).await;
        assert_eq!(status, 202, "{task}");
        task["id"].as_str().unwrap().to_owned()
    }

    /// A mail to one address, with further fields for the task.
    pub(crate) async fn mail(&self, to: &str, fields: Value) -> String {
        let mut body = json!({"kind": "email.send", "payload": {"to": to, "subject": "Hello", "text": "Hi there"}});
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().cloned().unwrap_or_default());
        self.accept(&body).await
    }

    pub(crate) async fn task(&self, id: &str) -> Value {
        self.get(&format!("/tasks/{id}")).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self
            .http
            .get(format!("{}{path}", self.url))
            .bearer_auth(&self.key)
            .send()
            .await
            .unwrap();
        answer.json().await.unwrap()
    }

    /// Follows a task, at this replica of the API or another.
    pub(crate) async fn follow(&self, id: &str, after: &str) -> Events {
        self.follow_at(&self.url, id, after).await
    }

    pub(crate) async fn follow_at(&self, url: &str, id: &str, after: &str) -> Events {
        let request = self.http.get(format!("{url}/tasks/{id}/events"));
        let request = request
            .bearer_auth(&self.key)
            .header("Last-Event-ID", after);
        Events::of(request.send().await.unwrap())
    }

    /// Another api-service on the same database and broker, its URL, and what stops it.
    pub(crate) fn replica(&self) -> (api_service::service::Running, String, CancellationToken) {
        let stop = CancellationToken::new();
        let running = api_service::service::start(&self.config, stop.clone()).unwrap();
        let url = format!("http://{}/api/v1", running.api_addr);
        (running, url, stop)
    }

    /// The metrics of the oldest mailer.
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.mailers[0].0.http_addr);
        let answer = self.http.get(url).send().await.unwrap();
        answer.text().await.unwrap()
    }

    /// Waits until the task is in that state, and returns it.
    pub(crate) async fn wait_for(&self, id: &str, status: &str) -> Value {
        self.env
            .wait_until(LONG, &format!("the task to be {status}"), async || {
                self.task(id).await["status"] == status
            })
            .await;
        self.task(id).await
    }

    /// Waits until no task queue holds a message, ready or unacknowledged.
    pub(crate) async fn wait_until_queues_are_empty(&self) {
        self.env
            .wait_until(LONG, "all task queues to be empty", async || {
                let queues = self.env.queues().await;
                queues
                    .iter()
                    .filter(|queue| queue.name != "warren.dead")
                    .all(|queue| queue.messages == 0)
            })
            .await;
    }

    /// Stops everything; a test that gets here leaves nothing behind in the task queues.
    pub(crate) async fn finish(mut self) {
        while !self.mailers.is_empty() {
            self.stop_mailer().await;
        }
        self.stop_api().await;
        self.inbox.stop().await;
        self.env.finish().await;
    }
}
