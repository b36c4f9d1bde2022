//! The whole of Warren on one machine: PostgreSQL, RabbitMQ, the inbox and the two services, started in order,
//! watched, and ended in order.
//!
//! `stack run` shows it to people; the benchmark and the fault runs start the same thing, with proxies in its links
//! and more than one worker.

pub mod exec;
mod http;
mod launches;
mod options;
mod programs;
pub mod run;
mod service;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::launches::{peppers, with_all, with_mail, with_servers};
use self::programs::Programs;
use crate::proxy::Proxy;
use crate::services::ports::KeptPorts;
use crate::services::process::Launch;
use crate::services::{Postgres, RabbitMq, files};

pub use options::{Link, Preferred, StackOptions};
pub use service::Service;

/// The vhost that the services use.
pub const VHOST: &str = "warren";

/// All parts, running. Dropping it kills whatever still runs; [`Stack::stop`] ends it in good order.
#[derive(Debug)]
pub struct Stack {
    pub postgres: Postgres,
    pub rabbitmq: RabbitMq,
    pub inbox: Service,
    pub api: Service,
    /// Those of [`Stack::add_api`].
    pub more_apis: Vec<Service>,
    pub mailers: Vec<Service>,
    proxies: BTreeMap<Link, Proxy>,
    folder: PathBuf,
    programs: Programs,
    options: StackOptions,
    ports: KeptPorts,
    smtp: SocketAddr,
    api_http: SocketAddr,
    api_metrics: SocketAddr,
}

impl Stack {
    /// Starts everything and returns when all of it is ready.
    pub async fn start(options: StackOptions) -> Result<Self> {
        let programs = Programs::find(options.binaries.as_deref())?;
        let folder = files::create_folder(&options.folder)?;
        end_leftovers(&folder, options.mailers).await?;
        let mut ports = KeptPorts::of_folder(&folder);
        let inbox_http = loopback(ports.take("inbox", options.preferred.inbox)?);
        let smtp = loopback(ports.take("smtp", options.preferred.smtp)?);
        let api_http = loopback(ports.take("api", options.preferred.api)?);
        let api_metrics = loopback(ports.take("api-metrics", None)?);

        let (postgres, rabbitmq, inbox) = tokio::try_join!(
            Postgres::start(folder.join("postgres"), options.postgres.clone()),
            RabbitMq::start(folder.join("rabbitmq"), options.rabbitmq.clone()),
            start_inbox(&programs, &folder, inbox_http, smtp, &options.inbox_args),
        )?;
        let proxies = start_proxies(&options.proxied, &postgres, &rabbitmq, smtp).await?;

        let launch = Launch::new("api", &programs.api, &folder);
        let launch = with_servers(
            launch,
            &postgres,
            &rabbitmq,
            &proxies,
            [Link::ApiToDatabase, Link::ApiToBroker],
        );
        let launch = with_mail(
            launch,
            smtp,
            api_http,
            &peppers(&folder)?,
            &folder.join("files"),
        )
        .env("WARREN__HTTP__LISTEN", api_http.to_string())
        .env("WARREN__HTTP__METRICS_LISTEN", api_metrics.to_string());
        let launch = with_all(launch, &options.api_env);
        let mut api = Service::spawn(launch, format!("http://{api_http}"), "/health/ready").await?;
        api.wait_until_ready().await?;

        let mailers = Vec::new();
        let mut stack = Self {
            postgres,
            rabbitmq,
            inbox,
            api,
            more_apis: Vec::new(),
            mailers,
            proxies,
            folder,
            programs,
            options,
            ports,
            smtp,
            api_http,
            api_metrics,
        };
        for _ in 0..stack.options.mailers {
            stack.add_mailer().await?;
        }
        Ok(stack)
    }

    /// Starts one more api-service, with the present settings of the first, and waits until it is ready.
    pub async fn add_api(&mut self) -> Result<&mut Service> {
        let name = format!("api-{}", self.more_apis.len() + 2);
        let http = loopback(self.ports.take(&name, None)?);
        let metrics = loopback(self.ports.take(&format!("{name}-metrics"), None)?);
        let mut launch = self.api.launch().clone();
        launch.name = name;
        let launch = launch
            .env("WARREN__HTTP__LISTEN", http.to_string())
            .env("WARREN__HTTP__METRICS_LISTEN", metrics.to_string());
        let mut api = Service::spawn(launch, format!("http://{http}"), "/health/ready").await?;
        api.wait_until_ready().await?;
        let at = self.more_apis.len();
        self.more_apis.push(api);
        Ok(&mut self.more_apis[at])
    }

    /// Starts one more mailer-service and waits until it is ready.
    pub async fn add_mailer(&mut self) -> Result<&mut Service> {
        let name = format!("mailer-{}", self.mailers.len() + 1);
        let http = loopback(self.ports.take(&name, None)?);
        let launch = Launch::new(&name, &self.programs.mailer, &self.folder);
        let links = [Link::MailerToDatabase, Link::MailerToBroker];
        let launch = with_servers(launch, &self.postgres, &self.rabbitmq, &self.proxies, links);
        let smtp = self
            .proxies
            .get(&Link::MailerToRelay)
            .map_or(self.smtp, Proxy::address);
        let launch = with_mail(
            launch,
            smtp,
            self.api_http,
            &peppers(&self.folder)?,
            &self.folder.join("files"),
        )
        .env("WARREN__WORKER__HTTP_LISTEN", http.to_string());
        let launch = with_all(launch, &self.options.mailer_env);
        let mut mailer = Service::spawn(launch, format!("http://{http}"), "/health/ready").await?;
        mailer.wait_until_ready().await?;
        let at = self.mailers.len();
        self.mailers.push(mailer);
        Ok(&mut self.mailers[at])
    }

    /// Makes an API key with the api-service's own command, which prints it alone on a line.
    pub async fn create_api_key(&self, name: &str) -> Result<String> {
        let mut launch = self.api.launch().clone();
        launch.args = ["key", "create", "--name", name].map(Into::into).to_vec();
        let output = tokio::process::Command::from(launch.command())
            .kill_on_drop(true)
            .output()
            .await;
        let output = output.context("cannot run api-service key create")?;
        let key = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || !key.starts_with("wr_") || key.contains(char::is_whitespace)
        {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "api-service key create gave no key ({}):\n{key}\n{}",
                output.status,
                said.trim()
            );
        }
        Ok(key)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn api_url(&self) -> &str {
        self.api.url()
    }

    pub fn inbox_url(&self) -> &str {
        self.inbox.url()
    }

    /// Where the inbox takes SMTP.
    pub fn smtp_addr(&self) -> SocketAddr {
        self.smtp
    }

    pub fn amqp_url(&self) -> String {
        self.rabbitmq.amqp_url(VHOST)
    }

    /// Prometheus metrics of the api-service and of every mailer-service.
    pub fn metrics_urls(&self) -> Vec<String> {
        let api = format!("http://{}/metrics", self.api_metrics);
        std::iter::once(api)
            .chain(
                self.mailers
                    .iter()
                    .map(|mailer| format!("{}/metrics", mailer.url())),
            )
            .collect()
    }

    /// The proxy in a link; there is one for each of `StackOptions::proxied`.
    pub fn proxy(&self, link: Link) -> Option<&Proxy> {
        self.proxies.get(&link)
    }

    /// Ends everything in good order: services first, so that they finish what runs, then what they stand on. Goes
    /// on after a failure and returns the first.
    pub async fn stop(&mut self) -> Result<()> {
        let services = std::iter::once(&mut self.api)
            .chain(&mut self.more_apis)
            .chain(&mut self.mailers)
            .map(Service::terminate);
        let mut results: Vec<Result<()>> = futures_util::future::join_all(services)
            .await
            .into_iter()
            .map(|ended| ended.map(|_| ()))
            .collect();
        results.push(self.inbox.terminate().await.map(|_| ()));
        let (rabbitmq, postgres) = tokio::join!(self.rabbitmq.stop(), self.postgres.stop());
        results.extend([rabbitmq, postgres]);
        results.into_iter().collect()
    }

    /// Kills everything and deletes the folder.
    pub async fn discard(mut self) -> Result<()> {
        for service in std::iter::once(&mut self.api)
            .chain(&mut self.more_apis)
            .chain(&mut self.mailers)
            .chain([&mut self.inbox])
        {
            service.kill9().await?;
        }
        self.rabbitmq.discard().await?;
        self.postgres.discard().await?;
        self.ports.release();
        files::remove_folder(&self.folder)
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// What a run that was killed left running of the services; the servers look after themselves.
async fn end_leftovers(folder: &Path, mailers: usize) -> Result<()> {
    let mailers = (1..=mailers.max(16)).map(|number| format!("mailer-{number}"));
    let apis = ["api", "api-2", "inbox"].map(str::to_owned);
    for name in mailers.chain(apis) {
        crate::services::process::end_stale(&Launch::new(&name, "", folder)).await?;
    }
    Ok(())
}

async fn start_inbox(
    programs: &Programs,
    folder: &Path,
    http: SocketAddr,
    smtp: SocketAddr,
    args: &[String],
) -> Result<Service> {
    let launch = Launch::new("inbox", &programs.inbox, folder)
        .args([
            "--http".to_owned(),
            http.to_string(),
            "--smtp".to_owned(),
            smtp.to_string(),
        ])
        .args(args);
    let mut inbox = Service::spawn(launch, format!("http://{http}"), "/api/v1/info").await?;
    inbox.wait_until_ready().await?;
    Ok(inbox)
}

async fn start_proxies(
    links: &[Link],
    postgres: &Postgres,
    rabbitmq: &RabbitMq,
    smtp: SocketAddr,
) -> Result<BTreeMap<Link, Proxy>> {
    let mut proxies = BTreeMap::new();
    for link in links {
        let upstream = match link {
            Link::ApiToBroker | Link::MailerToBroker => loopback(rabbitmq.port()),
            Link::ApiToDatabase | Link::MailerToDatabase => loopback(postgres.port()),
            Link::MailerToRelay => smtp,
        };
        proxies.insert(*link, Proxy::start(upstream.to_string()).await?);
    }
    Ok(proxies)
}
