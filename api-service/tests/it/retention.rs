//! What becomes of finished tasks and their results.

use crate::support::{Api, LONG};
use api_service::{
    archive::{Archive, ArchiveError, Folder},
    queries::export::export_finished,
};
use chrono::NaiveDate;
use diesel::{Connection, PgConnection, QueryResult, RunQueryDsl};
use flate2::read::MultiGzDecoder;
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::PathBuf,
};
use testkit::harness::TestEnv;

/// A folder, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let name = format!("warren-archive-{}", shared::task::TaskId::now());
        Self(std::env::temp_dir().join(name))
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Every line of the complete files.
    fn lines(&self) -> Vec<Value> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut lines = Vec::new();
        for entry in entries {
            let path = entry.unwrap().path();
            assert_eq!(path.extension().unwrap(), "gz", "{}", path.display());
            let text = BufReader::new(MultiGzDecoder::new(File::open(path).unwrap()));
            lines.extend(
                text.lines()
                    .map(|line| serde_json::from_str(&line.unwrap()).unwrap()),
            );
        }
        lines
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// Tasks with the ids of long ago, COMPLETED long ago, each with a lost attempt.
async fn insert_old(env: &TestEnv, count: usize) {
    env.execute(&format!(
        "with old as (
            insert into tasks (id, kind, queue, priority, status, payload, result, attempt, max_attempts, tags,
                created_at, updated_at, finished_at)
            select ('01890000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'demo.noop', 'work', 5, 'COMPLETED',
                '{{\"text\": \"a\\nb\",\r\n \"n\": 1e300}}', '[1]', 2, 8, '{{old}}', '2023-07-01', '2023-07-01', '2023-07-01'
            from generate_series(1, {count}) as n returning id)
         insert into task_attempts (task_id, attempt, outcome, ended_at) select id, 1, 'worker_lost', '2023-07-01' from old"
    ))
    .await;
}

async fn tasks(env: &TestEnv) -> i64 {
    env.sql("select count(*) from tasks").await
}

#[tokio::test]
async fn finished_tasks_are_archived_and_deleted() {
    let place = Place::new();
    let settings = [
        ("retention.every_s", "1"),
        ("retention.finished_days", "1"),
        ("retention.batch", "2"),
        ("retention.archive_dir", place.text()),
    ];
    let api = Api::start_with("retention_archive", &settings).await;
    insert_old(&api.env, 5).await;
    let recent = api.noop().await;
    api.env
        .execute(&format!(
            "update tasks set status = 'UNKNOWN' where id::text like '%5';
             update tasks set status = 'COMPLETED', finished_at = now() - interval '1 hour' where id = '{recent}'"
        ))
        .await;
    api.env
        .wait_until(LONG, "old tasks to be moved", async || {
            tasks(&api.env).await == 2
        })
        .await;
    let attempts: i64 = api.env.sql("select count(*) from task_attempts").await;
    assert_eq!(attempts, 1, "that of the task that waits for a person");
    // The end of the service completes its file.
    api.stop().await.finish().await;
    let lines = place.lines();
    let ids: Vec<_> = lines
        .iter()
        .map(|line| line["id"].as_str().unwrap())
        .collect();
    let id = |n: usize| format!("01890000-0000-7000-8000-{n:012}");
    assert_eq!(ids, [id(1), id(2), id(3), id(4)]);
    let line = &lines[0];
    assert_eq!(line["payload"]["text"], "a\nb");
    assert_eq!(
        (&line["result"], &line["tags"], &line["status"]),
        (&json!([1]), &json!(["old"]), &json!("COMPLETED"))
    );
    assert_eq!(line["attempts"][0]["outcome"], "worker_lost");
}

#[tokio::test]
async fn what_can_t_be_archived_is_not_deleted() {
    let place = Place::new();
    // A file where the folder should be: no user, root included, can write below it.
    fs::write(&place.0, b"").unwrap();
    let dir = place.0.join("archive");
    let settings = [
        ("retention.every_s", "1"),
        ("retention.finished_days", "1"),
        ("retention.archive_dir", dir.to_str().unwrap()),
    ];
    let api = Api::start_with("retention_unwritable", &settings).await;
    insert_old(&api.env, 3).await;
    api.env
        .wait_until(LONG, "the failure to be counted", async || {
            let metrics = api.get("/metrics").await.text;
            metrics.contains("warren_archive_failures_total")
        })
        .await;
    assert_eq!(tasks(&api.env).await, 3);
    fs::remove_file(&place.0).unwrap();
    api.env
        .wait_until(LONG, "the rows to be moved", async || {
            tasks(&api.env).await == 0
        })
        .await;
    api.stop().await.finish().await;
    assert_eq!(Place(dir).lines().len(), 3);
}

/// Where the process is killed.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The disk is full in the middle of a batch.
    Write,
    /// The connection dies between the archive's commit and the database's.
    Commit,
}

struct Faulty {
    folder: Folder,
    fault: Fault,
    written: usize,
    database_url: String,
}

impl Archive for Faulty {
    fn begin(&mut self, today: NaiveDate) -> Result<(), ArchiveError> {
        self.written = 0;
        self.folder.begin(today)
    }

    fn write(&mut self, line: &[u8]) -> Result<(), ArchiveError> {
        self.written += 1;
        if self.fault == Fault::Write && self.written == 3 {
            return Folder::new("/dev/null/full".into(), 1).write(line);
        }
        self.folder.write(line)
    }

    fn commit(&mut self) -> Result<(), ArchiveError> {
        self.folder.commit()?;
        if self.fault == Fault::Commit {
            let mut other = PgConnection::establish(&self.database_url).unwrap();
            diesel::sql_query(
                "select pg_terminate_backend(pid) from pg_locks
                 where relation = 'tasks'::regclass and mode = 'RowExclusiveLock' and pid <> pg_backend_pid()",
            )
            .execute(&mut other)
            .unwrap();
        }
        Ok(())
    }

    fn abandon(&mut self) {
        self.folder.abandon();
    }

    fn tend(&mut self, today: NaiveDate) -> Result<(), ArchiveError> {
        self.folder.tend(today)
    }
}

/// One export on a connection of its own, and whether the same connection can be used after it.
fn export(url: &str, archive: &mut Faulty) -> (QueryResult<Result<usize, ArchiveError>>, bool) {
    let mut connection = PgConnection::establish(url).unwrap();
    let moved = export_finished(&mut connection, archive, 1, 100);
    let moved = moved.map(|moved| moved.map(|moved| moved.count));
    let alive = diesel::sql_query("select 1").execute(&mut connection);
    (moved, alive.is_ok())
}

#[tokio::test]
async fn a_crash_may_repeat_lines_and_loses_none() {
    // The service itself deletes nothing.
    let api = Api::start_with("retention_crash", &[("retention.finished_days", "0")]).await;
    insert_old(&api.env, 50).await;
    let place = Place::new();
    let url = api.env.database_url.clone();
    let dir = place.0.clone();
    let exports = tokio::task::spawn_blocking(move || {
        let mut archive = Faulty {
            folder: Folder::new(dir, 1 << 20),
            fault: Fault::Write,
            written: 0,
            database_url: url.clone(),
        };
        let full = export(&url, &mut archive);
        assert!(matches!(full, (Ok(Err(_)), true)), "{full:?}");
        archive.fault = Fault::Commit;
        let cut = export(&url, &mut archive);
        assert!(matches!(cut, (Err(_), false)), "{cut:?}");
        archive.fault = Fault::None;
        export(&url, &mut archive).0.unwrap().unwrap()
    });
    assert_eq!(exports.await.unwrap(), 50);
    assert_eq!(tasks(&api.env).await, 0);
    let mut ids: Vec<_> = place
        .lines()
        .iter()
        .map(|line| line["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        ids.len(),
        100,
        "none of the full disk, all of the cut one, all of the last"
    );
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50);
    api.finish().await;
}

#[tokio::test]
async fn results_end_when_they_were_asked_to() {
    let settings = [("retention.every_s", "1"), ("retention.result_hours", "2")];
    let api = Api::start_with("retention_results", &settings).await;
    let accept = async |ttl: Value| {
        let mut body = json!({"kind": "demo.noop", "payload": {}});
        if !ttl.is_null() {
            body["result_ttl"] = ttl;
        }
        api.post("/api/v1/tasks", &body).await.accepted()
    };
    let at_once = accept(json!(0)).await;
    let later = accept(json!(3600)).await;
    let default = accept(Value::Null).await;
    let failed = accept(json!(1)).await;
    api.env
        .execute(&format!(
            "update tasks set status = 'COMPLETED', result = '{{\"a\": 1}}', attempt = 1, finished_at = now();
             update tasks set status = 'FAILED', result = null, error_code = 'x', finished_at = now() - interval '1 hour'
             where id = '{failed}'"
        ))
        .await;
    let task = async |id: &str| api.get(&format!("/api/v1/tasks/{id}")).await.json();
    api.env
        .wait_until(LONG, "the result to be gone", async || {
            task(&at_once).await["result"].is_null()
        })
        .await;
    let gone = task(&at_once).await;
    assert_eq!(
        (&gone["result_expired"], &gone["status"]),
        (&json!(true), &json!("COMPLETED"))
    );
    for id in [&later, &default] {
        let kept = task(id).await;
        assert_eq!(kept["result"], json!({"a": 1}));
        assert!(kept.get("result_expired").is_none());
    }
    let ttl = |id: &str| format!("select result_ttl_s from tasks where id = '{id}'");
    assert_eq!(api.env.sql::<i32>(&ttl(&default)).await, 7200);
    // What failed has another round, and another result.
    api.env
        .wait_until(LONG, "the failed one to be looked at", async || {
            api.env.sql::<i32>(&ttl(&failed)).await < 0
        })
        .await;
    assert!(task(&failed).await.get("result_expired").is_none());
    let path = format!("/api/v1/tasks/{failed}/retry");
    let replayed = api
        .request(Method::POST, &path)
        .json(&json!({}))
        .send()
        .await;
    assert_eq!(replayed.unwrap().status(), 202);
    assert_eq!(api.env.sql::<i32>(&ttl(&failed)).await, 1);
    api.finish().await;
}
