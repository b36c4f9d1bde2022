//! Looks after the parts: whichever ends is shown and started again, a little later each time.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::services::process::describe_exit;
use crate::stack::Stack;

const LOOK: Duration = Duration::from_millis(200);
const MINUTE: Duration = Duration::from_secs(60);
/// So many crashes of one part within a minute end the run.
const TOO_MANY: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Postgres,
    RabbitMq,
    Inbox,
    Api,
    Mailer(usize),
}

/// Returns only when a part keeps crashing or can't be started again.
pub(super) async fn watch(stack: &mut Stack) -> Result<()> {
    let parts: Vec<Part> = [Part::Postgres, Part::RabbitMq, Part::Inbox, Part::Api]
        .into_iter()
        .chain((0..stack.mailers.len()).map(Part::Mailer))
        .collect();
    let mut crashes: BTreeMap<Part, Vec<Instant>> = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        for part in &parts {
            while let Some(exit) = exit_status(stack, *part) {
                let crashes = crashes.entry(*part).or_default();
                crashes.retain(|crash| crash.elapsed() < MINUTE);
                crashes.push(Instant::now());
                show(stack, *part, exit);
                if crashes.len() >= TOO_MANY {
                    bail!(
                        "{} ended {TOO_MANY} times within a minute",
                        name(stack, *part)
                    );
                }
                let wait = backoff(crashes.len());
                eprintln!("*** {} is started again in {wait:?}", name(stack, *part));
                tokio::time::sleep(wait).await;
                if let Err(error) = start_again(stack, *part).await {
                    eprintln!("*** {error:#}");
                    if exit_status(stack, *part).is_none() {
                        bail!("{} runs and does not become ready", name(stack, *part));
                    }
                } else {
                    eprintln!("*** {} is up again", name(stack, *part));
                }
            }
        }
    }
}

/// Half a second, doubled with each crash in the last minute, at most eight.
fn backoff(crashes: usize) -> Duration {
    let doublings = u32::try_from(crashes.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(4);
    Duration::from_millis(500) * 2_u32.pow(doublings)
}

fn show(stack: &Stack, part: Part, exit: ExitStatus) {
    let (log, path) = match part {
        Part::Postgres => (stack.postgres.log_tail(10), stack.postgres.log_path()),
        Part::RabbitMq => (stack.rabbitmq.log_tail(10), stack.rabbitmq.log_path()),
        Part::Inbox => (stack.inbox.log_tail(10), stack.inbox.log_path()),
        Part::Api => (stack.api.log_tail(10), stack.api.log_path()),
        Part::Mailer(at) => (stack.mailers[at].log_tail(10), stack.mailers[at].log_path()),
    };
    eprintln!(
        "\n*** {} {}. The end of {}:",
        name(stack, part),
        describe_exit(exit).to_uppercase(),
        path.display()
    );
    for line in log.lines() {
        eprintln!("***   {line}");
    }
}

fn name(stack: &Stack, part: Part) -> String {
    match part {
        Part::Postgres => "PostgreSQL".to_owned(),
        Part::RabbitMq => "RabbitMQ".to_owned(),
        Part::Inbox => "inbox".to_owned(),
        Part::Api => "api-service".to_owned(),
        Part::Mailer(0) if stack.mailers.len() == 1 => "mailer-service".to_owned(),
        Part::Mailer(at) => format!("mailer-service {}", at + 1),
    }
}

fn exit_status(stack: &mut Stack, part: Part) -> Option<ExitStatus> {
    match part {
        Part::Postgres => stack.postgres.exit_status(),
        Part::RabbitMq => stack.rabbitmq.exit_status(),
        Part::Inbox => stack.inbox.exit_status(),
        Part::Api => stack.api.exit_status(),
        Part::Mailer(at) => stack.mailers[at].exit_status(),
    }
}

async fn start_again(stack: &mut Stack, part: Part) -> Result<()> {
    match part {
        Part::Postgres => stack.postgres.start_again().await,
        Part::RabbitMq => stack.rabbitmq.start_again().await,
        Part::Inbox => stack.inbox.start_again().await,
        Part::Api => stack.api.start_again().await,
        Part::Mailer(at) => stack.mailers[at].start_again().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time() {
        let waits: Vec<u128> = (1..=6)
            .map(|crashes| backoff(crashes).as_millis())
            .collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 8000]);
    }
}
