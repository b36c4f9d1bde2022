use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::Proxy;

/// A server that gives every byte back.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn ping(stream: &mut TcpStream) -> std::io::Result<u8> {
    stream.write_all(b"x").await?;
    stream.read_u8().await
}

const SOON: Duration = Duration::from_millis(150);

#[tokio::test]
async fn passes_and_counts() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ping(&mut stream).await.unwrap(), b'x');
    assert_eq!((proxy.accepted(), proxy.open(), proxy.bytes()), (1, 1, 2));

    let mut rest = Vec::new();
    stream.write_all(b"the end").await.unwrap();
    stream.shutdown().await.unwrap();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"the end");
}

#[tokio::test]
async fn a_cut_ends_connections_and_refuses_new_ones_until_healed() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    ping(&mut stream).await.unwrap();

    proxy.cut().await;
    assert!(
        timeout(SOON, ping(&mut stream))
            .await
            .expect("the connection must end")
            .is_err()
    );
    assert!(TcpStream::connect(proxy.address()).await.is_err());

    proxy.heal().await;
    let mut again = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ping(&mut again).await.unwrap(), b'x');
}

#[tokio::test]
async fn a_stall_accepts_and_passes_nothing_until_healed() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut old = TcpStream::connect(proxy.address()).await.unwrap();
    ping(&mut old).await.unwrap();

    proxy.stall().await;
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(timeout(SOON, ping(&mut old)).await.is_err());
    assert!(timeout(SOON, ping(&mut new)).await.is_err());

    proxy.heal().await;
    // What was written while it stalled arrives now.
    assert_eq!(timeout(SOON, old.read_u8()).await.unwrap().unwrap(), b'x');
    assert_eq!(timeout(SOON, new.read_u8()).await.unwrap().unwrap(), b'x');
}

#[tokio::test]
async fn a_delay_holds_bytes_back_each_way() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    ping(&mut stream).await.unwrap();

    proxy.delay(Duration::from_millis(60)).await;
    let start = Instant::now();
    ping(&mut stream).await.unwrap();
    assert!(
        start.elapsed() >= Duration::from_millis(120),
        "{:?}",
        start.elapsed()
    );
}
