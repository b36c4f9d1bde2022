//! Pages of lists, newest first: `cursor` and `limit`.

use super::{
    request::bad_parameter,
    tasks::list::{decode_cursor, encode_cursor},
};
use crate::{app::AppState, problem::Problem};
use uuid::Uuid;

const DEFAULT_LIMIT: i64 = 50;

/// The page that is asked for.
#[derive(Debug)]
pub(super) struct Page {
    /// Rows below that id.
    pub(super) below: Option<Uuid>,
    limit: i64,
    most: i64,
}

impl Page {
    /// The first, until something else is said.
    pub(super) fn first(state: &AppState) -> Self {
        let most = i64::from(state.config.http.max_page.max(1));
        Self {
            below: None,
            limit: DEFAULT_LIMIT.min(most),
            most,
        }
    }

    /// Takes a parameter of the query; false: it is another one.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<bool, Problem> {
        match name {
            "cursor" => {
                let cursor = decode_cursor(value)
                    .ok_or_else(|| bad_parameter("cursor", "must be the next_cursor of a page"))?;
                self.below = Some(cursor);
            }
            "limit" => {
                let most = self.most;
                let asked = value.parse().ok();
                self.limit = asked
                    .filter(|limit| (1..=most).contains(limit))
                    .ok_or_else(|| {
                        bad_parameter("limit", format!("must be 1 to {most} (http.max_page)"))
                    })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Rows to be read: one more than is shown, which tells whether there is another page.
    pub(super) fn rows(&self) -> i64 {
        self.limit + 1
    }

    /// Leaves the rows of the page, and returns the cursor of the next.
    pub(super) fn cut<T>(&self, rows: &mut Vec<T>, id: impl Fn(&T) -> Uuid) -> Option<String> {
        let size = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let has_more = rows.len() > size;
        rows.truncate(size);
        rows.last()
            .filter(|_| has_more)
            .map(|last| encode_cursor(id(last)))
    }
}
