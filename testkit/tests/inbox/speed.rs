//! How many mails it takes a second; run alone, in release:
//! `cargo test --release -p testkit --test inbox speed -- --ignored --nocapture`.

use std::time::Instant;

use testkit::inbox::InboxOptions;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use super::client::{LONG, start_with};

const CONNECTIONS: u32 = 16;
const MAILS: u32 = 5_000;

#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn mails_a_second() {
    for keep_raw in [true, false] {
        let inbox = start_with(InboxOptions {
            keep_raw,
            ..InboxOptions::default()
        });
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..CONNECTIONS {
            clients.spawn(send(inbox.smtp_addr()));
        }
        clients.join_all().await;
        inbox
            .wait_for_count(u64::from(CONNECTIONS * MAILS), LONG)
            .await
            .unwrap();
        let mails = f64::from(CONNECTIONS * MAILS);
        let rate = mails / begun.elapsed().as_secs_f64();
        let capacity = mails / server_cpu_seconds();
        println!(
            "keep_raw={keep_raw}: {rate:.0} mails/s, {capacity:.0} mails per second of the server's CPU"
        );
        inbox.stop().await;
    }
}

/// Sends mails as an ordinary client does, one step at a time.
async fn send(address: std::net::SocketAddr) {
    let body = format!(
        "Subject: speed\r\nX-Warren-Task: t\r\n\r\n{}.\r\n",
        "A line of an ordinary mail.\r\n".repeat(30)
    );
    let steps = [
        "MAIL FROM:<a@warren.test>\r\n",
        "RCPT TO:<b@warren.test>\r\n",
        "DATA\r\n",
        &body,
    ];
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reply = [0; 1024];
    for first in ["", "EHLO speed.test\r\n"] {
        stream.write_all(first.as_bytes()).await.unwrap();
        assert_eq!(
            (stream.read(&mut reply).await.unwrap() > 0, reply[0]),
            (true, b'2')
        );
    }
    for _ in 0..MAILS {
        for step in steps {
            stream.write_all(step.as_bytes()).await.unwrap();
            let read = stream.read(&mut reply).await.unwrap();
            assert!(read > 0 && matches!(reply[0], b'2' | b'3'));
        }
    }
}

/// CPU time of the thread that serves SMTP, which tells more than the clock where client and server share cores.
fn server_cpu_seconds() -> f64 {
    let stat = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap())
        .find(|stat| stat.contains("(inbox)"))
        .expect("no thread of that name");
    // Fields 14 and 15 of proc(5), in ticks of 10 ms; two are before the name's end.
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: f64 = [11, 12]
        .map(|field| fields[field].parse::<f64>().unwrap())
        .iter()
        .sum();
    ticks / 100.0
}
