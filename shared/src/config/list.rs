//! Lists of words. A file writes them as arrays, an environment variable as one text with commas or spaces between.

use serde::{Deserialize, Deserializer, de};
use std::{fmt, marker::PhantomData, str::FromStr};

pub(super) fn deserialize<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
{
    deserializer.deserialize_any(Words(PhantomData))
}

struct Words<T>(PhantomData<T>);

impl<T: FromStr> Words<T> {
    /// The word may be a secret, so an error does not repeat it.
    fn one<E: de::Error>(word: &str) -> Result<T, E> {
        word.parse()
            .map_err(|_| E::custom("an entry of the list can't be read"))
    }
}

impl<'de, T: FromStr> de::Visitor<'de> for Words<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, or a text with commas or spaces between the entries")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        text.split([',', ' '])
            .filter(|word| !word.is_empty())
            .map(Self::one)
            .collect()
    }

    // An environment variable with one number in it.
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut words = Vec::new();
        while let Some(Word(word)) = entries.next_element()? {
            words.push(Self::one(&word)?);
        }
        Ok(words)
    }
}

/// A text or a number.
struct Word(String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The configuration's values turn into texts by themselves.
        String::deserialize(deserializer).map(Self)
    }
}
