//! `bench faults`: kills, freezes and cuts every part while mail is under way, and counts what became of each task.
//!
//! The truth is taken from outside: what the client was told (202 and its task's id), what the mail server got (by
//! `X-Warren-Task`), and what the rows say in the end. Conditions are waited for, not slept for, and the sink answers
//! slowly where a fault must strike midway. Faults that pass share a stack; a fault that fails gets a fresh one after it,
//! so that no fault is blamed for another.

pub mod case;
pub mod scenarios;
pub mod verdict;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use testkit::stack::Link;

use self::case::Case;
use self::verdict::Verdict;
use crate::rig::Rig;
use crate::table::markdown;

/// The hard limit of one fault, its recovery included.
const LIMIT: Duration = Duration::from_secs(120);
/// Ends and starts of services within a fault have limits of their own; this is for whatever hangs beyond them.
const UTMOST: Duration = Duration::from_secs(180);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only these, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<Fault>,
    /// Leave the folders with all logs
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// mailer-service kill -9 midway through 2,000 mails
    MailerKill,
    /// api-service kill -9 while accepting
    ApiKill,
    /// RabbitMQ kill -9 while accepting
    BrokerKillAccepting,
    /// RabbitMQ kill -9 while draining
    BrokerKillDraining,
    /// RabbitMQ's data folder deleted with 1,000 tasks pending
    BrokerDataDeleted,
    /// PostgreSQL kill -9 while draining
    DatabaseKill,
    /// PostgreSQL kill -9 while draining, and away for longer than the workers' lease
    DatabaseOutage,
    /// every AMQP connection closed by the operator while draining
    ConnectionsClosed,
    /// the broker frozen for 20 s while accepting and draining
    BrokerFrozen,
    /// TCP cut between mailer-service and broker while draining
    BrokerCut,
    /// the broker's memory alarm while accepting and draining, and mailer-service ended by SIGTERM meanwhile
    BrokerAlarm,
    /// mailer-service ended by SIGTERM and started again while draining
    MailerRestart,
    /// mailer-service frozen for longer than its lease beside two others, then thawed
    MailerFrozen,
    /// mailer-service kill -9 midway through 2,000 mails that are to be held, and what is UNKNOWN resolved
    MailerKillHeld,
    /// everything cancelled again and again while 6,000 mails are accepted and sent
    CancelStorm,
    /// a queue, then a kind, paused in a flood, over the death of a mailer-service and of all connections
    PauseInFlood,
    /// four mailer-services and one of two api-services kill -9 one after another in a flood
    Races,
    /// the clock of PostgreSQL and both services jumps by a minute, forwards and back, in a flood
    ClockJump,
}

impl Fault {
    /// As in its help.
    fn title(self) -> String {
        self.to_possible_value()
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }

    /// It leaves the parts other than it found them.
    fn uses_up_the_stack(self) -> bool {
        matches!(self, Self::Races | Self::ClockJump)
    }
}

/// Runs the faults and prints the table; true when every promise was kept.
pub async fn run(arguments: Arguments) -> Result<bool> {
    let faults: Vec<Fault> = Fault::value_variants()
        .iter()
        .copied()
        .filter(|fault| arguments.only.is_empty() || arguments.only.contains(fault))
        .collect();
    let mut rig: Option<Rig> = None;
    let mut verdicts = Vec::new();
    for (index, fault) in faults.iter().enumerate() {
        eprintln!("fault {} of {}: {}", index + 1, faults.len(), fault.title());
        let mut stack = match rig.take() {
            Some(stack) => stack,
            None => start(arguments.keep).await?,
        };
        let verdict = strike(*fault, &mut stack).await;
        eprintln!("  {}", verdict.summary());
        if verdict.is_good() && fault.uses_up_the_stack() {
            stack.stop().await?;
        } else if verdict.is_good() {
            // What can't be brought back to empty is no fit ground for the next fault.
            match restore(&mut stack).await {
                Ok(()) => rig = Some(stack),
                Err(error) => eprintln!("  a fresh stack follows: {error:#}"),
            }
        } else {
            stack.place.keep();
        }
        verdicts.push(verdict);
    }
    drop(rig);
    let rows: Vec<_> = verdicts.iter().map(Verdict::cells).collect();
    println!("{}", markdown(&verdict::HEADER, &rows));
    println!("{}", verdict::LEGEND);
    for verdict in &verdicts {
        for failure in &verdict.failures {
            println!("- FAILED, {}: {failure}", verdict.title);
        }
        for note in &verdict.notes {
            println!("- {}: {note}", verdict.title);
        }
    }
    Ok(verdicts.iter().all(Verdict::is_good))
}

async fn start(keep: bool) -> Result<Rig> {
    Rig::start(keep, |options| {
        options.proxied = vec![Link::MailerToBroker];
        // The operator's view of connections must not be older than the fault.
        options.rabbitmq.statistics_interval = Duration::from_millis(500);
    })
    .await
}

async fn strike(fault: Fault, rig: &mut Rig) -> Verdict {
    let title = fault.title();
    let work = async {
        let mut case = Case::new(rig, LIMIT);
        if let Err(error) = scenarios::play(fault, &mut case).await {
            case.fail(format!("{error:#}"));
        }
        case.conclude().await
    };
    match tokio::time::timeout(UTMOST, work).await {
        Ok(Ok(verdict)) => Verdict { title, ..verdict },
        Ok(Err(error)) => Verdict::hopeless(title, format!("{error:#}")),
        Err(_) => Verdict::hopeless(title, format!("it hung for {UTMOST:?}")),
    }
}

/// Back to one mailer, no rows, no messages, no mails, no faults.
async fn restore(rig: &mut Rig) -> Result<()> {
    rig.stop_mailers().await?;
    rig.stack.mailers.truncate(1);
    rig.empty().await?;
    rig.start_mailer().await
}
