//! Search: words that all must occur, with `to:`, `from:` and `subject:` for one place, quotes for phrases.

use mail_parser::{Address, MessageParser};

use crate::inbox::{Message, TASK_HEADER};

/// A query with at least one term; a mail must match every one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query(Vec<Term>);

#[derive(Debug, PartialEq, Eq)]
struct Term {
    place: Place,
    /// In lower case.
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Anywhere,
    To,
    From,
    Subject,
}

impl Query {
    /// `None` where there is nothing to look for.
    pub(super) fn parse(query: &str) -> Option<Self> {
        let terms: Vec<_> = words(&query.to_lowercase())
            .into_iter()
            .filter_map(Term::parse)
            .collect();
        (!terms.is_empty()).then_some(Self(terms))
    }

    pub(super) fn matches(&self, message: &Message) -> bool {
        // Headers first: they are quick to parse and most mails fail on them.
        let headers = Headers::of(message);
        let (anywhere, placed): (Vec<_>, Vec<_>) = self
            .0
            .iter()
            .partition(|term| term.place == Place::Anywhere);
        placed.into_iter().all(|term| headers.contain(term))
            && (anywhere.iter().all(|term| headers.contain(term)) || {
                let parsed = message.parsed();
                let body = [parsed.text.to_lowercase(), parsed.html.to_lowercase()];
                anywhere.iter().all(|term| {
                    headers.contain(term) || body.iter().any(|body| body.contains(&term.text))
                })
            })
    }
}

impl Term {
    fn parse(word: String) -> Option<Self> {
        let places = [
            ("to:", Place::To),
            ("from:", Place::From),
            ("subject:", Place::Subject),
        ];
        let found = places
            .into_iter()
            .find_map(|(prefix, place)| Some((place, word.strip_prefix(prefix)?.to_owned())));
        let (place, text) = found.unwrap_or((Place::Anywhere, word));
        (!text.is_empty()).then_some(Self { place, text })
    }
}

/// Searchable text of headers and envelope, in lower case.
struct Headers {
    to: String,
    from: String,
    subject: String,
    /// Found by a term without a place only.
    ids: String,
}

impl Headers {
    fn of(message: &Message) -> Self {
        let mut to = message.envelope_to.join("\n");
        let mut from = message.envelope_from.clone();
        let mut ids = format!(
            "{}\n{}",
            message.id,
            message.header(TASK_HEADER).unwrap_or_default()
        );
        let mut subject = String::new();
        if let Some(mail) = MessageParser::default().parse_headers(&message.raw[..]) {
            for address in [mail.to(), mail.cc(), mail.bcc()] {
                append(&mut to, address);
            }
            append(&mut from, mail.from());
            subject = mail.subject().unwrap_or_default().to_lowercase();
            ids = format!("{ids}\n{}", mail.message_id().unwrap_or_default());
        }
        Self {
            to: to.to_lowercase(),
            from: from.to_lowercase(),
            subject,
            ids: ids.to_lowercase(),
        }
    }

    fn contain(&self, term: &Term) -> bool {
        let places: &[&String] = match term.place {
            Place::To => &[&self.to],
            Place::From => &[&self.from],
            Place::Subject => &[&self.subject],
            Place::Anywhere => &[&self.to, &self.from, &self.subject, &self.ids],
        };
        places.iter().any(|place| place.contains(&term.text))
    }
}

fn append(text: &mut String, address: Option<&Address<'_>>) {
    for addr in address.into_iter().flat_map(Address::iter) {
        for part in [addr.name(), addr.address()].into_iter().flatten() {
            text.push('\n');
            text.push_str(part);
        }
    }
}

/// Splits at spaces outside of quotes; the quotes go.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in text.chars() {
        match (letter, words.last_mut()) {
            ('"', _) => quoted = !quoted,
            (space, _) if space.is_whitespace() && !quoted => words.push(String::new()),
            (_, Some(word)) => word.push(letter),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let term = |place, text: &str| Term {
            place,
            text: text.to_owned(),
        };
        assert_eq!(Query::parse("  "), None);
        assert_eq!(Query::parse("to:"), None);
        assert_eq!(
            Query::parse("To:Ann subject:\"two words\" \"a b\" from:\"x"),
            Some(Query(vec![
                term(Place::To, "ann"),
                term(Place::Subject, "two words"),
                term(Place::Anywhere, "a b"),
                term(Place::From, "x"),
            ]))
        );
    }
}
