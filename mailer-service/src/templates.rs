//! The templates that mails are made of. A version never changes, so each is read once; a thread of its own reads them,
//! so that no mail's runtime waits for the database.

use crate::queries::templates;
use shared::{
    config::Config,
    db::Session,
    template::{Compiled, Content, Limits, builtin},
    threads,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};
use tokio::sync::oneshot;

/// Versions that are kept.
const KEPT: usize = 1000;

type Key = (String, i32);

/// Why a mail has no template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoTemplate {
    /// The database can't be asked now.
    Unavailable,
    /// There is none such, or this version of Warren can't use it.
    Unusable(String),
}

/// A handle to the reading thread; clones share what is kept.
#[derive(Debug, Clone)]
pub struct Templates {
    kept: Arc<Mutex<HashMap<Key, Arc<Compiled>>>>,
    asked: Sender<Request>,
}

#[derive(Debug)]
struct Request {
    key: Key,
    answer: oneshot::Sender<Result<Arc<Compiled>, NoTemplate>>,
}

impl Templates {
    /// Starts the thread; it ends when every handle is gone.
    pub fn spawn(config: &Config) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (asked, requests) = channel();
        let session = Session::new(&config.database);
        let limits = config.template_limits();
        let thread = threads::spawn("templates", move || read(session, limits, &requests))?;
        let templates = Self {
            kept: Arc::default(),
            asked,
        };
        Ok((templates, thread))
    }

    /// Without a version: one that Warren brings.
    pub async fn get(&self, name: &str, version: Option<i32>) -> Result<Arc<Compiled>, NoTemplate> {
        let Some(version) = version else {
            let gone = || NoTemplate::Unusable("this worker brings no such template".into());
            return builtin::find(name).ok_or_else(gone);
        };
        let key = (name.to_owned(), version);
        if let Some(found) = self.kept().get(&key) {
            return Ok(Arc::clone(found));
        }
        let (answer, found) = oneshot::channel();
        let request = Request {
            key: key.clone(),
            answer,
        };
        // Without anybody there, the process stops.
        let _stopping = self.asked.send(request);
        let found = found.await.unwrap_or(Err(NoTemplate::Unavailable))?;
        let mut kept = self.kept();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&found));
        Ok(found)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Compiled>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(mut session: Session, limits: Limits, requests: &Receiver<Request>) {
    while let Ok(Request { key, answer }) = requests.recv() {
        let (name, version) = &key;
        let found = match session.run(|connection| templates::content(connection, name, *version)) {
            Ok(Some(content)) => compile(content, limits),
            Ok(None) => Err(NoTemplate::Unusable("there is no such version".into())),
            Err(error) => {
                tracing::warn!(
                    template.name = name,
                    template.version = version,
                    error = &error as &dyn std::error::Error,
                    "a template could not be read"
                );
                Err(NoTemplate::Unavailable)
            }
        };
        // Who has gone meanwhile asks again.
        let _gone = answer.send(found);
    }
}

fn compile(content: serde_json::Value, limits: Limits) -> Result<Arc<Compiled>, NoTemplate> {
    let content: Content =
        serde_json::from_value(content).map_err(|error| NoTemplate::Unusable(error.to_string()))?;
    let compiled = Compiled::new(content, limits).map_err(|errors| {
        let first = errors.into_iter().next();
        let text = first.map(|error| format!("{} {}", error.pointer, error.detail));
        NoTemplate::Unusable(text.unwrap_or_default())
    })?;
    Ok(Arc::new(compiled))
}
