//! `stack run`: Warren to use and to look at, natively, until Ctrl-C.
//!
//! What must stay true: one run a folder; whatever it started has ended when it returns; a part that crashes is
//! shown with how it ended and started again, and one that keeps crashing ends the run with a failure.

mod env_file;
mod first_mail;
mod key;
mod lock;
mod logs;
mod summary;
mod watch;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::lock::{Held, Lock};
use self::logs::Logs;
use super::exec::Stop;
use super::{Preferred, Stack, StackOptions};
use crate::services::{RabbitMqOptions, files};

/// Starts everything on the folder, shows where it is, and stays until told to end; the exit code.
pub async fn run(folder: &Path) -> Result<u8> {
    let folder = files::create_folder(folder)?;
    let lock = match Lock::take(&folder)? {
        Held::ByUs(lock) => lock,
        Held::ByPid(pid) => {
            show_other(&folder, pid);
            return Ok(1);
        }
    };
    let mut stop = Stop::listen()?;
    let start = Instant::now();
    eprintln!("Starting PostgreSQL, RabbitMQ (7 to 22 seconds), the inbox and the services …");
    let stack = tokio::select! {
        stack = Stack::start(options(&folder)) => stack?,
        _ = stop.requested() => {
            eprintln!("Stopped before everything was up.");
            return Ok(130);
        }
    };
    eprintln!(
        "Everything is up after {:.1} s.",
        start.elapsed().as_secs_f64()
    );
    let code = serve(stack, &mut stop).await;
    drop(lock);
    code
}

/// Shows the run on the folder; the exit code is 0 if there is one.
pub fn status(folder: &Path) -> Result<u8> {
    let Some(pid) = lock::holder(folder)? else {
        return Ok(1);
    };
    show_other(folder, pid);
    Ok(0)
}

fn show_other(folder: &Path, pid: u32) {
    eprintln!(
        "A run on {} goes on already (pid {pid}); `make stop` ends it.",
        folder.display()
    );
    eprint!("{}", summary::saved(folder));
}

/// Ends the run on the folder from outside.
pub async fn stop(folder: &Path) -> Result<u8> {
    let Some(pid) = lock::holder(folder)? else {
        eprintln!("No make run of this checkout.");
        return Ok(0);
    };
    crate::services::process::signal_all(&[pid], rustix::process::Signal::TERM);
    let start = Instant::now();
    while lock::holder(folder)? == Some(pid) {
        if start.elapsed() > Duration::from_secs(100) {
            anyhow::bail!("the run (pid {pid}) has not ended yet: see its terminal");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!("Ended the run (pid {pid}).");
    Ok(0)
}

/// The usual ports when they are free, so that bookmarks hold.
fn options(folder: &Path) -> StackOptions {
    let mut options = StackOptions::new(folder);
    options.preferred = Preferred {
        api: Some(8080),
        inbox: Some(8025),
        smtp: Some(1025),
    };
    options.rabbitmq = RabbitMqOptions {
        port: Some(5672),
        management_port: Some(15672),
        ..options.rabbitmq
    };
    options.postgres.port = Some(5432);
    options
}

async fn serve(mut stack: Stack, stop: &mut Stop) -> Result<u8> {
    let logs = Logs::follow(&stack);
    let outcome = tokio::select! {
        outcome = greet_and_watch(&mut stack) => outcome,
        _ = stop.requested() => Ok(()),
    };
    if let Err(error) = &outcome {
        eprintln!("stack: {error:#}");
    }
    eprintln!("Ending …");
    let start = Instant::now();
    // Whoever asks twice means it: nothing more is waited for in order, what still runs ends with the value.
    let ended = tokio::select! {
        ended = stack.stop() => ended,
        _ = stop.requested() => Err(anyhow::anyhow!("asked to end again: the rest was killed")),
    };
    logs.finish().await;
    let _ = std::fs::remove_file(summary_path(stack.folder()));
    ended?;
    eprintln!(
        "Everything has ended after {:.1} s.",
        start.elapsed().as_secs_f64()
    );
    Ok(u8::from(outcome.is_err()))
}

async fn greet_and_watch(stack: &mut Stack) -> Result<()> {
    let key = key::of_folder(stack).await?;
    let mail = first_mail::send(stack, &key)
        .await
        .context("the first mail");
    env_file::write(stack, &key)?;
    let text = summary::text(stack, &key);
    files::write(&summary_path(stack.folder()), 0o600, &text)?;
    match mail {
        Ok(mail) => println!("{text}\n{mail}\n"),
        // The stack is up and worth looking at, so that the reason can be found.
        Err(error) => println!("{text}\nPROBLEM: {error:#}\n"),
    }
    watch::watch(stack).await
}

fn summary_path(folder: &Path) -> PathBuf {
    folder.join("summary.txt")
}
