//! The code is in the mail, and nowhere else.

use super::{ask, check, code, id, with};
use crate::world::World;
use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};
use tracing_subscriber::{filter::LevelFilter, fmt, prelude::*};

/// Everything that this process logs, of all tests.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_code_stands_nowhere() {
    let log = Log::default();
    let writer = log.clone();
    let layer = fmt::layer().with_writer(move || writer.clone());
    // Our own lines at every level: other libraries' traces show what is on the wire, and nobody runs them so.
    let ours = tracing_subscriber::filter::Targets::new()
        .with_target("api_service", LevelFilter::TRACE)
        .with_target("mailer_service", LevelFilter::TRACE)
        .with_target("shared", LevelFilter::TRACE);
    let _first = tracing_subscriber::registry()
        .with(layer.with_filter(ours))
        .try_init();

    // Eight letters: nothing else looks so by chance.
    let settings = with(&[("verification.form", "letters8")]);
    let mut world = World::without_mailer("verify_secrecy", &settings).await;
    let asked = id(&ask(&world, "ada@example.com").await);
    let queue = "warren.tasks.mail.high";
    world
        .env
        .wait_until(crate::world::LONG, "the message", async || {
            world.env.queue_depth(queue).await == 1
        })
        .await;
    let messages = format!("{:?}", world.env.get_messages(queue, 1).await);
    world.start_mailer();
    let code = code(&world, "ada@example.com", 1).await;
    assert_eq!(code.len(), 8);
    let task: String = world
        .env
        .sql(&format!(
            "select task_id from verifications where id = '{asked}'"
        ))
        .await;
    world.wait_for(&task, "COMPLETED").await;
    let (_, refused) = check(&world, &asked, "BBBBBBBB").await;
    let seen = [
        messages,
        refused.to_string(),
        world
            .get(&format!("/tasks/{task}?include=payload"))
            .await
            .to_string(),
        world
            .get(&format!("/tasks/{task}/timeline"))
            .await
            .to_string(),
        world
            .get(&format!("/verifications/{asked}"))
            .await
            .to_string(),
        world.metrics().await,
    ];
    assert_eq!(check(&world, &asked, &code).await.0, 200);
    for text in [code.clone(), code.to_lowercase()] {
        assert!(seen.iter().all(|seen| !seen.contains(&text)));
        assert_eq!(world.tables_with(&text).await, Vec::<String>::new());
    }
    // That such a search finds what is there.
    assert!(
        world
            .tables_with(&asked)
            .await
            .contains(&"verifications".to_owned())
    );
    world.finish().await;
    let log = log.0.lock().unwrap_or_else(PoisonError::into_inner);
    let log = String::from_utf8_lossy(&log);
    assert!(log.contains("the database") || log.contains("started") || !log.is_empty());
    assert!(!log.contains(&code) && !log.contains("ada@example.com"));
}
