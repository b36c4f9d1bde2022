//! One connection of the load: request, answer, request, …; made anew when it broke.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::request::Request;
use super::{Shared, Tally};

const LONGEST_ANSWER: usize = 16 * 1024;
const MOST_HEADERS: usize = 32;
/// Before a connection that failed is made again.
const REST: Duration = Duration::from_millis(25);

pub(super) async fn run(shared: Arc<Shared>, tally: Rc<RefCell<Tally>>) {
    let plan = &shared.plan;
    let mut request = Request::new(plan);
    let mut connection = None;
    while shared.take_ticket() {
        match exchange(&mut connection, &mut request, &shared, &tally).await {
            Ok((answer, latency)) => {
                let mut tally = tally.borrow_mut();
                *tally.statuses.entry(answer.status).or_default() += 1;
                if answer.status == plan.body.wanted_status() {
                    let latency = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
                    tally.latencies.push(latency);
                    if plan.keep_ids {
                        tally.ids.extend(answer.task);
                    }
                    shared.accepted.fetch_add(1, Ordering::Relaxed);
                } else {
                    shared.give_back_ticket();
                }
            }
            Err(error) => {
                connection = None;
                shared.give_back_ticket();
                tally.borrow_mut().fail(error);
                tokio::time::sleep(REST).await;
            }
        }
        if !plan.pause.is_zero() {
            tokio::time::sleep(plan.pause).await;
        }
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Box<[u8; LONGEST_ANSWER]>,
}

async fn exchange(
    connection: &mut Option<Connection>,
    request: &mut Request,
    shared: &Shared,
    tally: &RefCell<Tally>,
) -> io::Result<(Answer, Duration)> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(connect(shared).await?),
    };
    let begin = Instant::now();
    tally.borrow_mut().began.get_or_insert_with(SystemTime::now);
    open.stream.write_all(request.next()).await?;
    let mut filled = 0;
    loop {
        let read = open.stream.read(&mut open.buffer[filled..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        if let Some(answer) = parse(&open.buffer[..filled], shared.plan.keep_ids)? {
            return Ok((answer, begin.elapsed()));
        }
    }
}

async fn connect(shared: &Shared) -> io::Result<Connection> {
    let stream = TcpStream::connect(shared.plan.address).await?;
    stream.set_nodelay(true)?;
    Ok(Connection {
        stream,
        buffer: Box::new([0; LONGEST_ANSWER]),
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    /// From the Location header.
    task: Option<Uuid>,
}

/// `None` while the answer is not complete.
fn parse(bytes: &[u8], wants_task: bool) -> io::Result<Option<Answer>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(invalid(&error.to_string())),
    };
    let value = |name: &str| {
        let header = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    let length: usize = value("content-length")
        .and_then(|length| length.parse().ok())
        .ok_or_else(|| invalid("an answer without Content-Length"))?;
    if bytes.len() < head + length {
        return Ok(None);
    }
    let status = response.code.unwrap_or(0);
    let task = if wants_task && status == 202 {
        let id = value("location").and_then(|path| Uuid::parse_str(path.rsplit('/').next()?).ok());
        Some(id.ok_or_else(|| invalid("a 202 without the task's Location"))?)
    } else {
        None
    };
    Ok(Some(Answer { status, task }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let id = Uuid::from_u128(7);
        let text = format!(
            "HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\nLocation: /api/v1/tasks/{id}\r\n\r\n{{}}"
        );
        for end in 1..text.len() {
            assert_eq!(parse(&text.as_bytes()[..end], true).unwrap(), None);
        }
        let answer = parse(text.as_bytes(), true).unwrap().unwrap();
        let expected = Answer {
            status: 202,
            task: Some(id),
        };
        assert_eq!(answer, expected);
    }

    #[test]
    fn an_acceptance_that_names_no_task_is_an_error() {
        assert!(parse(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", true).is_err());
    }
}
