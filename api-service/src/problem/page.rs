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
        help = code(problem.help()),
    )
}

/// What stands between backticks becomes code.
fn code(text: &str) -> String {
    let mut html = String::new();
    for (index, part) in text.split('`').enumerate() {
        let part = escape(part);
        if index % 2 == 1 {
            html.push_str("<code>");
            html.push_str(&part);
            html.push_str("</code>");
        } else {
            html.push_str(&part);
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backticks_are_code() {
        assert_eq!(code("a `<b>` c"), "a <code>&lt;b&gt;</code> c");
    }
}
