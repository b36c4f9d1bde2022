//! The machine's clock jumps by a minute, forwards and back, under PostgreSQL and both services.
//!
//! A run can't set the clock of the machine it runs on, so these three processes get theirs from libfaketime (a
//! package of that name): wall clock only, as when an operator or NTP steps it. RabbitMQ keeps the machine's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use testkit::stack::Service;

use super::SOME;
use crate::faults::case::Case;
use crate::rig::POLL;

const JUMP: i64 = 60;
/// Mails for a time that comes by the jump, and long after it otherwise.
const SCHEDULED: u64 = 20;
const DELAY: i64 = 50;
/// Until every process must have noticed: they look at the file once a second.
const NOTICED: Duration = Duration::from_secs(10);
/// No task is rescued, and none needs another attempt.
const ONE_ATTEMPT: u64 = 1;

pub(super) async fn play(case: &mut Case<'_>) -> Result<()> {
    case.allow_attempts(ONE_ATTEMPT);
    let clock = Clock::install(case).await?;
    let before = case.rig.database.lost_workers().await?;
    case.start_steady_load()?;
    case.wait_for_acceptances(SOME).await?;
    for number in 0..SCHEDULED {
        let to = format!("later-{number}@example.com");
        let payload = json!({"to": to, "subject": "Later", "text": "Now."});
        let task = json!({"kind": "email.send", "payload": payload, "delay": DELAY});
        case.accept(&task).await?;
    }
    clock.set(JUMP)?;
    clock.wait_until_noticed(case, JUMP).await?;
    case.wait_for_acceptances(SOME).await?;
    clock.set(0)?;
    clock.wait_until_noticed(case, 0).await?;
    case.recovered();
    case.wait_for_acceptances(SOME).await?;
    case.end_load().await?;
    let lost = case.rig.database.lost_workers().await? - before;
    ensure!(lost == 0, "{lost} living workers were taken for dead");
    Ok(())
}

/// The file that tells the processes how far their clocks are off.
struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Starts the three anew with a clock that can be set.
    async fn install(case: &mut Case<'_>) -> Result<Self> {
        let library = library()?;
        let clock = Self {
            file: case.rig.place.path().join("clock"),
        };
        clock.set(0)?;
        let file = clock.file.display().to_string();
        let library = library.display().to_string();
        let variables = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_CACHE_DURATION", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        case.rig.stop_mailers().await?;
        let stack = &mut case.rig.stack;
        stack.api.terminate().await?;
        stack.postgres.stop().await?;
        for (key, value) in variables {
            stack.postgres.set_env(key, value);
            stack.api.set_env(key, value);
            for mailer in &mut stack.mailers {
                mailer.set_env(key, value);
            }
        }
        stack.postgres.start_again().await?;
        stack.api.start_again().await?;
        case.rig.start_mailer().await?;
        Ok(clock)
    }

    /// Puts the clocks so many seconds before the machine's.
    fn set(&self, seconds: i64) -> Result<()> {
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, format!("{seconds:+}\n"))?;
        fs::rename(&fresh, &self.file).context("setting the clock")
    }

    async fn wait_until_noticed(&self, case: &Case<'_>, seconds: i64) -> Result<()> {
        let begin = Instant::now();
        loop {
            let offsets = offsets(case).await?;
            let is_there = |offset: &f64| (offset - as_f64(seconds)).abs() < 5.0;
            if offsets.iter().all(is_there) {
                return Ok(());
            }
            if begin.elapsed() > NOTICED {
                bail!(
                    "the clocks of PostgreSQL, api-service and mailer-service are off by {offsets:.0?} s, not {seconds} s"
                );
            }
            tokio::time::sleep(POLL * 2).await;
        }
    }
}

/// How many seconds PostgreSQL, the api-service and the mailer-service are before us.
async fn offsets(case: &Case<'_>) -> Result<[f64; 3]> {
    let stack = &case.rig.stack;
    let mailer = stack.mailers.first().context("no mailer-service")?;
    let sql = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint AS value";
    let database = i64::try_from(case.rig.database.number(sql).await?)?;
    let database = database - Utc::now().timestamp_millis();
    Ok([
        as_f64(database) / 1000.0,
        offset(&stack.api).await?,
        offset(mailer).await?,
    ])
}

async fn offset(service: &Service) -> Result<f64> {
    let health = service.health().await?;
    let time = health.get("timestamp").and_then(Value::as_str);
    let time: DateTime<Utc> = time.context("a health without its timestamp")?.parse()?;
    Ok((time - Utc::now()).as_seconds_f64())
}

#[expect(clippy::cast_precision_loss, reason = "minutes in milliseconds")]
fn as_f64(number: i64) -> f64 {
    number as f64
}

fn library() -> Result<PathBuf> {
    let folders = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(Path::new);
    let own = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let folders = folders.into_iter().chain([Path::new(&own)]);
    let library = folders
        .map(|folder| folder.join("faketime/libfaketime.so.1"))
        .find(|library| library.is_file());
    library.context(
        "libfaketime is not installed: `deploy/native/install.sh faults` does it, or the package libfaketime",
    )
}
