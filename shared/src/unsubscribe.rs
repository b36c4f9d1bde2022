//! Links to unsubscribe: `<public URL>/unsubscribe/<token>`. The token holds address and category, sealed, so that it works
//! for years without a row, and its URL tells nobody whose it is.

use crate::{address::EmailAddress, category::Category, pepper::Peppers, task::TaskId};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// Below the public URL.
pub const PATH: &str = "/unsubscribe/";
const USE: &str = "unsubscribe";

/// Who no longer wants what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubscription {
    pub address: EmailAddress,
    pub category: Category,
    /// The mail that the link stood in.
    pub task: TaskId,
}

impl Unsubscription {
    /// None without a secret.
    pub fn token(&self, peppers: &Peppers) -> Option<String> {
        let pepper = peppers.first()?;
        let text = serde_json::to_vec(self).ok()?;
        let sealed = BASE64_URL_SAFE_NO_PAD.encode(pepper.seal(USE, &text)?);
        Some(format!("{}.{sealed}", pepper.name()))
    }

    pub fn of(token: &str, peppers: &Peppers) -> Option<Self> {
        let (name, sealed) = token.split_once('.')?;
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let text = peppers.find(name)?.open(USE, &sealed)?;
        serde_json::from_slice(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_by_its_secret() {
        let text = "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let peppers = Peppers::parse(&text.into()).unwrap();
        let asked = Unsubscription {
            address: EmailAddress::parse("ada@example.com").unwrap(),
            category: Category::Marketing,
            task: TaskId::now(),
        };
        let token = asked.token(&peppers).unwrap();
        assert!(!token.contains("ada"));
        assert_eq!(Unsubscription::of(&token, &peppers), Some(asked));
        for wrong in ["", ".", "k1.", "k2.AAAA", &token[..token.len() - 1]] {
            assert_eq!(Unsubscription::of(wrong, &peppers), None, "{wrong}");
        }
    }
}
