//! One connection of the endpoint: read a request, do as told, again.

use super::{Reply, Request, Shared};
use anyhow::{Context as _, bail};
use std::sync::Arc;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

pub(super) async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared>,
) {
    // Dropped with this future, and with it every connection.
    let mut open = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let number = {
            let mut connections = Shared::lock(&shared.connections);
            *connections += 1;
            *connections
        };
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        open.spawn(async move {
            let ended = match acceptor {
                None => serve(tcp, number, &shared).await,
                Some(acceptor) => match acceptor.accept(tcp).await {
                    Ok(tls) => serve(tls, number, &shared).await,
                    Err(error) => Err(error.into()),
                },
            };
            if let Err(error) = ended {
                tracing::debug!("a connection of the endpoint ended: {error:#}");
            }
        });
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    number: usize,
    shared: &Shared,
) -> anyhow::Result<()> {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer, number).await? {
        match shared.note(request) {
            Reply::Answer {
                status,
                headers,
                body,
            } => {
                let fields: String = headers
                    .iter()
                    .map(|(name, value)| [name, ": ", value, "\r\n"].concat())
                    .collect();
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{fields}\r\n");
                let answer = [head.into_bytes(), body].concat();
                stream.write_all(&answer).await?;
                stream.flush().await?;
            }
            Reply::Raw(bytes) => {
                stream.write_all(&bytes).await?;
                return Ok(stream.shutdown().await?);
            }
            Reply::Endless => {
                stream.write_all(b"HTTP/1.1 200 X\r\n\r\n").await?;
                loop {
                    stream.write_all(&[b'x'; 8192]).await?;
                }
            }
            Reply::Silence => {
                while stream.read_buf(&mut buffer).await? > 0 {}
                return Ok(());
            }
            Reply::AnswerAndClose(status) => {
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await?;
                return Ok(stream.shutdown().await?);
            }
        }
    }
    Ok(())
}

/// The next request; none when the other side has closed.
async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    connection: usize,
) -> anyhow::Result<Option<Request>> {
    loop {
        if let Some((mut request, head)) = parse(buffer, connection)? {
            let length = match request.header("content-length") {
                Some(length) => length.parse().context("content-length")?,
                None if request.header("transfer-encoding").is_some() => {
                    bail!("a chunked request, which this endpoint does not read")
                }
                None => 0,
            };
            while buffer.len() < head + length {
                if stream.read_buf(buffer).await? == 0 {
                    bail!("the request ended within its body");
                }
            }
            request.body = buffer[head..head + length].to_vec();
            buffer.drain(..head + length);
            return Ok(Some(request));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// A request without its body, and the length of its head.
fn parse(buffer: &[u8], connection: usize) -> anyhow::Result<Option<(Request, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(buffer)? else {
        return Ok(None);
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Some((
        Request {
            method: request.method.unwrap_or_default().to_owned(),
            target: request.path.unwrap_or_default().to_owned(),
            headers: request
                .headers
                .iter()
                .map(|header| (header.name.to_ascii_lowercase(), text(header.value)))
                .collect(),
            body: Vec::new(),
            connection,
        },
        head,
    )))
}
