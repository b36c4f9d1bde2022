//! Taking a person's address out of texts and JSON.

use serde_json::{Map, Value};
use shared::address::Mailbox;

/// Stands where the address stood; nobody has it (RFC 2606).
pub(super) const PLACEHOLDER: &str = "erased@erased.invalid";
/// The fields of a mail that are lists of people.
const PEOPLE: [&str; 5] = ["to", "cc", "reply_to", "from", "recipient"];
/// What tells of the person in a mail to them, beside its addresses.
const CONTENT: [&str; 8] = [
    "subject",
    "text",
    "html",
    "template",
    "headers",
    "attachments",
    "metadata",
    "cc",
];

/// An address to be taken out.
pub(super) struct Scrub {
    canonical: String,
    /// As it is, and as it stands in a URL.
    needles: [Vec<char>; 2],
}

impl Scrub {
    pub(super) fn new(canonical: &str) -> Self {
        let encoded = canonical.replace('@', "%40").to_lowercase();
        Self {
            canonical: canonical.to_owned(),
            needles: [canonical.chars().collect(), encoded.chars().collect()],
        }
    }

    /// What a text that holds it has in any case: its domain.
    pub(super) fn domain(&self) -> &str {
        let at = self.canonical.rfind('@').map_or(0, |at| at + 1);
        &self.canonical[at..]
    }

    /// Whether the payload is that of a mail to the person.
    pub(super) fn is_recipient(&self, payload: &Value) -> bool {
        payload["recipient"]
            .as_str()
            .is_some_and(|recipient| recipient.to_lowercase() == self.canonical)
    }

    /// The text without it; none: it is not in there.
    pub(super) fn text(&self, text: &str) -> Option<String> {
        let chars: Vec<char> = text.chars().collect();
        let mut done = String::with_capacity(text.len());
        let mut at = 0;
        let mut found = false;
        while at < chars.len() {
            if let Some(end) = self.found_at(&chars, at) {
                done.push_str(PLACEHOLDER);
                at = end;
                found = true;
            } else {
                done.push(chars[at]);
                at += 1;
            }
        }
        found.then_some(done)
    }

    /// Where it ends, if it begins there and is no part of another one.
    fn found_at(&self, text: &[char], at: usize) -> Option<usize> {
        let is_part = |c: char| c.is_alphanumeric() || "._+-".contains(c);
        if at > 0 && is_part(text[at - 1]) {
            return None;
        }
        self.needles.iter().find_map(|needle| {
            let mut end = at;
            let mut wanted = needle.iter();
            while wanted.len() > 0 {
                for lower in text.get(end)?.to_lowercase() {
                    if wanted.next() != Some(&lower) {
                        return None;
                    }
                }
                end += 1;
            }
            let next = text.get(end).copied();
            let after = text.get(end + 1).copied();
            let goes_on = next.is_some_and(|c| c.is_alphanumeric() || c == '-')
                || (next == Some('.') && after.is_some_and(char::is_alphanumeric));
            (!goes_on).then_some(end)
        })
    }

    /// Takes it out of all texts and names; true: it was in there.
    pub(super) fn json(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => self.text(text).is_some_and(|clean| {
                *text = clean;
                true
            }),
            Value::Array(list) => list
                .iter_mut()
                .fold(false, |found, one| self.json(one) | found),
            Value::Object(map) => self.object(map),
            _ => false,
        }
    }

    fn object(&self, map: &mut Map<String, Value>) -> bool {
        let mut found = false;
        let named: Vec<(String, String)> = map
            .keys()
            .filter_map(|name| Some((name.clone(), self.text(name)?)))
            .collect();
        for (name, clean) in named {
            if let Some(value) = map.remove(&name) {
                map.insert(clean, value);
                found = true;
            }
        }
        for value in map.values_mut() {
            found |= self.json(value);
        }
        found
    }

    /// The same for a mail's payload: with the address goes the name that stands beside it, and of a mail to the person
    /// nothing is kept but that there was one.
    pub(super) fn mail(&self, payload: &mut Value) -> bool {
        let is_theirs = self.is_recipient(payload);
        let Some(map) = payload.as_object_mut() else {
            return self.json(payload);
        };
        let mut found = false;
        for name in PEOPLE {
            match map.get_mut(name) {
                Some(Value::Array(list)) => {
                    for one in list {
                        found |= self.mailbox(one);
                    }
                }
                Some(one) => found |= self.mailbox(one),
                None => {}
            }
        }
        if is_theirs && map.contains_key("to") {
            for name in CONTENT {
                map.remove(name);
            }
            map.insert("to".into(), Value::from(vec![PLACEHOLDER]));
            map.insert("content_removed".into(), true.into());
            found = true;
        }
        self.object(map) | found
    }

    fn mailbox(&self, value: &mut Value) -> bool {
        let parsed = value.as_str().and_then(|text| Mailbox::parse(text).ok());
        let is_theirs = parsed.is_some_and(|mailbox| mailbox.address.canonical() == self.canonical);
        if is_theirs {
            *value = PLACEHOLDER.into();
        }
        is_theirs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_goes_wherever_it_stands_by_itself() {
        let scrub = Scrub::new("ada.l@example.com");
        for text in [
            "ada.l@example.com",
            "ADA.L@Example.com",
            "New:\nada.l@example.com.",
            "?email=ada.l@example.com&x",
            "?email=Ada.L%40example.com",
            "/users/ada.l@example.com/x",
            "'ada.l@example.com'",
            "user:ada.l@example.com, <ada.l@example.com>",
        ] {
            let clean = scrub.text(text).unwrap();
            assert!(clean.contains(PLACEHOLDER), "{text}");
            assert!(!clean.to_lowercase().contains("ada.l"), "{clean}");
        }
        for other in [
            "xada.l@example.com",
            "x.ada.l@example.com",
            "x+ada.l@example.com",
            "ada.l@example.com.au",
            "ada.l@example.community",
            "ada@example.com",
            "",
        ] {
            assert_eq!(scrub.text(other), None, "{other}");
        }
        let german = Scrub::new("jörg@bücher.example");
        assert!(german.text("JÖRG@BÜCHER.EXAMPLE").is_some());
    }

    #[test]
    fn of_a_mail_to_the_person_nothing_is_left() {
        let scrub = Scrub::new("ada@example.com");
        let mut theirs = json!({"recipient": "Ada@example.com", "from": "Shop <shop@example.com>", "to": ["Ada Lovelace <ada@example.com>"],
            "subject": "Dear Ada", "text": "x", "metadata": {"name": "Ada"}, "category": "transactional"});
        assert!(scrub.mail(&mut theirs));
        assert_eq!(
            theirs,
            json!({"recipient": PLACEHOLDER, "from": "Shop <shop@example.com>", "to": [PLACEHOLDER], "content_removed": true, "category": "transactional"})
        );
        let mut bobs = json!({"recipient": "bob@example.com", "to": ["Bob <bob@example.com>", "Ada Lovelace <ada@example.com>"],
            "text": "Contact\nAda <ada@example.com>", "metadata": {"ada@example.com": 1}});
        assert!(scrub.mail(&mut bobs));
        assert_eq!(
            bobs,
            json!({"recipient": "bob@example.com", "to": ["Bob <bob@example.com>", PLACEHOLDER],
                "text": format!("Contact\nAda <{PLACEHOLDER}>"), "metadata": {PLACEHOLDER: 1}})
        );
        assert!(!scrub.mail(&mut bobs));
    }
}
