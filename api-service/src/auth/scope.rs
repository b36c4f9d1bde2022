//! What an API key may do.

use std::fmt;

/// One permission. A key has any number of them; `admin` stands for all, whoever may operate may read, and whoever
/// may submit may verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Hand over work: `POST /tasks`, `POST /emails`.
    Submit,
    /// Look at tasks.
    Read,
    /// Cancel, retry and resolve other people's tasks.
    Operate,
    /// Ask for verification codes and check them, without learning anything of their recipients.
    Verify,
    /// Everything.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 5] = [
        Self::Submit,
        Self::Read,
        Self::Operate,
        Self::Verify,
        Self::Admin,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Verify => "verify",
            Self::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The scopes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    pub const ALL: Self = Self(0b1_1111);

    /// Whether they permit what needs `scope`.
    pub const fn allow(self, scope: Scope) -> bool {
        let mut enough = scope.bit() | Scope::Admin.bit();
        if matches!(scope, Scope::Read) {
            enough |= Scope::Operate.bit();
        }
        if matches!(scope, Scope::Verify) {
            enough |= Scope::Submit.bit();
        }
        self.0 & enough != 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_allow_what_they_name() {
        let of = |scopes: &[Scope]| scopes.iter().copied().collect::<Scopes>();
        let submit = of(&[Scope::Submit]);
        assert!(submit.allow(Scope::Submit) && !submit.allow(Scope::Read));
        let verify = of(&[Scope::Verify]);
        assert!(submit.allow(Scope::Verify) && !verify.allow(Scope::Submit));
        let operate = of(&[Scope::Operate]);
        assert!(operate.allow(Scope::Read) && !operate.allow(Scope::Submit));
        for scope in Scope::ALL {
            assert!(of(&[Scope::Admin]).allow(scope) && Scopes::ALL.allow(scope));
            assert!(!of(&[]).allow(scope));
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
    }
}
