//! The page behind a problem's `type`, for the person who follows the link.

use super::ProblemType;
use crate::web::escape;

/// HTML; every problem has one.
pub fn page(problem: ProblemType) -> String {
    format!(
        include_str!("../web/problem.html"),
        title = escape(problem.title()),
        status = problem.status(),
        slug = problem.slug(),
        help = escape(problem.help()),
    )
}
