//! A client of server-sent events that takes nothing for granted: what is not of the standard's form is a failure.

use std::time::Duration;

use serde_json::Value;

/// Longer than any stream may be silent in a test.
const SILENCE: Duration = Duration::from_secs(60);

/// One event, its data parsed as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: Value,
}

/// What a stream sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Event(Event),
    Comment(String),
    /// Milliseconds until a client should come back.
    Retry(u64),
}

/// An open stream. Dropping it hangs up.
#[derive(Debug)]
pub struct Events {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

impl Events {
    /// # Panics
    /// When the answer is no stream of events.
    #[must_use]
    pub fn of(response: reqwest::Response) -> Self {
        assert_eq!(response.status(), 200, "{response:?}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            buffer: Vec::new(),
        }
    }

    pub fn response(&self) -> &reqwest::Response {
        &self.response
    }

    /// The next thing sent; none at the orderly end.
    ///
    /// # Panics
    /// When the stream breaks, is silent for a minute, or is not of the standard's form.
    pub async fn item(&mut self) -> Option<Item> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Some(parse(std::str::from_utf8(&block).expect("UTF-8")));
            }
            let chunk = tokio::time::timeout(SILENCE, self.response.chunk())
                .await
                .unwrap_or_else(|_| panic!("the stream was silent for {SILENCE:?}"))
                .unwrap_or_else(|error| panic!("the stream broke: {error}"));
            let Some(chunk) = chunk else {
                assert!(self.buffer.is_empty(), "the stream ended in an event");
                return None;
            };
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// The next event; none at the orderly end.
    ///
    /// # Panics
    /// As [`Events::item`].
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.item().await? {
                Item::Event(event) => return Some(event),
                Item::Comment(_) | Item::Retry(_) => {}
            }
        }
    }

    /// The next event of that name; those before are left out.
    ///
    /// # Panics
    /// As [`Events::item`], and when the stream ends without one.
    pub async fn find(&mut self, name: &str) -> Event {
        while let Some(event) = self.next().await {
            if event.name == name {
                return event;
            }
        }
        panic!("the stream ended without {name}");
    }

    /// Every event until the end.
    ///
    /// # Panics
    /// As [`Events::item`].
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

fn parse(block: &str) -> Item {
    let (mut name, mut id, mut data) = (None, None, Vec::new());
    for line in block.trim_end().lines() {
        if let Some(comment) = line.strip_prefix(':') {
            return Item::Comment(comment.trim().to_owned());
        }
        let (field, value) = line.split_once(": ").unwrap_or((line, ""));
        match field {
            "retry" => return Item::Retry(value.parse().expect("milliseconds")),
            "event" => name = Some(value.to_owned()),
            "id" => id = Some(value.to_owned()),
            "data" => data.push(value),
            other => panic!("{other:?} is no field of an event: {block:?}"),
        }
    }
    let data = data.join("\n");
    Item::Event(Event {
        name: name.unwrap_or_else(|| panic!("no name: {block:?}")),
        id: id.unwrap_or_else(|| panic!("no id: {block:?}")),
        data: serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_apart() {
        assert_eq!(parse(": x\n\n"), Item::Comment("x".to_owned()));
        assert_eq!(parse("retry: 7\n\n"), Item::Retry(7));
        let event = Event {
            name: "a".to_owned(),
            id: "1".to_owned(),
            data: serde_json::json!([1]),
        };
        assert_eq!(
            parse("event: a\nid: 1\ndata: [\ndata: 1]\n\n"),
            Item::Event(event)
        );
    }
}
