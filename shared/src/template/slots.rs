//! Values, kept out of a text until it is done, so that they can't become a part of its form.

use super::values::is_link;
use minijinja::{
    Error, ErrorKind, State,
    value::{Object, Value},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mark is this, a number and [`END`]: letters and digits, which Markdown, HTML and styles leave alone.
const BEGIN: &str = "wrnslot";
const END: char = 'z';
/// The name under which a rendering finds its [`Slots`].
pub(super) const NAME: &str = "__slots";

/// Whether a text of an author looks like a mark.
pub(super) fn has_mark(text: &str) -> bool {
    text.contains(BEGIN)
}

/// All values of one mail together, so that a long list and a long text can't make a mail of any size.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// The values of one rendering, in the order in which they were printed.
#[derive(Debug, Default)]
pub(super) struct Slots(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    texts: Vec<String>,
    /// Of these, and of those that were taken.
    bytes: usize,
}

impl Object for Slots {}

impl Slots {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().texts)
    }

    fn keep(&self, text: String) -> Result<usize, Error> {
        let mut kept = self.lock();
        kept.bytes += text.len();
        if kept.bytes > MOST_BYTES {
            let detail = format!("the values would fill more than {MOST_BYTES} bytes");
            return Err(Error::new(ErrorKind::InvalidOperation, detail));
        }
        kept.texts.push(text);
        Ok(kept.texts.len() - 1)
    }
}

/// Prints a mark for each value. What a template has put together itself holds marks already.
pub(super) fn print(
    out: &mut minijinja::Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    if value.is_safe() {
        return out
            .write_str(value.as_str().unwrap_or_default())
            .map_err(Error::from);
    }
    let text = plain(value)?;
    let kept = state.lookup(NAME);
    let slots = kept
        .as_ref()
        .and_then(|kept| kept.downcast_object_ref::<Slots>());
    let slots = slots
        .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "no rendering is under way"))?;
    let number = slots.keep(text)?;
    write!(out, "{BEGIN}{number}{END}").map_err(Error::from)
}

/// A value as text; nothing for what is missing.
fn plain(value: &Value) -> Result<String, Error> {
    use minijinja::value::ValueKind;
    match value.kind() {
        ValueKind::None => Ok(String::new()),
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::String | ValueKind::Number | ValueKind::Bool => Ok(value.to_string()),
        kind => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("a {kind} can't be printed: name one of its fields, or go through it with for"),
        )),
    }
}

/// Puts the values into a text part.
pub(super) fn into_text(text: &str, values: &[String]) -> String {
    replace(text, |_, number| {
        let value = values.get(number).map_or("", String::as_str);
        let kept = value
            .chars()
            .filter(|c| !c.is_control() || *c == '\n' || *c == '\t');
        Ok::<String, std::convert::Infallible>(kept.collect())
    })
    .unwrap_or_else(|never| match never {})
}

/// Puts the values into a header: one line.
pub(super) fn into_line(text: &str, values: &[String]) -> String {
    let text = into_text(text, values);
    let words: Vec<&str> = text
        .split(char::is_control)
        .flat_map(str::split_whitespace)
        .collect();
    words.join(" ")
}

/// Puts the values into an HTML part, each as text or as the value of an attribute.
///
/// # Errors
/// What is wrong with the place of a value.
pub(super) fn into_html(html: &str, values: &[String]) -> Result<String, &'static str> {
    replace(html, |before, number| {
        let value = values.get(number).map_or("", String::as_str);
        place(before)?.fit(value)
    })
}

/// Where in HTML a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    Attribute,
    /// It says where a link leads.
    Link,
}

impl Place {
    fn fit(self, value: &str) -> Result<String, &'static str> {
        if self == Self::Link && !is_link(value) {
            return Err(
                "a value says where a link leads, and is no URL that begins with https://, http:// or mailto:; declare the variable as url",
            );
        }
        Ok(escape(value))
    }
}

fn place(before: &str) -> Result<Place, &'static str> {
    if is_within(before, "<style", "</style") || is_within(before, "<script", "</script") {
        return Err("a value stands in a style or a script, where it can't be made safe");
    }
    let tag = match (before.rfind('<'), before.rfind('>')) {
        (Some(begin), end) if end.is_none_or(|end| end < begin) => &before[begin..],
        _ => return Ok(Place::Text),
    };
    let unsafe_place = "a value stands in a tag, where it can't be made safe";
    // Styles are in lines and serialized by then, so every attribute is in double quotes.
    let (name, begun) = tag.rsplit_once("=\"").ok_or(unsafe_place)?;
    if begun.contains('"') {
        return Err(unsafe_place);
    }
    let name = name
        .rsplit(|c: char| c.is_ascii_whitespace())
        .next()
        .unwrap_or_default();
    match name.to_ascii_lowercase().as_str() {
        "href" | "src" if begun.is_empty() => Ok(Place::Link),
        "href" | "src" | "alt" | "title" | "width" | "height" | "lang" | "dir" | "id" | "class"
        | "aria-label" => Ok(Place::Attribute),
        _ => Err(unsafe_place),
    }
}

fn is_within(before: &str, begin: &str, end: &str) -> bool {
    before.rfind(begin) > before.rfind(end)
}

fn escape(value: &str) -> String {
    let mut safe = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => {}
            c => safe.push(c),
        }
    }
    safe
}

/// Replaces every mark; values are not looked through again.
fn replace<E>(
    text: &str,
    mut by: impl FnMut(&str, usize) -> Result<String, E>,
) -> Result<String, E> {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(BEGIN) {
        let after = &rest[begin + BEGIN.len()..];
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let number = after[..digits]
            .parse()
            .ok()
            .filter(|_| after[digits..].starts_with(END));
        let Some(number) = number else {
            done.push_str(&rest[..begin + BEGIN.len()]);
            rest = after;
            continue;
        };
        done.push_str(&rest[..begin]);
        let at = text.len() - rest.len() + begin;
        done.push_str(&by(&text[..at], number)?);
        rest = &after[digits + END.len_utf8()..];
    }
    done.push_str(rest);
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(all: &[&str]) -> Vec<String> {
        all.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn a_value_is_text_wherever_it_stands() {
        let given = values(&["<b>\"x\"</b>", "wrnslot0z", "a\r\nBcc: x"]);
        assert_eq!(
            into_html("<p title=\"wrnslot0z\">wrnslot1z</p>", &given).unwrap(),
            "<p title=\"&lt;b&gt;&quot;x&quot;&lt;/b&gt;\">wrnslot0z</p>"
        );
        assert_eq!(into_line("Hi wrnslot2z!", &given), "Hi a Bcc: x!");
        assert_eq!(into_text("wrnslot1zwrnslot9z", &given), "wrnslot0z");
    }

    #[test]
    fn places_where_a_value_would_be_more_than_text_are_refused() {
        let given = values(&["javascript:alert(1)"]);
        for html in [
            "<a href=\"wrnslot0z\">x</a>",
            "<p style=\"color: wrnslot0z\">x</p>",
            "<p onclick=\"wrnslot0z\">x</p>",
            "<p wrnslot0z>x</p>",
            "<wrnslot0z>x</p>",
            "<style>p { color: wrnslot0z }</style>",
            "<script>wrnslot0z</script>",
        ] {
            assert!(into_html(html, &given).is_err(), "{html}");
        }
        let given = values(&["https://example.com/?a=1&b=2"]);
        assert_eq!(
            into_html("<a href=\"wrnslot0z\">x</a>", &given).unwrap(),
            "<a href=\"https://example.com/?a=1&amp;b=2\">x</a>"
        );
        // Of a link that begins otherwise a value is a part.
        assert!(
            into_html(
                "<a href=\"https://example.com/wrnslot0z\">x</a>",
                &values(&["a\"b"])
            )
            .is_ok()
        );
    }

    proptest! {
        #[test]
        fn no_value_leaves_its_place(value: String) {
            let html = into_html("<p title=\"wrnslot0z\">wrnslot0z</p>", std::slice::from_ref(&value)).unwrap();
            prop_assert_eq!(html.matches('<').count(), 2);
            prop_assert_eq!(html.matches('"').count(), 2);
            prop_assert!(!into_line("wrnslot0z", &[value]).chars().any(char::is_control));
        }
    }
}
