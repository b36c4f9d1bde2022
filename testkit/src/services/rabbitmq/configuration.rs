//! The instance's files: its ports, `rabbitmq.conf` with a `conf.d` for what is private, definitions, cookie, plugins;
//! and the environment that makes the node use them and nothing else.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::RabbitMqOptions;
use super::layout::Layout;
use crate::services::ports::KeptPorts;
use crate::services::process::Launch;
use crate::services::{Credentials, credentials, files};

const BASE: &str = include_str!("../../../../rabbitmq.conf");
const DEFINITIONS: &str = include_str!("../../../../deploy/native/definitions.json");
/// Always resolvable, and nobody outside this epmd ever hears of it.
const NODE: &str = "warren@localhost";

#[derive(Debug)]
pub(super) struct Ports {
    pub(super) amqp: u16,
    pub(super) management: u16,
    pub(super) prometheus: u16,
    pub(super) distribution: u16,
    pub(super) epmd: u16,
    kept: KeptPorts,
}

impl Ports {
    pub(super) fn of_folder(folder: &Path, options: &RabbitMqOptions) -> Result<Self> {
        let mut kept = KeptPorts::of_folder(folder);
        Ok(Self {
            amqp: kept.take("amqp", options.port)?,
            management: kept.take("management", options.management_port)?,
            prometheus: kept.take("prometheus", None)?,
            distribution: kept.take("distribution", None)?,
            epmd: kept.take("epmd", None)?,
            kept,
        })
    }

    pub(super) fn release(&self) {
        self.kept.release();
    }
}

pub(super) fn log_path(folder: &Path) -> PathBuf {
    folder.join("log").join(format!("{NODE}.log"))
}

pub(super) fn write(
    folder: &Path,
    ports: &Ports,
    who: &Credentials,
    options: &RabbitMqOptions,
) -> Result<()> {
    files::create_folder(&folder.join("conf.d"))?;
    files::create_folder(&folder.join("log"))?;
    files::write(&folder.join("rabbitmq.conf"), 0o644, BASE)?;
    files::write(
        &folder.join("conf.d/90-private.conf"),
        0o644,
        &private(folder, ports, options),
    )?;
    files::write(
        &folder.join("advanced.config"),
        0o644,
        &advanced(options.statistics_interval),
    )?;
    files::write(
        &folder.join("enabled_plugins"),
        0o644,
        "[rabbitmq_management,rabbitmq_prometheus].\n",
    )?;
    let definitions = DEFINITIONS
        .replace("@USER@", &who.user)
        .replace("@PASSWORD@", &who.password);
    files::write(&folder.join("definitions.json"), 0o600, &definitions)?;
    let cookie = folder.join(".erlang.cookie");
    if !cookie.exists() {
        files::write(&cookie, 0o400, &credentials::random_word())?;
    }
    Ok(())
}

fn private(folder: &Path, ports: &Ports, options: &RabbitMqOptions) -> String {
    let interval = options.statistics_interval.as_millis();
    let mut lines = format!(
        "listeners.tcp.default = 127.0.0.1:{}\n\
         management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {}\n\
         prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {}\n\
         load_definitions = {}\n\
         collect_statistics_interval = {interval}\n",
        ports.amqp,
        ports.management,
        ports.prometheus,
        folder.join("definitions.json").display(),
    );
    for (key, value) in &options.settings {
        let _ = writeln!(lines, "{key} = {value}");
    }
    lines
}

/// Quorum queues report, and channels look for late acknowledgements, on clocks of their own, which `rabbitmq.conf` does
/// not know.
fn advanced(interval: Duration) -> String {
    let tick = interval.as_millis();
    format!(
        "[{{rabbit, [{{quorum_tick_interval, {tick}}}, {{channel_tick_interval, {tick}}}]}}].\n"
    )
}

pub(super) fn launch(layout: &Layout, folder: &Path, ports: &Ports) -> Launch {
    let mut launch = Launch::new("rabbitmq", &layout.server, folder);
    launch.env_without = vec!["RABBITMQ_", "ERL_", "NOTIFY_SOCKET"];
    // A node that is killed soon after a quorum queue was declared comes back with that queue dead.
    launch.drop_grace = Duration::from_secs(15);
    launch.working_dir = Some(folder.to_owned());
    let path = |name: &str| folder.join(name).into_os_string();
    launch
        // The script then becomes the VM instead of waiting for it: one process, and its pid is ours.
        .env("RUNNING_UNDER_SYSTEMD", "true")
        // Where the VM looks for `.erlang.cookie`.
        .env("HOME", folder)
        .env("LANG", "C.UTF-8")
        .env("ERL_EPMD_PORT", ports.epmd.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODENAME", NODE)
        .env("RABBITMQ_DIST_PORT", ports.distribution.to_string())
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}",
        )
        .env("RABBITMQ_MNESIA_BASE", path("data"))
        .env("RABBITMQ_LOG_BASE", path("log"))
        .env("RABBITMQ_PID_FILE", path("node.pid"))
        .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
        .env("RABBITMQ_CONFIG_FILES", path("conf.d"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config"))
        // None: the distribution's would change the above.
        .env("RABBITMQ_CONF_ENV_FILE", path("no-rabbitmq-env.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"))
        .env("RABBITMQ_FEATURE_FLAGS_FILE", path("feature_flags"))
        .env("RABBITMQ_GENERATED_CONFIG_DIR", path("generated"))
}

/// Written once the node was up for the first time.
const BOOTED: &str = "booted";

/// A node that was killed in the middle of its first boot leaves data that it may not start on.
pub(super) fn wipe_half_made(folder: &Path) -> Result<()> {
    if folder.join(BOOTED).exists() {
        Ok(())
    } else {
        wipe(folder)
    }
}

pub(super) fn mark_booted(folder: &Path) -> Result<()> {
    files::write(&folder.join(BOOTED), 0o644, "")
}

pub(super) fn wipe(folder: &Path) -> Result<()> {
    let _ = fs::remove_file(folder.join(BOOTED));
    files::remove_folder(&folder.join("data"))?;
    let _ = fs::remove_file(folder.join("feature_flags"));
    files::remove_folder(&folder.join("generated"))
}
