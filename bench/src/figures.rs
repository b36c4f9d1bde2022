//! `bench bench`: what the pair reaches on this machine, as Markdown.
//!
//! A private stack of the release binaries, a sink that keeps little, and the load generator share the machine, as the
//! rivals' did when they were measured. Every figure is the median of several runs, and each run of the accepting
//! figures follows a run of the bare echo server, so that the ratio between the two holds in a noisy hour as well.
//! Between runs, tables, queues and sink are emptied.

pub mod accept;
pub mod drain;
pub mod history;
pub mod lanes;
pub mod latency;
pub mod operating;
pub mod outage;
pub mod profile;
pub mod report;
pub mod scheduled;
pub mod streams;
pub mod templates;
pub mod verify;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use self::profile::Profiled;
use self::report::Report;
use crate::echo::Echo;
use crate::load::{Body, Load, Plan, Tally};
use crate::machine;
use crate::rig::Rig;

/// Connections of the loads that are not about a single one.
pub const CONNECTIONS: usize = 64;
/// The api-service's default, and so the echo server's number.
const HTTP_WORKERS: usize = 2;
const WARM_UP: Duration = Duration::from_secs(1);
/// How long a fresh stack is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(3);
const MEGABYTE: f64 = 1_048_576.0;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only these, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<Figure>,
    /// Runs of each figure
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    runs: u8,
    /// Seconds of each run of a load
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Finished tasks in the table for the figure `history`
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=20_000_000))]
    history: u64,
    /// Instead of the figures, only a profile (Linux perf) of the api-service while accepting, or of the mailer-service
    /// while draining
    #[arg(long)]
    profile: Option<Profiled>,
    /// Leave the folder with all logs
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// Request start to SMTP sink, single mails at idle
    Latency,
    /// Accepting at 64 connections, workers stopped
    Accept,
    /// Accepting on one connection, workers stopped
    Single,
    /// Accepting while the broker is down, and the catching up
    BrokerDown,
    /// Draining queued mails
    Drain,
    /// Draining queued no-ops
    Noop,
    /// Accepting while the worker sends
    Sending,
    /// Mails made of a template, and signed
    Templates,
    /// Verification codes: asking for them, and how soon they are there
    Verify,
    /// Starts of high and low tasks in a flood of the other
    Lanes,
    /// How soon a cancelled task ends and a paused queue rests
    Operating,
    /// 100,000 scheduled tasks: how late they start
    Scheduled,
    /// A thousand event streams open in one api-service
    Streams,
    /// Accepting and draining beside finished tasks
    History,
}

/// What the figures are measured with.
pub struct Bench {
    pub rig: Rig,
    pub echo: Echo,
    pub runs: u8,
    pub time: Duration,
    /// Finished tasks of the figure that is about them.
    pub history: u64,
    pub report: Report,
}

/// Measures and prints.
pub async fn run(arguments: Arguments) -> Result<bool> {
    eprintln!("starting a stack");
    let rig = Rig::start(arguments.keep, |_| ()).await?;
    let mut bench = Bench {
        report: Report::new(machine::describe(&rig).await?),
        rig,
        echo: Echo::start(HTTP_WORKERS).await?,
        runs: arguments.runs,
        time: Duration::from_secs(arguments.seconds),
        history: arguments.history,
    };
    if let Some(profiled) = arguments.profile {
        println!("{}", profile::run(&mut bench, profiled).await?);
        return Ok(true);
    }
    let before = bench.memory_at_idle().await;
    for figure in Figure::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(figure) {
            eprintln!("measuring {figure:?}");
            bench.measure(*figure).await?;
        }
    }
    bench.report_memory(before);
    println!("{}", bench.report);
    if arguments.only.is_empty() {
        eprintln!("profiling the api-service");
        match profile::run(&mut bench, Profiled::Accept).await {
            Ok(profile) => println!("The api-service while accepting, by perf:\n\n{profile}"),
            Err(error) => println!("- no profile of the api-service: {error:#}"),
        }
    }
    Ok(true)
}

impl Bench {
    async fn measure(&mut self, figure: Figure) -> Result<()> {
        match figure {
            Figure::Latency => latency::measure(self).await,
            Figure::Accept => accept::at_full_load(self).await,
            Figure::Single => accept::on_one_connection(self).await,
            Figure::BrokerDown => outage::measure(self).await,
            Figure::Drain => drain::mails(self).await,
            Figure::Noop => drain::noops(self).await,
            Figure::Sending => accept::while_sending(self).await,
            Figure::Templates => templates::measure(self).await,
            Figure::Verify => verify::measure(self).await,
            Figure::Lanes => lanes::measure(self).await,
            Figure::Operating => operating::measure(self).await,
            Figure::Scheduled => scheduled::measure(self).await,
            Figure::Streams => streams::measure(self).await,
            Figure::History => history::measure(self, self.history).await,
        }
    }

    /// The plan of accepting mails at full speed for the time of a run.
    pub fn accepting(&self, connections: usize) -> Result<Plan> {
        Ok(Plan::mails(
            self.rig.api()?,
            &self.rig.key,
            connections,
            self.time,
        ))
    }

    /// The load of a plan after a second of the same that does not count.
    pub async fn warmed(plan: Plan) -> Result<Tally> {
        let warm_up = Plan {
            time: WARM_UP,
            ..plan.clone()
        };
        Load::run(warm_up).await?;
        Load::run(plan).await
    }

    /// What the yardstick makes of the same load; the rate is noted.
    pub async fn echo(&mut self, connections: usize) -> Result<f64> {
        let plan = Plan {
            address: self.echo.address(),
            key: None,
            body: Body::Echo,
            ..self.accepting(connections)?
        };
        let tally = Self::warmed(plan).await?;
        self.report
            .trouble("echo", &tally, Body::Echo.wanted_status());
        Ok(tally.rate())
    }

    async fn memory_at_idle(&mut self) -> [f64; 2] {
        tokio::time::sleep(IDLE).await;
        let stack = &self.rig.stack;
        let mailer = stack.mailers.first();
        [
            megabytes(stack.api.resident_bytes()),
            megabytes(mailer.map_or(0, testkit::stack::Service::resident_bytes)),
        ]
    }

    fn report_memory(&mut self, [api, mailer]: [f64; 2]) {
        let peaks = [
            ("api-service", api, self.rig.api_peak()),
            ("mailer-service", mailer, self.rig.mailer_peak()),
        ];
        for (name, idle, peak) in peaks {
            self.report
                .plain(format!("memory of {name} at idle, MB"), idle);
            self.report.at_most(
                format!("memory of {name}, peak, MB"),
                &[megabytes(peak)],
                40.0,
            );
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "memory of a process")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / MEGABYTE
}
