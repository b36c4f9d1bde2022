//! The faults, each as a short play: something is under way, a part is struck, the part comes back.

mod cancelled;
mod clock;
mod frozen;
mod held;
mod paused;
mod races;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::stack::Link;

use super::Fault;
use super::case::Case;

/// Mails of a drain, and how many of them have arrived when the fault strikes.
const DRAIN: u64 = 2000;
const MIDWAY: u64 = 600;
/// How long the sink holds each connection: at most 800 mails a second on 16 connections.
const SLOW: Duration = Duration::from_millis(20);
/// While the operator's view catches up, which is half a second old and more.
const SLOWER: Duration = Duration::from_millis(80);
/// While an alarm is raised and spreads, by a program that takes seconds.
const SLOWEST: Duration = Duration::from_millis(200);
/// Publisher and reconciler of the API, publisher and consumer of the mailer.
const CONNECTIONS: usize = 4;
/// Requests accepted before, during and after a fault that strikes accepting.
const SOME: u64 = 500;
const PENDING: u64 = 1000;
const FREEZE: Duration = Duration::from_secs(20);
const CUT: Duration = Duration::from_secs(6);
/// Long enough that mails are sent and their outcomes have nowhere to go.
const UNSETTLED: Duration = Duration::from_secs(2);
/// Longer than the lease (15 s), so that the worker's own right to send has run out.
const OUTAGE: Duration = Duration::from_secs(20);
/// The attempt that found the lease run out, and the one that sends.
const GIVEN_BACK_ONCE: u64 = 2;
/// Mails that are to be tried again while the broker takes nothing.
const TRIED_AGAIN: u64 = 100;
/// Less than what deployments allow before they kill (`stop_grace_period`, 60 s).
const LONGEST_STOP: Duration = Duration::from_secs(50);

/// Plays it to the recovery; the counting comes after.
pub async fn play(fault: Fault, case: &mut Case<'_>) -> Result<()> {
    match fault {
        Fault::MailerKill => mailer_kill(case).await,
        Fault::ApiKill => api_kill(case).await,
        Fault::BrokerKillAccepting => broker_kill_accepting(case).await,
        Fault::BrokerKillDraining => broker_kill_draining(case).await,
        Fault::BrokerDataDeleted => broker_data_deleted(case).await,
        Fault::DatabaseKill => database_kill(case).await,
        Fault::DatabaseOutage => database_outage(case).await,
        Fault::ConnectionsClosed => connections_closed(case).await,
        Fault::BrokerFrozen => broker_frozen(case).await,
        Fault::BrokerCut => broker_cut(case).await,
        Fault::BrokerAlarm => broker_alarm(case).await,
        Fault::MailerRestart => mailer_restart(case).await,
        Fault::MailerFrozen => frozen::play(case).await,
        Fault::MailerKillHeld => held::play(case).await,
        Fault::CancelStorm => cancelled::play(case).await,
        Fault::PauseInFlood => paused::play(case).await,
        Fault::Races => races::play(case).await,
        Fault::ClockJump => clock::play(case).await,
    }
}

/// Queues the mails, then lets the mailer at them until it is midway.
async fn drain_to_midway(case: &mut Case<'_>) -> Result<()> {
    drain_slowly_to_midway(case, SLOW).await
}

async fn drain_slowly_to_midway(case: &mut Case<'_>, slow: Duration) -> Result<()> {
    case.queue_mails(DRAIN).await?;
    case.rig.sink.slow(slow).await?;
    case.rig.start_mailer().await?;
    case.wait_for_mails(MIDWAY).await
}

async fn mailer_kill(case: &mut Case<'_>) -> Result<()> {
    drain_to_midway(case).await?;
    case.rig.mailer()?.kill9().await?;
    case.note_in_flight().await?;
    case.rig.start_mailer().await?;
    case.recovered();
    Ok(())
}

async fn api_kill(case: &mut Case<'_>) -> Result<()> {
    case.may_answer_errors();
    case.start_steady_load()?;
    case.wait_for_acceptances(SOME).await?;
    case.rig.stack.api.kill9().await?;
    case.rig.stack.api.start_again().await?;
    case.recovered();
    case.wait_for_acceptances(SOME).await?;
    case.end_load().await
}

async fn broker_kill_accepting(case: &mut Case<'_>) -> Result<()> {
    case.start_steady_load()?;
    case.wait_for_acceptances(SOME).await?;
    case.rig.stack.rabbitmq.kill9().await?;
    case.wait_for_acceptances(SOME).await?;
    case.rig.stack.rabbitmq.start_again().await?;
    case.recovered();
    case.wait_for_acceptances(SOME).await?;
    case.end_load().await
}

async fn broker_kill_draining(case: &mut Case<'_>) -> Result<()> {
    drain_to_midway(case).await?;
    case.rig.stack.rabbitmq.kill9().await?;
    case.rig.stack.rabbitmq.start_again().await?;
    case.recovered();
    Ok(())
}

async fn broker_data_deleted(case: &mut Case<'_>) -> Result<()> {
    case.queue_mails(PENDING).await?;
    let rabbitmq = &mut case.rig.stack.rabbitmq;
    rabbitmq.kill9().await?;
    rabbitmq.wipe_data()?;
    rabbitmq.start_again().await?;
    case.recovered();
    case.rig.start_mailer().await
}

async fn database_kill(case: &mut Case<'_>) -> Result<()> {
    database_away(case, UNSETTLED).await
}

async fn database_outage(case: &mut Case<'_>) -> Result<()> {
    case.allow_attempts(GIVEN_BACK_ONCE);
    database_away(case, OUTAGE).await
}

async fn database_away(case: &mut Case<'_>, time: Duration) -> Result<()> {
    case.may_answer_errors();
    drain_to_midway(case).await?;
    case.rig.stack.postgres.kill9().await?;
    tokio::time::sleep(time).await;
    case.rig.stack.postgres.start_again().await?;
    case.recovered();
    Ok(())
}

async fn connections_closed(case: &mut Case<'_>) -> Result<()> {
    drain_slowly_to_midway(case, SLOWER).await?;
    case.wait_for_connections(CONNECTIONS).await?;
    let closed = case.rig.stack.rabbitmq.close_all_connections().await?;
    case.recovered();
    ensure!(
        closed >= CONNECTIONS,
        "only {closed} connections were closed"
    );
    Ok(())
}

async fn broker_frozen(case: &mut Case<'_>) -> Result<()> {
    drain_to_midway(case).await?;
    case.start_steady_load()?;
    case.wait_for_acceptances(SOME / 5).await?;
    case.rig.stack.rabbitmq.freeze();
    tokio::time::sleep(FREEZE).await;
    case.rig.stack.rabbitmq.thaw();
    case.recovered();
    case.wait_for_acceptances(SOME / 5).await?;
    case.end_load().await
}

async fn broker_cut(case: &mut Case<'_>) -> Result<()> {
    drain_to_midway(case).await?;
    let proxy = case
        .rig
        .stack
        .proxy(Link::MailerToBroker)
        .context("no proxy between mailer and broker")?;
    proxy.cut().await;
    tokio::time::sleep(CUT).await;
    proxy.heal().await;
    case.recovered();
    Ok(())
}

async fn broker_alarm(case: &mut Case<'_>) -> Result<()> {
    drain_slowly_to_midway(case, SLOWEST).await?;
    case.start_steady_load()?;
    case.rig.stack.rabbitmq.block_publishers().await?;
    // Only who publishes is blocked, and a mailer publishes the retries.
    let sink = &case.rig.sink;
    sink.slow_and_busy(SLOWEST, TRIED_AGAIN).await?;
    let stack = &case.rig.stack;
    let mailer = stack.mailers.first().context("no mailer-service")?;
    case.wait_until_blocked(&stack.api, "/broker").await?;
    case.wait_until_blocked(mailer, "/broker/publishing")
        .await?;
    case.wait_for_acceptances(SOME).await?;
    end_mailer_while_blocked(case).await?;
    case.rig.stack.rabbitmq.unblock_publishers().await?;
    case.rig.sink.slow(SLOW).await?;
    case.rig.start_mailer().await?;
    case.recovered();
    case.wait_for_acceptances(SOME / 5).await?;
    case.end_load().await
}

/// A mailer that does not end in time fails the case, which goes on without it.
async fn end_mailer_while_blocked(case: &mut Case<'_>) -> Result<()> {
    let begin = Instant::now();
    let ending = case.rig.mailer()?.terminate();
    let Ok(exit) = tokio::time::timeout(LONGEST_STOP, ending).await else {
        case.fail(format!(
            "the mailer-service had not ended {LONGEST_STOP:?} after SIGTERM while the broker took nothing"
        ));
        case.rig.mailer()?.kill9().await?;
        return Ok(());
    };
    let exit = exit?;
    if !exit.success() {
        case.fail(format!("the mailer-service ended badly: {exit}"));
    }
    case.note(format!(
        "the mailer-service ended {:.1?} after SIGTERM",
        begin.elapsed()
    ));
    Ok(())
}

async fn mailer_restart(case: &mut Case<'_>) -> Result<()> {
    drain_to_midway(case).await?;
    let begin = Instant::now();
    let exit = case.rig.mailer()?.terminate().await?;
    ensure!(exit.success(), "the mailer-service ended badly: {exit}");
    case.note(format!("it ended {:.1?} after SIGTERM", begin.elapsed()));
    case.rig.start_mailer().await?;
    case.recovered();
    Ok(())
}
