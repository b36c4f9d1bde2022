//! Addresses that get no mails. Both services keep a [`Filter`] of all of them in memory, so that mails to others ask no
//! database; where it says "perhaps", the rows decide.

mod filter;
pub mod rows;

pub use filter::{Filter, Reader};

use crate::{address::EmailAddress, category::Category, pepper::Peppers};
use serde::{Deserialize, Serialize};

/// The error code of a mail that was kept from its recipient.
pub const SUPPRESSED: &str = "recipient_suppressed";
/// There is no such mailbox, or it is no more (RFC 3463, 3.2). Everything else may pass, or is about the mail or us;
/// policies (5.7.x) above all.
pub const HARD_BOUNCES: [&str; 3] = ["5.1.1", "5.1.10", "5.2.1"];
/// Instead of a category: all of them.
pub const ALL_CATEGORIES: &str = "*";
const USE: &str = "erased address";

/// Why an address gets no mails; names are wire forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SuppressionReason)]
pub enum Reason {
    /// A relay or a bounce has said that there is no such mailbox.
    HardBounce,
    /// Its owner has called a mail spam.
    Complaint,
    /// Its owner has unsubscribed.
    Unsubscribe,
    /// Its owner has said that they had not asked for a code.
    NotRequested,
    /// Put there by an operator.
    Manual,
}

impl Reason {
    pub const ALL: [Self; 5] = [
        Self::HardBounce,
        Self::Complaint,
        Self::Unsubscribe,
        Self::NotRequested,
        Self::Manual,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HardBounce => "hard_bounce",
            Self::Complaint => "complaint",
            Self::Unsubscribe => "unsubscribe",
            Self::NotRequested => "not_requested",
            Self::Manual => "manual",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// What a mail is, as far as it decides whether its recipient may have it.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    pub category: Category,
    /// Of a verification code.
    pub purpose: Option<&'a str>,
}

/// How an address may stand in the table: as it is, and as what is left of it once its owner was erased.
pub fn forms(address: &EmailAddress, peppers: &Peppers) -> Vec<String> {
    let canonical = address.canonical();
    let erased: Vec<_> = peppers
        .iter()
        .map(|pepper| erased(&canonical, pepper))
        .collect();
    std::iter::once(canonical).chain(erased).collect()
}

/// What is kept of the address of a person who was erased: it tells only who knows the address.
pub fn erased_form(address: &EmailAddress, peppers: &Peppers) -> Option<String> {
    Some(erased(&address.canonical(), peppers.first()?))
}

fn erased(canonical: &str, pepper: &crate::pepper::Pepper) -> String {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    let mac = BASE64_URL_SAFE_NO_PAD.encode(pepper.mac(USE, &[canonical.as_bytes()]));
    format!("~{}:{mac}", pepper.name())
}
