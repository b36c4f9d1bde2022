//! What a relay offers in its reply to EHLO (RFC 5321, 4.1.1.1). lettre keeps neither SIZE nor PIPELINING.

use lettre::transport::smtp::authentication::Mechanism;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a keyword of its own"
)]
pub(super) struct Offers {
    /// SIZE is offered (RFC 1870).
    pub(super) size: bool,
    /// The largest mail in bytes, if the relay says one.
    pub(super) max_size: Option<u64>,
    pub(super) pipelining: bool,
    pub(super) starttls: bool,
    pub(super) smtputf8: bool,
    pub(super) eight_bit: bool,
    /// PLAIN before LOGIN.
    pub(super) auth: Option<Mechanism>,
}

impl Offers {
    /// Reads the reply as it came; lines that mean nothing to us are passed over.
    pub(super) fn parse(reply: &[u8]) -> Self {
        let mut offers = Self::default();
        for line in String::from_utf8_lossy(reply).lines().skip(1) {
            // Old servers write `AUTH=PLAIN`.
            let mut words = line
                .get(4..)
                .unwrap_or_default()
                .split([' ', '='])
                .filter(|word| !word.is_empty());
            match words
                .next()
                .unwrap_or_default()
                .to_ascii_uppercase()
                .as_str()
            {
                "SIZE" => {
                    offers.size = true;
                    // 0 means: no fixed limit.
                    offers.max_size = words
                        .next()
                        .and_then(|size| size.parse().ok())
                        .filter(|size| *size > 0);
                }
                "PIPELINING" => offers.pipelining = true,
                "STARTTLS" => offers.starttls = true,
                "SMTPUTF8" => offers.smtputf8 = true,
                "8BITMIME" => offers.eight_bit = true,
                "AUTH" => {
                    let offered: Vec<_> = words.map(str::to_ascii_uppercase).collect();
                    let mechanism =
                        |one: Mechanism| offered.contains(&one.to_string()).then_some(one);
                    offers.auth = mechanism(Mechanism::Plain)
                        .or(offers.auth)
                        .or(mechanism(Mechanism::Login));
                }
                _ => {}
            }
        }
        offers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_relays_write() {
        let reply = b"250-mx.example at your service\r\n250-size 35882577\r\n250-PIPELINING\r\n250-STARTTLS\r\n250-AUTH LOGIN CRAM-MD5 plain\r\n250-AUTH=LOGIN\r\n250-8BITMIME\r\n250-X\r\n250 SMTPUTF8\r\n";
        let all = Offers {
            size: true,
            max_size: Some(35_882_577),
            pipelining: true,
            starttls: true,
            smtputf8: true,
            eight_bit: true,
            auth: Some(Mechanism::Plain),
        };
        assert_eq!(Offers::parse(reply), all);
        assert_eq!(Offers::parse(b"250 SIZE\r\n"), Offers::default());
        let offers = Offers::parse(b"250-x\r\n250-SIZE 0\r\n250 AUTH=LOGIN\r\n");
        assert_eq!(
            (offers.size, offers.max_size, offers.auth),
            (true, None, Some(Mechanism::Login))
        );
    }
}
