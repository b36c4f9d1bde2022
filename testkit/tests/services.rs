//! The life of one private PostgreSQL and one private RabbitMQ: start, crash, freeze, loss of all data, end.
//!
//! One test, since a start of RabbitMQ takes 7 to 22 seconds; it needs nothing but the installed programs.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test fail it as the test itself does"
)]

use std::path::PathBuf;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use testkit::services::{Postgres, PostgresOptions, RabbitMq, RabbitMqOptions, procfs};
use tokio::time::timeout;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let random = uuid::Uuid::new_v4().simple().to_string();
        Self(std::env::temp_dir().join(format!("warren-test-{}", &random[..12])))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run_sql(url: &str, statements: &str) -> Result<(), String> {
    let mut connection =
        PgConnection::establish(&format!("{url}?connect_timeout=2")).map_err(|e| e.to_string())?;
    connection
        .batch_execute(statements)
        .map_err(|e| e.to_string())
}

async fn postgres_life(folder: PathBuf) {
    let mut postgres = Postgres::start(&folder, PostgresOptions::default())
        .await
        .unwrap();
    let (url, pid) = (postgres.url(), postgres.pid());
    run_sql(
        &url,
        "CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)",
    )
    .unwrap();

    // A second instance on the same data would damage it.
    let second = Postgres::start(&folder, PostgresOptions::default())
        .await
        .unwrap_err();
    assert!(format!("{second:#}").contains("runs on"), "{second:#}");

    postgres.freeze();
    assert!(run_sql(&url, "SELECT 1").is_err());
    postgres.thaw();
    run_sql(&url, "SELECT 1").unwrap();

    postgres.kill9().await.unwrap();
    assert!(!procfs::is_alive(pid) && !postgres.is_running());
    assert!(run_sql(&url, "SELECT 1").is_err());
    postgres.start_again().await.unwrap();
    assert_eq!(postgres.url(), url);
    run_sql(&url, "INSERT INTO kept SELECT id + 1 FROM kept").unwrap();

    postgres.stop().await.unwrap();
    assert!(!postgres.is_running());
    drop(postgres);
    let postgres = Postgres::start(&folder, PostgresOptions::default())
        .await
        .unwrap();
    run_sql(
        &postgres.url(),
        "DO $$ BEGIN ASSERT (SELECT count(*) FROM kept) = 2; END $$",
    )
    .unwrap();
    postgres.discard().await.unwrap();
    assert!(!folder.exists());
}

async fn connect(rabbitmq: &RabbitMq, vhost: &str) -> lapin::Result<lapin::Connection> {
    lapin::Connection::connect(
        &rabbitmq.amqp_url(vhost),
        lapin::ConnectionProperties::default(),
    )
    .await
}

/// The check fails while an alarm is on.
async fn wait_for_alarm(rabbitmq: &RabbitMq, is_on: bool) {
    let check = ["health", "checks", "alarms"];
    let waiting = async {
        while rabbitmq
            .management()
            .get::<serde_json::Value>(&check)
            .await
            .is_err()
            != is_on
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(10), waiting).await.unwrap();
}

async fn rabbitmq_life(folder: PathBuf) {
    let mut rabbitmq = RabbitMq::start(&folder, RabbitMqOptions::default())
        .await
        .unwrap();
    let (url, pid) = (rabbitmq.amqp_url("warren"), rabbitmq.pid());
    assert!(rabbitmq.resident_bytes() > 30_000_000);

    rabbitmq.create_vhost("a/b").await.unwrap();
    connect(&rabbitmq, "warren").await.unwrap();
    let vhosts = rabbitmq.management().vhosts().await.unwrap();
    assert!(
        vhosts.contains(&"a/b".to_owned()) && vhosts.contains(&"warren".to_owned()),
        "{vhosts:?}"
    );
    rabbitmq.delete_vhost("a/b").await.unwrap();
    assert!(
        !rabbitmq
            .management()
            .vhosts()
            .await
            .unwrap()
            .contains(&"a/b".to_owned())
    );
    assert_eq!(
        rabbitmq.queue_totals("warren").await.unwrap(),
        testkit::services::QueueTotals::default()
    );

    rabbitmq.freeze();
    assert!(
        timeout(Duration::from_millis(700), connect(&rabbitmq, "warren"))
            .await
            .is_err()
    );
    rabbitmq.thaw();
    let connection = connect(&rabbitmq, "warren").await.unwrap();

    rabbitmq.block_publishers().await.unwrap();
    wait_for_alarm(&rabbitmq, true).await;
    rabbitmq.unblock_publishers().await.unwrap();
    wait_for_alarm(&rabbitmq, false).await;

    assert!(rabbitmq.wipe_data().is_err(), "not while it runs");
    rabbitmq.kill9().await.unwrap();
    assert!(!procfs::is_alive(pid) && !connection.status().connected());
    rabbitmq.wipe_data().unwrap();
    rabbitmq.start_again().await.unwrap();
    assert_eq!(rabbitmq.amqp_url("warren"), url);
    connect(&rabbitmq, "warren").await.unwrap();

    let pid = rabbitmq.pid();
    rabbitmq.stop().await.unwrap();
    assert!(!procfs::is_alive(pid));
    rabbitmq.discard().await.unwrap();
    assert!(!folder.exists());
}

#[tokio::test]
async fn servers_live_crash_and_come_back() {
    let folder = Folder::new();
    let lives = async {
        tokio::join!(
            postgres_life(folder.0.join("postgres")),
            rabbitmq_life(folder.0.join("rabbitmq"))
        )
    };
    timeout(Duration::from_secs(180), lives)
        .await
        .expect("the servers' life took longer than three minutes");
}
