//! The services' configuration, by environment only: where the servers are, where mail goes.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::{Link, VHOST};
use crate::proxy::Proxy;
use crate::services::credentials::random_word;
use crate::services::files;
use crate::services::process::Launch;
use crate::services::{Postgres, RabbitMq};

/// The URLs of database and broker, through the proxies where there are any.
pub(super) fn with_servers(
    launch: Launch,
    postgres: &Postgres,
    rabbitmq: &RabbitMq,
    proxies: &BTreeMap<Link, Proxy>,
    [database, broker]: [Link; 2],
) -> Launch {
    let through = |url: String, port: u16, link: Link| match proxies.get(&link) {
        Some(proxy) => url.replace(
            &format!("@127.0.0.1:{port}/"),
            &format!("@{}/", proxy.address()),
        ),
        None => url,
    };
    launch
        .env(
            "WARREN__DATABASE__URL",
            through(postgres.url(), postgres.port(), database),
        )
        .env(
            "WARREN__BROKER__URL",
            through(rabbitmq.amqp_url(VHOST), rabbitmq.port(), broker),
        )
}

/// Where mail goes, where the links in it lead, what these are made with, and where attachments are.
pub(super) fn with_mail(
    launch: Launch,
    smtp: SocketAddr,
    api: SocketAddr,
    peppers: &str,
    files: &Path,
) -> Launch {
    launch
        .env("WARREN__FILES__URL", format!("file://{}", files.display()))
        .env("WARREN__HTTP__PUBLIC_URL", format!("http://{api}"))
        .env("WARREN__SECRETS__PEPPERS", peppers)
        .env("WARREN__SERVICE__DEMO_KINDS", "true")
        .env("WARREN__LOG__FORMAT", "pretty")
        // The logs are files; `stack run` colours what it shows on a terminal.
        .env("NO_COLOR", "1")
        .env("WARREN__MAIL__DEFAULT_FROM", "Warren <warren@example.com>")
        .env("WARREN__MAIL__RELAYS__DEFAULT__HOST", smtp.ip().to_string())
        .env(
            "WARREN__MAIL__RELAYS__DEFAULT__PORT",
            smtp.port().to_string(),
        )
        .env("WARREN__MAIL__RELAYS__DEFAULT__TLS", "none")
}

/// The secret of the folder, made at the first call: what was made with it outlives a restart.
pub(super) fn peppers(folder: &Path) -> Result<String> {
    let path = folder.join("peppers");
    if let Ok(kept) = fs::read_to_string(&path) {
        return Ok(kept.trim().to_owned());
    }
    // Hexadecimal digits are base64 too: 48 bytes, 244 bits of them random.
    let made = format!("local:{}{}", random_word(), random_word());
    files::write(&path, 0o600, &format!("{made}\n"))?;
    Ok(made)
}

/// Later variables replace earlier ones of the same name.
pub(super) fn with_all(launch: Launch, env: &[(String, String)]) -> Launch {
    env.iter()
        .fold(launch, |launch, (key, value)| launch.env(key, value))
}
