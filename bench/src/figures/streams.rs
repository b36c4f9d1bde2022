//! A thousand event streams on one api-service: the memory they cost, and how long output takes from the handler to the
//! client.
//!
//! Each stream follows a task of its own. The handlers write the time into every line that they put out, and the clients
//! run in this process, so that both read one clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use testkit::harness::{Event, Events};
use testkit::services::procfs;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{Bench, IDLE, megabytes};
use crate::cpu::Meter;
use crate::load::{Body, Load, Plan, STREAM_LINES, percentile};

const STREAMS: u64 = 1000;
/// Connections that hand over the tasks: few, since what they leave behind is there for the streams.
const ACCEPTING: usize = 4;
/// The most memory that they may cost.
const MOST_MEGABYTES: f64 = 50.0;
const LIMIT: Duration = Duration::from_secs(60);
/// Of a client that reads nothing.
const SMALL_BUFFER: u32 = 4096;
const POLL: Duration = Duration::from_millis(100);

/// Memory and latencies of each run, on an api-service that was just started.
pub async fn measure(bench: &mut Bench) -> Result<()> {
    // A socket for each stream here, and one in the api-service, which sees to that by itself.
    procfs::raise_open_files()?;
    let (mut waiting, mut delivering) = (vec![], vec![]);
    let (mut medians, mut tails, mut stalled) = (vec![], vec![], vec![]);
    for run in 1..=bench.runs {
        bench.rig.stop_mailers().await?;
        bench.rig.empty().await?;
        bench.rig.restart_api(run == 1).await?;
        let ids = accept(bench).await?;
        tokio::time::sleep(IDLE).await;
        let before = bench.rig.stack.api.resident_bytes();
        let grown = |bench: &Bench| grown(bench, before);
        let (mut clients, open) = follow(bench, ids);
        wait_until_open(&mut clients, &open).await?;
        tokio::time::sleep(IDLE).await;
        waiting.push(grown(bench));

        let meter = Meter::start(&bench.rig, None);
        bench.rig.start_mailer().await?;
        let mut peak = 0.0_f64;
        let mut latencies = Vec::new();
        while !clients.is_empty() {
            // None: nobody has ended in this moment.
            if let Ok(ended) = tokio::time::timeout(POLL, clients.join_next()).await {
                latencies.extend(ended.context("no client is left")???);
            }
            peak = peak.max(grown(bench));
        }
        let used = meter.stop(&bench.rig, None);
        if run == bench.runs {
            bench.report.cpu("delivering to 1,000 streams", &used);
        }
        delivering.push(peak);
        latencies.sort_unstable();
        medians.push(f64::from(percentile(&latencies, 0.5)) / 1000.0);
        tails.push(f64::from(percentile(&latencies, 0.99)) / 1000.0);
        stalled.push(memory_of_clients_that_read_nothing(bench).await?);
    }
    let report = &mut bench.report;
    report.at_most(
        "memory of 1,000 open streams, MB".to_owned(),
        &waiting,
        MOST_MEGABYTES,
    );
    report.at_most(
        "– while all of them deliver, peak, MB".to_owned(),
        &delivering,
        MOST_MEGABYTES,
    );
    report.several("– output emitted → received, p50, ms".to_owned(), &medians);
    report.several("– p99, ms".to_owned(), &tails);
    report.at_most(
        "memory of 1,000 streams of 1 MiB whose clients read nothing, MB".to_owned(),
        &stalled,
        MOST_MEGABYTES,
    );
    bench.rig.stop_mailers().await?;
    bench.rig.restart_api(false).await?;
    bench.rig.empty().await
}

fn grown(bench: &Bench, before: u64) -> f64 {
    let now = bench.rig.stack.api.resident_bytes();
    megabytes(now.saturating_sub(before))
}

/// They ask for the output of a task that has ended, and take no more than their sockets hold.
async fn memory_of_clients_that_read_nothing(bench: &mut Bench) -> Result<f64> {
    bench.rig.restart_api(false).await?;
    let id = put_out_a_megabyte(bench).await?;
    tokio::time::sleep(IDLE).await;
    let before = bench.rig.stack.api.resident_bytes();
    let address = bench.rig.api()?;
    let request = format!(
        "GET /api/v1/tasks/{id}/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\r\n",
        bench.rig.key
    );
    let mut clients = Vec::new();
    for _ in 0..STREAMS {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(SMALL_BUFFER)?;
        let mut client = socket.connect(address).await?;
        client.write_all(request.as_bytes()).await?;
        clients.push(client);
    }
    for client in &clients {
        client.readable().await?;
    }
    tokio::time::sleep(IDLE).await;
    Ok(grown(bench, before))
}

async fn put_out_a_megabyte(bench: &Bench) -> Result<Uuid> {
    let http = testkit::http::client();
    let url = format!("{}/api/v1/tasks", bench.rig.stack.api_url());
    let task =
        json!({"kind": "demo.stream", "payload": {"chunks": 1024, "interval_ms": 0, "size": 1024}});
    let request = http.post(&url).bearer_auth(&bench.rig.key).json(&task);
    let accepted: Value = request.send().await?.error_for_status()?.json().await?;
    let id: Uuid = accepted["id"].as_str().context("no id")?.parse()?;
    let request = http
        .get(format!("{url}/{id}?wait=60"))
        .bearer_auth(&bench.rig.key);
    let task: Value = request.send().await?.error_for_status()?.json().await?;
    ensure!(task["status"] == "COMPLETED", "{task}");
    Ok(id)
}

/// A task for each stream, in the broker's hands.
async fn accept(bench: &mut Bench) -> Result<Vec<Uuid>> {
    let plan = Plan {
        body: Body::Stream,
        requests: STREAMS,
        time: LIMIT,
        keep_ids: true,
        ..bench.accepting(ACCEPTING)?
    };
    let tally = Load::run(plan).await?;
    bench.report.trouble("accepting streams", &tally, 202);
    ensure!(
        tally.ids.len() as u64 == STREAMS,
        "only {} of {STREAMS} tasks were accepted",
        tally.ids.len()
    );
    bench.rig.wait_until_published().await?;
    Ok(tally.ids.into_iter().collect())
}

type Clients = JoinSet<Result<Vec<u32>>>;

/// A client for each task, and how many have heard of theirs.
fn follow(bench: &Bench, ids: Vec<Uuid>) -> (Clients, Arc<AtomicUsize>) {
    let open = Arc::<AtomicUsize>::default();
    let http = testkit::http::client();
    let mut clients = Clients::new();
    for id in ids {
        let url = format!("{}/api/v1/tasks/{id}/events", bench.rig.stack.api_url());
        let request = http.get(url).bearer_auth(&bench.rig.key);
        let open = Arc::clone(&open);
        clients.spawn(async move {
            let response = request.send().await.context("opening a stream")?;
            let mut events = Events::of(response);
            let first = events.next().await.context("a stream without events")?;
            ensure!(first.name == "state", "a stream began with {}", first.name);
            open.fetch_add(1, Ordering::Relaxed);
            to_the_end(&mut events).await
        });
    }
    (clients, open)
}

async fn wait_until_open(clients: &mut Clients, open: &AtomicUsize) -> Result<()> {
    let begin = Instant::now();
    while (open.load(Ordering::Relaxed) as u64) < STREAMS {
        if let Some(ended) = clients.try_join_next() {
            ended??;
        }
        ensure!(
            begin.elapsed() < LIMIT,
            "{} of {STREAMS} streams are open after {LIMIT:?}",
            open.load(Ordering::Relaxed)
        );
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// How long each line took, in microseconds; every line must come, once and in order.
async fn to_the_end(events: &mut Events) -> Result<Vec<u32>> {
    let mut latencies = Vec::with_capacity(STREAM_LINES);
    loop {
        let event = events.next().await.context("a stream without an end")?;
        if event.name == "end" {
            ensure!(event.data["status"] == "COMPLETED", "{}", event.data);
            ensure!(
                latencies.len() == STREAM_LINES,
                "{} of {STREAM_LINES} lines came",
                latencies.len()
            );
            return Ok(latencies);
        }
        read_lines(&event, &mut latencies)?;
    }
}

fn read_lines(event: &Event, latencies: &mut Vec<u32>) -> Result<()> {
    let now = Utc::now();
    for line in event.data["text"].as_str().unwrap_or_default().lines() {
        let (number, emitted) = parse(line).with_context(|| format!("a line {line:?}"))?;
        ensure!(
            number == latencies.len() + 1,
            "line {number} came after line {}",
            latencies.len()
        );
        let taken = (now - emitted).num_microseconds().unwrap_or_default();
        latencies.push(u32::try_from(taken.max(0)).unwrap_or(u32::MAX));
    }
    Ok(())
}

/// `3 of 20 at 2026-01-02T03:04:05.678901Z...`
fn parse(line: &str) -> Option<(usize, DateTime<Utc>)> {
    let (number, rest) = line.split_once(" of ")?;
    let (_, time) = rest.split_once(" at ")?;
    let time = DateTime::parse_from_rfc3339(time.trim_end_matches('.')).ok()?;
    Some((number.parse().ok()?, time.to_utc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_when_they_were_emitted() {
        let (number, emitted) = parse("3 of 20 at 2026-01-02T03:04:05.678901Z....").unwrap();
        assert_eq!(number, 3);
        assert_eq!(emitted.timestamp_subsec_micros(), 678_901);
        assert_eq!(parse("3 of 20"), None);
    }
}
