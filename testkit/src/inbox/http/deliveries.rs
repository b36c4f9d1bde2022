//! `/api/v1/deliveries?header=X-Warren-Task&min=2`: how often each value of a header arrived. The sums come
//! first, the rows are streamed.

use std::convert::Infallible;

use actix_web::{HttpResponse, Responder, get, web};
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::{ApiError, State, off_thread};
use crate::inbox::{Delivery, TASK_HEADER, deliveries::Tally};

/// Rows of one piece of the answer.
const PIECE: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(default = "default_header")]
    header: String,
    /// Only values that arrived at least so often; the sums stay those of all.
    #[serde(default)]
    min: u64,
}

fn default_header() -> String {
    TASK_HEADER.to_owned()
}

#[derive(Debug, Serialize)]
struct Sums<'a> {
    header: &'a str,
    /// Mails looked at.
    messages: u64,
    /// Different values.
    distinct: usize,
    /// Values that arrived more than once.
    repeated: usize,
    /// Mails without this header.
    without: u64,
    /// Mails that a cap dropped: unless 0, the sums are too low.
    dropped: u64,
}

#[get("/api/v1/deliveries")]
pub(super) async fn list(
    state: State,
    params: web::Query<Params>,
) -> Result<impl Responder, ApiError> {
    let Params { header, min } = params.into_inner();
    if !state.options.keep_raw && !header.eq_ignore_ascii_case(TASK_HEADER) {
        return Err(ApiError::bad(format!(
            "light mode keeps {TASK_HEADER} only"
        )));
    }
    let (opening, rows) = off_thread(move || {
        let tally = Tally::of(&state.store, &header);
        let sums = Sums {
            header: &header,
            messages: tally.messages,
            distinct: tally.deliveries.len(),
            repeated: tally.repeated(),
            without: tally.without,
            dropped: state.store.stats().dropped,
        };
        let opening = serde_json::to_string(&sums);
        let rows: Vec<_> = tally
            .deliveries
            .into_iter()
            .filter(|delivery| delivery.count >= min)
            .collect();
        (opening, rows)
    })
    .await?;
    let mut opening = opening.map_err(ApiError::bad)?;
    opening.truncate(opening.len() - 1);
    opening.push_str(",\"deliveries\":[");
    let pieces = Pieces {
        opening: Some(opening),
        rows,
        sent: 0,
    };
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .streaming(stream::iter(
            pieces.map(|piece| Ok::<_, Infallible>(web::Bytes::from(piece))),
        )))
}

/// The text of the answer, piece by piece.
struct Pieces {
    opening: Option<String>,
    rows: Vec<Delivery>,
    sent: usize,
}

impl Iterator for Pieces {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let first = self.opening.is_some();
        if !first && self.sent == self.rows.len() {
            return None;
        }
        let mut piece = self.opening.take().unwrap_or_default();
        let end = (self.sent + PIECE).min(self.rows.len());
        for (index, row) in self.rows[self.sent..end].iter().enumerate() {
            if self.sent + index > 0 {
                piece.push(',');
            }
            // Strings, a number and times: this can't fail to be written.
            piece.push_str(&serde_json::to_string(row).unwrap_or_default());
        }
        self.sent = end;
        if end == self.rows.len() {
            piece.push_str("]}");
        }
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_one_json_text() {
        for count in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let rows = (0..count)
                .map(|value| Delivery {
                    value: value.to_string(),
                    count: 1,
                    first: chrono::DateTime::UNIX_EPOCH,
                    last: chrono::DateTime::UNIX_EPOCH,
                })
                .collect();
            let text: String = Pieces {
                opening: Some("{\"deliveries\":[".to_owned()),
                rows,
                sent: 0,
            }
            .collect();
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json["deliveries"].as_array().unwrap().len(), count);
        }
    }
}
