//! How many files, and so connections, this process may have open. Many systems begin with 1024 and allow far more to
//! whoever asks.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Besides the connections of callers: the database, the broker, listeners, the log.
const OTHERS: usize = 64;

/// Asks for as many as there may be; says so if that is too few for `http.max_connections`.
pub fn raise(max_connections: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let allowed = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the limit of open files could not be raised"
            );
            current
        }
    };
    let wanted = max_connections.saturating_add(OTHERS) as u64;
    if let Some(allowed) = allowed.filter(|allowed| *allowed < wanted) {
        tracing::warn!(
            "this process may open {allowed} files, and http.max_connections = {max_connections} needs {wanted}: raise the limit (ulimit -n, LimitNOFILE) or lower that key"
        );
    }
}
