//! One stream: tells a client what it does not know yet, until the task is final.
//!
//! It holds no more than where the client stands and the latest look at the task. Whatever output the client lacks is read
//! from the table when the connection takes it, some pieces at a time; so a slow client costs no memory.

use super::{
    position::{Position, print},
    wire::{self, OutputEvent, RestartEvent, StateEvent},
};
use crate::{
    app::AppState,
    auth::KeyHash,
    endpoints::tasks::resource::TaskResource,
    queries::{
        tasks,
        watch::{self, Chunk, Look, Stretch},
    },
    watcher::{Fresh, Watch},
};
use actix_web::web::{Bytes, Data};
use futures_util::{Stream, stream};
use serde::Serialize;
use shared::{
    db::DbError,
    task::{Status, TaskId},
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

/// Pieces of output that are read and sent at once, and the bytes after which no more are added. What a client does not
/// take stays with its connection, so this is the memory that one who reads nothing costs.
const PIECES: i64 = 256;
const BYTES: usize = 8 << 10;
/// Until the next try to read what could not be read.
const AGAIN: Duration = Duration::from_secs(1);
/// Clients come back this long after a stream has broken, in milliseconds; not all of them at once.
const RETRY_MS: std::ops::Range<u32> = 1000..3000;

/// A place among the open streams.
pub(super) struct Place(#[expect(dead_code, reason = "held until the end")] OwnedSemaphorePermit);

impl Place {
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Self {
        metrics::gauge!("warren_streams_open").increment(1);
        Self(permit)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        metrics::gauge!("warren_streams_open").decrement(1);
    }
}

pub(super) struct Follow {
    state: Data<AppState>,
    key: KeyHash,
    /// What the client knows.
    told: Position,
    look: Arc<Look>,
    fresh: Option<Arc<Fresh>>,
    watch: Option<Watch>,
    heartbeat: Duration,
    next_beat: Instant,
    is_over: bool,
    _place: Place,
}

impl Follow {
    pub(super) fn new(
        state: Data<AppState>,
        key: KeyHash,
        told: Position,
        look: Look,
        place: Place,
    ) -> Self {
        let heartbeat = Duration::from_secs(state.config.http.stream_heartbeat_s);
        Self {
            state,
            key,
            told,
            look: Arc::new(look),
            fresh: None,
            watch: None,
            heartbeat,
            next_beat: Instant::now() + heartbeat,
            is_over: false,
            _place: place,
        }
    }

    /// The client has been told the end: a final state is told by nothing else.
    pub(super) fn has_ended(&self) -> bool {
        self.look.is_final() && self.told.state == print(&state(&self.look))
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        let retry = format!("retry: {}\n\n", rand::random_range(RETRY_MS));
        stream::unfold((self, retry), async |(mut follow, mut text)| {
            follow.next(&mut text).await?;
            let bytes = Bytes::from(std::mem::take(&mut text));
            Some((Ok(bytes), (follow, text)))
        })
    }

    /// Adds what is to be sent next, as soon as there is something; `None` at the end.
    async fn next(&mut self, text: &mut String) -> Option<()> {
        loop {
            if self.is_over || self.state.stop.is_cancelled() {
                return (!text.is_empty()).then_some(());
            }
            // What has been added when the time is over stays.
            let told = tokio::time::timeout_at(self.next_beat, self.tell(text)).await;
            // A key that was revoked meanwhile gets nothing more.
            if !text.is_empty() {
                self.state.keys.known(&self.key)?;
                self.next_beat = Instant::now() + self.heartbeat;
                return Some(());
            }
            let mut next_look = self.next_beat;
            if let Ok(Err(error)) = told {
                next_look = next_look.min(Instant::now() + AGAIN);
                tracing::debug!(task.id = %self.look.id, error = &error as &dyn std::error::Error, "a stream waits for the database");
            }
            let stop = self.state.stop.clone();
            tokio::select! {
                () = self.changed() => {}
                () = stop.cancelled() => {}
                () = tokio::time::sleep_until(next_look) => {}
            }
            if Instant::now() >= self.next_beat {
                text.push_str(": still there\n\n");
            }
        }
    }

    /// Waits for news of the task.
    async fn changed(&mut self) {
        let task = TaskId(self.look.id);
        let watch = self
            .watch
            .get_or_insert_with(|| self.state.watcher.watch(task));
        loop {
            watch.changed().await;
            let sight = watch.sight();
            self.is_over = sight.is_gone;
            let Some(look) = sight.look else { return };
            // The look that this stream began with may be the later one.
            if self.is_over || look.at > self.look.at {
                self.look = look;
                self.fresh = sight.fresh;
                return;
            }
        }
    }

    /// Adds the next things that the client does not know; nothing if there are none.
    async fn tell(&mut self, text: &mut String) -> Result<(), DbError> {
        loop {
            if self.told.place < self.look.head {
                let chunks = self.chunks().await?;
                if !chunks.is_empty() {
                    self.tell_chunks(text, &chunks);
                    return Ok(());
                }
                // Removed meanwhile, with the task or to make room for a later attempt's.
                self.told.place = self.look.head;
            }
            if !self.look.is_final() {
                self.tell_state(text);
                self.tell_progress(text);
                return Ok(());
            }
            if self.tell_end(text).await? {
                return Ok(());
            }
        }
    }

    /// Some of the output that the client lacks.
    async fn chunks(&mut self) -> Result<Vec<Chunk>, DbError> {
        let from = self.told.place;
        if let Some(fresh) = self.fresh.take()
            && fresh.from <= from
        {
            let mut bytes = 0;
            let lacking = fresh.chunks.iter().filter(|chunk| chunk.place > from);
            let chunks: Vec<_> = lacking
                .take_while(|chunk| {
                    let has_room = bytes < BYTES;
                    bytes += chunk.text.len();
                    has_room
                })
                .cloned()
                .collect();
            if !chunks.is_empty() {
                return Ok(chunks);
            }
        }
        let stretch = Stretch {
            task: self.look.id,
            from,
            to: self.look.head,
        };
        let read = move |connection: &mut _| watch::output(connection, &[stretch], PIECES, BYTES);
        let rows = self.state.pool.run(read).await?;
        Ok(rows.into_iter().map(|(_, chunk)| chunk).collect())
    }

    fn tell_chunks(&mut self, text: &mut String, chunks: &[Chunk]) {
        // That an attempt runs is told before its output, and how it ended after it.
        let begins = (self.look.status() == Some(Status::Processing)).then_some(self.look.attempt);
        let beginning = chunks
            .iter()
            .position(|chunk| Some(chunk.place.attempt) == begins);
        for (number, chunk) in chunks.iter().enumerate() {
            if Some(number) == beginning {
                self.tell_state(text);
            }
            let attempt = chunk.place.attempt;
            if self.told.place.attempt != 0 && self.told.place.attempt != attempt {
                self.told.place = watch::Place { attempt, seq: 0 };
                wire::event(text, "restart", self.told, &json(&RestartEvent { attempt }));
            }
            self.told.place = chunk.place;
            wire::event(text, "output", self.told, &json(&OutputEvent::from(chunk)));
        }
    }

    fn tell_state(&mut self, text: &mut String) {
        let state = state(&self.look);
        if self.told.state != print(&state) {
            self.told.state = print(&state);
            wire::event(text, "state", self.told, &state);
        }
    }

    fn tell_progress(&mut self, text: &mut String) {
        if let Some(progress) = wire::progress(&self.look)
            && self.told.progress != print(&progress)
        {
            self.told.progress = print(&progress);
            wire::event(text, "progress", self.told, &progress);
        }
    }

    /// False: it is not the end, since an operator has the task run again.
    async fn tell_end(&mut self, text: &mut String) -> Result<bool, DbError> {
        let id = self.look.id;
        let read = move |connection: &mut _| {
            let row = tasks::find(connection, id)?;
            Ok(row.zip(watch::look(connection, vec![id])?.pop()))
        };
        let Some((row, look)) = self.state.pool.run(read).await? else {
            self.is_over = true;
            return Ok(true);
        };
        if row.updated_at != look.updated_at || !look.shows_the_same(&self.look) {
            self.look = Arc::new(look);
            return Ok(false);
        }
        self.told.state = print(&state(&look));
        self.is_over = true;
        wire::event(text, "end", self.told, &json(&TaskResource::from(row)));
        Ok(true)
    }
}

/// What a state event says.
fn state(look: &Look) -> String {
    json(&StateEvent::from(look))
}

fn json(value: &impl Serialize) -> String {
    // Strings and numbers alone, which can't fail.
    serde_json::to_string(value).unwrap_or_default()
}
