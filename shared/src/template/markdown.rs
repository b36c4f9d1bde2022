//! Markdown as HTML, and as text for those who read no HTML.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html};
use std::fmt::Write as _;

fn parse(markdown: &str) -> Parser<'_> {
    Parser::new_ext(
        markdown,
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH,
    )
}

pub(super) fn to_html(markdown: &str) -> String {
    let mut text = String::with_capacity(markdown.len() * 2);
    html::push_html(&mut text, parse(markdown));
    text
}

/// Paragraphs apart by an empty line, links with where they lead, lists with their signs. HTML is left out.
pub(super) fn to_text(markdown: &str) -> String {
    let mut writer = Writer::default();
    for event in parse(markdown) {
        writer.take(event);
    }
    let text = writer.text.trim_end().to_owned();
    text + "\n"
}

#[derive(Default)]
struct Writer {
    text: String,
    /// What each line begins with.
    prefixes: Vec<String>,
    /// For each list that is open: the next number, or none for signs.
    lists: Vec<Option<u64>>,
    /// Where the links that are open lead, and where their text began.
    links: Vec<(String, usize)>,
    is_first_cell: bool,
    in_html: bool,
}

impl Writer {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Code(text) if !self.in_html => self.put(&text),
            Event::SoftBreak => self.put(" "),
            Event::HardBreak => self.line(),
            Event::Rule => {
                self.put("----");
                self.block();
            }
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::BlockQuote(_) => self.prefixes.push("> ".into()),
            Tag::List(first) => {
                if !self.lists.is_empty() {
                    self.line();
                }
                self.lists.push(first);
            }
            Tag::Item => {
                let sign = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}. ", *number - 1)
                    }
                    _ => "- ".to_owned(),
                };
                self.begin_line();
                self.text.push_str(&sign);
                self.prefixes.push(" ".repeat(sign.len()));
            }
            Tag::Link { dest_url, .. } => {
                self.links.push((dest_url.into_string(), self.text.len()));
            }
            Tag::TableHead | Tag::TableRow => self.is_first_cell = true,
            Tag::TableCell if self.is_first_cell => self.is_first_cell = false,
            Tag::TableCell => self.put("  "),
            Tag::HtmlBlock => self.in_html = true,
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::Heading(_) | TagEnd::CodeBlock | TagEnd::Table => {
                self.block();
            }
            TagEnd::BlockQuote(_) => {
                self.prefixes.pop();
            }
            TagEnd::List(_) => {
                self.lists.pop();
                if self.lists.is_empty() {
                    self.block();
                }
            }
            TagEnd::Item => {
                self.prefixes.pop();
                self.line();
            }
            TagEnd::Link => {
                if let Some((to, begun)) = self.links.pop()
                    && self.text[begun..] != *to
                {
                    let _ = write!(self.text, " <{to}>");
                }
            }
            TagEnd::TableHead | TagEnd::TableRow => self.line(),
            TagEnd::HtmlBlock => self.in_html = false,
            _ => {}
        }
    }

    fn put(&mut self, text: &str) {
        for (at, line) in text.split('\n').enumerate() {
            if at > 0 {
                self.line();
            }
            if !line.is_empty() {
                self.begin_line();
                self.text.push_str(line);
            }
        }
    }

    fn begin_line(&mut self) {
        if self.text.is_empty() || self.text.ends_with('\n') {
            for prefix in &self.prefixes {
                self.text.push_str(prefix);
            }
        }
    }

    /// Ends a line that has begun.
    fn line(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// Ends a block: an empty line follows, except within a list.
    fn block(&mut self) {
        self.line();
        if self.lists.is_empty() && !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_part_is_readable() {
        let markdown = "# Hello *Ada*\n\nYour order\nhas come:\n\n1. one\n2. two\n   - within\n\n> quoted\n\n[Look](https://example.com/a) or <https://example.com>.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<div>left out</div>\n\n---\n\n    code\n";
        insta::assert_snapshot!(to_text(markdown), @r"
        Hello Ada

        Your order has come:

        1. one
        2. two
           - within

        > quoted

        Look <https://example.com/a> or https://example.com.

        a  b
        1  2

        ----

        code
        ");
    }

    #[test]
    fn marks_go_through_as_they_are() {
        let html = to_html("**wrnslot0z** [x](wrnslot1z) `wrnslot2z`");
        assert_eq!(
            html,
            "<p><strong>wrnslot0z</strong> <a href=\"wrnslot1z\">x</a> <code>wrnslot2z</code></p>\n"
        );
    }
}
