//! The block that tells where everything is.

use std::fs;
use std::path::Path;

use crate::services::Credentials;
use crate::stack::Stack;

pub(super) fn text(stack: &Stack, key: &str) -> String {
    let api = stack.api_url();
    let Credentials { user, password } = stack.rabbitmq.credentials();
    let folder = shown(stack.folder());
    format!(
        "\n\
         Warren runs. Ctrl-C ends it; its data stays in {folder}.\n\
         \n\
         \x20 API         {api}/api/v1\n\
         \x20 Docs        {api}/docs\n\
         \x20 Inbox       {inbox}\n\
         \x20 RabbitMQ    http://127.0.0.1:{management}   user {user}   password {password}\n\
         \x20 PostgreSQL  {database}\n\
         \x20 API key     {key}\n\
         \x20 For shells  set -a; . {folder}/env\n\
         \n\
         \x20 curl {api}/api/v1/emails -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\\n\
         \x20   -d '{{\"to\":\"you@example.com\",\"subject\":\"Hi\",\"text\":\"Sent by Warren\"}}'\n",
        inbox = stack.inbox_url(),
        management = stack.rabbitmq.management_port(),
        database = stack.postgres.url(),
    )
}

/// The block of the run that goes on, for whoever tries to start another.
pub(super) fn saved(folder: &Path) -> String {
    fs::read_to_string(super::summary_path(folder))
        .unwrap_or_else(|_| "It is still starting.\n".to_owned())
}

/// Relative to where the reader stands, where that is shorter.
fn shown(folder: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    folder
        .strip_prefix(&here)
        .unwrap_or(folder)
        .display()
        .to_string()
}
