//! The one table of problems. A row is a promise to callers: slugs and statuses don't change.

/// Makes the enum and its table; each row is `Name = status "slug" "title" "what it means and what to do"`.
macro_rules! problems {
    ($($name:ident = $status:literal $slug:literal $title:literal $help:literal)*) => {
        /// A kind of problem: its status, its slug (the last part of `type`) and its texts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemType { $($name),* }

        impl ProblemType {
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The last part of the problem's `type`, e.g. `unknown-kind` in `/problems/unknown-kind`.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug),* }
            }

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            /// The same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            /// What it means and what the caller can do about it.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help),* }
            }

            /// The `type` member.
            pub const fn uri(self) -> &'static str {
                match self { $(Self::$name => concat!("/problems/", $slug)),* }
            }
        }
    };
}

problems! {
    MalformedJson = 400 "malformed-json" "The body is not JSON"
        "The body could not be read as JSON (RFC 8259) in UTF-8. The detail says where reading stopped."
    EmptyBody = 400 "empty-body" "The body is empty"
        "This request needs a JSON object as its body. The pages under /docs show an example of each."
    IncompleteBody = 400 "incomplete-body" "The body did not arrive whole"
        "The connection ended, or the encoding broke, before the whole body had arrived. Send the request again; with an Idempotency-Key that is safe."
    InvalidParameters = 400 "invalid-parameters" "The query has unknown or invalid parameters"
        "Each entry of errors names a query parameter and what is wrong with it."
    InvalidHeader = 400 "invalid-header" "A header is not valid"
        "Each entry of errors names a header and what is wrong with it. An Idempotency-Key is 1 to 255 visible ASCII characters."
    MissingKey = 401 "missing-api-key" "An API key is needed"
        "Send the header `Authorization: Bearer wr_…`. Keys are made with `api-service key create --name NAME`."
    InvalidKey = 401 "invalid-api-key" "The API key is not valid"
        "The key is unknown, revoked or expired, or the Authorization header is not of the form `Bearer wr_…`. Keys are made with `api-service key create --name NAME` and listed with `api-service key list`."
    InsufficientScope = 403 "insufficient-scope" "The API key may not do this"
        "The detail names the scope that is needed. Keys get their scopes when they are made: `api-service key create --name NAME --scopes submit,read`."
    NotFound = 404 "not-found" "There is nothing at this address"
        "No endpoint has this path. /docs lists all of them."
    TaskNotFound = 404 "task-not-found" "There is no such task"
        "No task has this id. It was never accepted, or it finished longer ago than retention.finished_days and has been deleted."
    QueueNotFound = 404 "queue-not-found" "There is no such queue"
        "The queues are mail, ai and work."
    KindNotFound = 404 "kind-not-found" "There is no such kind of task"
        "GET /api/v1/kinds lists the kinds."
    TemplateNotFound = 404 "template-not-found" "There is no such template"
        "No template has this name, or it has no such version. GET /templates lists them."
    UserNotFound = 404 "user-not-found" "There is no such user"
        "It may have been erased. GET /api/v1/users lists those that there are."
    SuppressionNotFound = 404 "suppression-not-found" "There is no such suppression"
        "No suppression has this id. GET /api/v1/suppressions?address=… finds those of an address."
    VerificationNotFound = 404 "verification-not-found" "There is no such verification"
        "No verification has this id, or it was made longer ago than verification.keep_days and has been deleted."
    LimitNotFound = 404 "limit-not-found" "There is no such limit"
        "GET /api/v1/limits lists the limits. A limit is about a queue, a kind or a key: /limits/queue/mail, /limits/kind/email.send, /limits/key/tenant:*."
    WorkerNotFound = 404 "worker-not-found" "There is no such worker"
        "GET /api/v1/workers lists the workers of the last day. A process that was declared dead goes on under a new id."
    ReplayNotFound = 404 "replay-not-found" "There is no such replay"
        "No replay has this id. It was never begun, or it ended longer ago than retention.audit_days and has been deleted."
    MethodNotAllowed = 405 "method-not-allowed" "This address does not take this method"
        "The Allow header names the methods that it takes."
    UserExists = 409 "user-exists" "There is a user with this address"
        "The detail says which one. Letters' case makes no other address."
    TaskState = 409 "task-state" "The task's state does not allow this"
        "The detail says which state the task is in. Look at the task again: it may have moved on in this moment."
    ReplayState = 409 "replay-state" "The state of a replay does not allow this"
        "The detail says why: a replay that has ended can't be stopped, and while one goes on no other begins with the same filter."
    VerificationOver = 410 "verification-over" "This code is of no use any more"
        "The detail says why: its time is over, its tries are used up, or it was used. Unless it was verified, POST …/resend sends another one."
    BodyTooLarge = 413 "body-too-large" "The body is too large"
        "A body may have at most http.max_body_bytes bytes (1 MiB by default). Send less, or raise that key in the service's configuration."
    UnsupportedMediaType = 415 "unsupported-media-type" "The body is of another type than expected"
        "Send the header `Content-Type: application/json` (text/csv for an import, message/rfc822 for a bounce), a body in UTF-8, and no Content-Encoding."
    InvalidFields = 422 "invalid-fields" "Some fields are not valid"
        "Each entry of errors names a field of the body by its JSON pointer (RFC 6901), what is wrong with it, and the configuration key of the limit where there is one."
    UnknownKind = 422 "unknown-kind" "There is no such kind of task"
        "known_kinds names the kinds that this service runs. Kinds that begin with `demo.` are known only where service.demo_kinds is true."
    IdempotencyKeyReused = 422 "idempotency-key-reused" "The Idempotency-Key belongs to another request"
        "A request with this Idempotency-Key but another method, path or body has been answered before. Use a new key for a new request, and repeat a request byte for byte."
    WrongCode = 422 "wrong-code" "The code is not right"
        "tries_left says how many tries there are. The code is in the latest mail."
    InvalidReceipt = 422 "invalid-receipt" "This is no receipt, or its time is over"
        "A receipt is what a successful check answers, and is valid for verification.receipt_ttl_s. GET /verifications/{id} gives a fresh one."
    VerificationThrottled = 429 "verification-throttled" "Too many codes were asked for"
        "Nothing was sent. The detail says what is limited: [verification] in the configuration. Ask again after the seconds in Retry-After."
    VerificationLocked = 429 "verification-locked" "Too many wrong codes"
        "For this recipient and purpose there were verification.max_failed_per_day wrong codes, so none is checked until the seconds in Retry-After are over."
    RateLimited = 429 "rate-limited" "Too many requests with this API key"
        "Nothing was done. Send the request again after the seconds in Retry-After. RateLimit-Policy says what the key may do and RateLimit what is left; `api-service key limit ID --rate N --burst N` changes it."
    QuotaExhausted = 429 "quota-exhausted" "This API key's tasks of the day are used up"
        "Nothing was stored. The quota counts accepted tasks, a mail to ten recipients as ten, and begins anew at midnight UTC, which is after the seconds in Retry-After. `api-service key limit ID --daily-quota N` changes it."
    Internal = 500 "internal" "Something went wrong in this service"
        "It has been logged under the request id. Sending the request again is safe with an Idempotency-Key."
    NotConfigured = 501 "not-configured" "This service is not configured for that"
        "The detail names the configuration key that is needed. All replicas of both services need the same."
    Overloaded = 503 "overloaded" "Too many requests are waiting"
        "Nothing was stored. Send the request again after the seconds in Retry-After. accept.queue_capacity and accept.queue_bytes bound what may wait."
    TooManyWaiting = 503 "too-many-waiting" "Too many requests are waiting for tasks"
        "At most http.max_waiting requests may wait with ?wait= at one time. Ask again later, or without ?wait=."
    TooManyStreams = 503 "too-many-streams" "Too many event streams are open"
        "At most http.max_streams event streams may be open in one process at one time. Ask again later, ask with ?wait= instead, or raise that key in the service's configuration."
    FilesUnavailable = 503 "files-unavailable" "The file store can't be reached"
        "Nothing was accepted. Send the request again after the seconds in Retry-After; the cause is in the log."
    DatabaseUnavailable = 503 "database-unavailable" "The database can't be reached"
        "Send the request again after the seconds in Retry-After. A POST may have been stored before the database went away, so give it an Idempotency-Key: then repeating it is safe."
    Stopping = 503 "stopping" "The service is stopping"
        "Send the request again: another replica, or this one after its restart, will answer it."
}

impl ProblemType {
    /// The row with that slug.
    pub fn find(slug: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|row| row.slug() == slug)
    }

    /// Seconds to wait before the next try, where trying again is the remedy.
    pub const fn retry_after(self) -> Option<u32> {
        match self {
            Self::Overloaded
            | Self::DatabaseUnavailable
            | Self::Stopping
            | Self::FilesUnavailable
            | Self::RateLimited
            | Self::QuotaExhausted => Some(1),
            Self::TooManyWaiting | Self::TooManyStreams => Some(5),
            Self::VerificationThrottled | Self::VerificationLocked => Some(60),
            _ => None,
        }
    }
}
