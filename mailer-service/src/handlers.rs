//! How each kind of task is done. The list of kinds makes the dispatch, so a kind without a handler does
//! not compile. A handler says what happened; it never acks, retries or writes the task's row itself.

mod demo_calculate;
mod demo_noop;
mod demo_sleep;
mod demo_stream;
mod demo_unreliable;
mod email_code;
mod email_send;
mod http_request;

use crate::{
    attachments::Attachments,
    heartbeat::Identity,
    outbound,
    pace::Pace,
    permit::Permit,
    point::Point,
    progress::Board,
    setup::{SetupError, unusable},
    smtp::Sender,
    suppressions::Suppressions,
    task::{Claimed, Failure, TaskError},
    templates::Templates,
};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::value::RawValue;
use shared::{
    config::Config,
    fields, for_each_kind,
    kinds::{
        DemoCalculate, DemoNoop, DemoSleep, DemoStream, DemoUnreliable, EmailCode, EmailSend,
        HttpRequest, Kind,
    },
    pepper::Peppers,
    task::{TaskId, UNKNOWN_KIND},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What codes and links in mails are made of.
pub struct Links {
    pub public_url: Option<String>,
    pub peppers: Peppers,
}

/// What handlers share.
pub struct Services {
    pub mail: Sender,
    pub templates: Templates,
    pub suppressions: Suppressions,
    pub attachments: Attachments,
    pub links: Links,
    pub outbound: outbound::Client,
}

impl Services {
    /// Checks the configuration of each. Connects to nothing.
    pub fn new(
        config: &Config,
        templates: Templates,
        suppressions: Suppressions,
        pace: Pace,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            mail: Sender::new(config)?.paced_by(pace),
            templates,
            suppressions,
            attachments: Attachments::new(config)?,
            links: Links {
                public_url: config.public_url().map_err(unusable)?,
                peppers: config.peppers().map_err(unusable)?,
            },
            outbound: outbound::Client::new(&config.outbound)?,
        })
    }

    /// Ends their idle connections, after the last task.
    pub async fn close(&self) {
        self.mail.close().await;
        self.outbound.close();
    }
}

/// One attempt, as its handler sees it.
#[derive(Debug, Clone)]
pub struct Context {
    pub task: TaskId,
    /// From 1.
    pub attempt: i32,
    /// When the attempt is dropped.
    pub deadline: Instant,
    /// As the task's caller asked; may lie in the past.
    pub run_at: Option<DateTime<Utc>>,
    /// From then on nothing of it may begin.
    pub useful_until: Option<Instant>,
    /// Fires at the soft time limit, when somebody cancels the task, and when the process has to stop. A handler that
    /// has done nothing that must be recorded answers with [`TaskError::Interrupted`].
    pub cancelled: CancellationToken,
    pub lease: Identity,
    pub board: Board,
    pub point: Point,
}

impl Permit for Context {
    /// A process that slept through its lease must not begin what others have taken over, and nothing is begun too late.
    fn is_held(&self) -> bool {
        let is_useful = self.useful_until.is_none_or(|until| Instant::now() < until);
        is_useful && !self.cancelled.is_cancelled() && self.lease.is_held()
    }

    fn withdrawn(&self) -> &CancellationToken {
        &self.cancelled
    }

    fn point_of_no_return(&self) -> Option<BoxFuture<'_, bool>> {
        let pass = async || self.point_of_no_return().await.is_ok();
        self.point.is_ahead().then(|| pass().boxed())
    }
}

impl Context {
    /// Says how far the attempt is: percent from 0 to 100, a note for people. Written at most four times a second;
    /// the latest word counts.
    pub fn progress(&self, percent: impl Into<Option<f64>>, note: Option<&str>) {
        self.board
            .report((self.task, self.attempt), percent.into(), note);
    }

    /// Puts out a piece of text, for those who follow the task (`GET /tasks/{id}/events`). What is emitted between two
    /// writes, four a second at most, is written and delivered as one.
    ///
    /// Waits while `output.buffer_bytes` of this attempt are to be written still, so also while the database is away;
    /// dropped then, it has emitted a part. Beyond `output.max_bytes` output is cut, and so marked. What was emitted is on
    /// disk when the task's outcome is; a worker that is killed loses what it had not written.
    pub async fn emit(&self, text: &str) {
        self.board.emit((self.task, self.attempt), text).await;
    }

    /// To be called right before the work does what can't be taken back, by kinds with [`Kind::MARKS_POINT`]. For a task
    /// that asks to be held it returns once that is on disk; for others at once. After an error nothing may be done: the
    /// task is somebody else's by now, or is to end.
    pub async fn point_of_no_return(&self) -> Result<(), TaskError> {
        let passed = self.cancelled.run_until_cancelled(self.point.pass()).await;
        passed.unwrap_or(Err(TaskError::Interrupted))
    }

    /// Equal on every attempt of a task; for services that recognise repeats.
    pub fn idempotency_token(&self) -> String {
        self.task.to_string()
    }
}

/// How a kind is done.
pub trait Handler: Kind {
    fn run(
        self,
        context: &Context,
        services: &Services,
    ) -> impl Future<Output = Result<Self::Output, TaskError>> + Send;
}

macro_rules! dispatch {
    ($($kind:ident),* $(,)?) => {
        /// Runs the handler of the task's kind; returns the result as JSON.
        pub async fn run(task: &Claimed, context: &Context, services: &Services) -> Result<Box<RawValue>, TaskError> {
            match task.kind.as_str() {
                // Boxed, so that a small kind does not carry the largest one's state.
                $(<$kind as Kind>::NAME => Box::pin(run_kind::<$kind>(task, context, services)).await,)*
                _ => Err(TaskError::Park(Failure::new(
                    UNKNOWN_KIND,
                    format!("the worker that got it does not know the kind {:?}; the task waits for one that does", task.kind),
                ))),
            }
        }
    };
}
for_each_kind!(dispatch);

async fn run_kind<K: Handler>(
    task: &Claimed,
    context: &Context,
    services: &Services,
) -> Result<Box<RawValue>, TaskError> {
    let payload: K = fields::parse(task.payload.as_bytes()).map_err(|error| {
        let at = if error.pointer.is_empty() {
            "/"
        } else {
            &error.pointer
        };
        TaskError::Fail(Failure::new(
            "invalid_payload",
            format!("the payload can't be read at {at}: {}", error.detail),
        ))
    })?;
    let output = payload.run(context, services).await?;
    serde_json::value::to_raw_value(&output).map_err(|error| {
        TaskError::Fail(Failure::new(
            "invalid_result",
            format!("the result is not JSON: {error}"),
        ))
    })
}
