//! The templates that mails get now, kept in memory so that accepting a mail waits for no database. What was published
//! through this process is there at once; what was published elsewhere within two seconds.

use crate::queries::templates;
use shared::{
    db::{DbError, Pool},
    template::{Compiled, Content, Limits, Published, Shelf},
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(1);

type Stored = HashMap<String, Entry>;

/// A published version.
#[derive(Debug, Clone)]
struct Entry {
    version: i32,
    /// None: this version of Warren can't use it, which was said when it was read.
    template: Option<Arc<Compiled>>,
}

/// Clones share the templates.
#[derive(Clone)]
pub struct Templates(Arc<Inner>);

struct Inner {
    pool: Pool,
    limits: Limits,
    /// None before the first reading.
    stored: RwLock<Option<Stored>>,
    /// Held while they are read.
    reading: Mutex<()>,
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Templates").finish_non_exhaustive()
    }
}

impl Shelf for Templates {
    fn stored(&self, name: &str) -> Option<Published> {
        let stored = self.0.stored.read().unwrap_or_else(PoisonError::into_inner);
        let entry = stored.as_ref()?.get(name)?;
        Some(Published {
            version: Some(entry.version),
            template: Arc::clone(entry.template.as_ref()?),
        })
    }
}

impl Templates {
    /// Starts reading; must be called in a tokio runtime.
    pub fn spawn(pool: Pool, limits: Limits, stop: CancellationToken) -> Self {
        let templates = Self(Arc::new(Inner {
            pool,
            limits,
            stored: RwLock::default(),
            reading: Mutex::default(),
        }));
        let background = templates.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            loop {
                // The outage itself is reported by the loops that live on the database.
                if let Err(error) = background.read().await {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "the templates could not be read; the last known ones are used"
                    );
                }
                tokio::time::sleep(EVERY).await;
            }
        }));
        templates
    }

    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// Whether it is known which templates there are.
    pub fn are_known(&self) -> bool {
        let stored = self.0.stored.read().unwrap_or_else(PoisonError::into_inner);
        stored.is_some()
    }

    /// Reads what has changed.
    pub async fn read(&self) -> Result<(), DbError> {
        let _one_at_a_time = self.0.reading.lock().await;
        let known = self
            .0
            .stored
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .unwrap_or_default();
        let limits = self.0.limits;
        let now = self
            .0
            .pool
            .run(move |connection| {
                let mut now = Stored::new();
                for (name, version) in templates::published(connection)? {
                    let unchanged = known.get(&name).filter(|one| one.version == version);
                    let entry = match unchanged {
                        Some(entry) => entry.clone(),
                        None => Entry {
                            version,
                            template: templates::version(connection, &name, version)?
                                .and_then(|row| compiled(&name, version, row.content, limits)),
                        },
                    };
                    now.insert(name, entry);
                }
                Ok(now)
            })
            .await?;
        *self
            .0
            .stored
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(now);
        Ok(())
    }
}

/// None: it was stored by another version of Warren, or by hand, and can't be used by this one.
fn compiled(
    name: &str,
    version: i32,
    content: serde_json::Value,
    limits: Limits,
) -> Option<Arc<Compiled>> {
    let made = serde_json::from_value::<Content>(content)
        .map_err(|error| error.to_string())
        .and_then(|content| {
            Compiled::new(content, limits).map_err(|errors| {
                let first = errors.into_iter().next();
                first.map_or_else(String::new, |error| {
                    format!("{} {}", error.pointer, error.detail)
                })
            })
        });
    match made {
        Ok(template) => Some(Arc::new(template)),
        Err(detail) => {
            tracing::warn!(
                template.name = name,
                template.version = version,
                "a published template can't be used: {detail}"
            );
            None
        }
    }
}
