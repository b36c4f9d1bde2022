use super::*;
use shared::config::Config;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/");

fn signers(keys: &[(&str, &str, &str)]) -> Result<Signers, SetupError> {
    let mut settings = Vec::new();
    for (at, (domain, selector, file)) in keys.iter().enumerate() {
        let name = format!("mail.dkim.k{at}");
        settings.push((format!("{name}.domain"), (*domain).to_owned()));
        settings.push((format!("{name}.selector"), (*selector).to_owned()));
        settings.push((format!("{name}.key_file"), format!("{FOLDER}{file}.pem")));
    }
    let settings: Vec<_> = settings
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    Signers::new(&Config::with(&settings).unwrap().mail.dkim)
}

fn signed(signers: &Signers, from: &str) -> String {
    let from = EmailAddress::parse(from).unwrap();
    let mail = b"From: x@example.com\r\nSubject: Hi\r\n\r\nHello\r\n";
    String::from_utf8(signers.sign(&from, 1_700_000_000, mail).unwrap()).unwrap()
}

#[test]
fn the_nearest_domain_signs_with_all_its_keys() {
    let signers = signers(&[
        ("example.com", "old", "ed25519"),
        ("EXAMPLE.com", "new", "rsa"),
        ("news.example.com", "news", "ed25519"),
    ])
    .unwrap();
    let domains = |from| {
        let text = signed(&signers, from);
        let tags = text.split("s=").skip(1);
        let selectors: Vec<_> = tags
            .map(|tag| tag.split(';').next().unwrap().to_owned())
            .collect();
        selectors
    };
    assert_eq!(domains("a@example.com"), ["old", "new"]);
    assert_eq!(domains("a@shop.example.com"), ["old", "new"]);
    assert_eq!(domains("a@x.news.example.com"), ["news"]);
    assert!(domains("a@notexample.com").is_empty());
    assert!(domains("a@com").is_empty());
}

#[test]
fn the_same_mail_is_signed_the_same_and_in_short_lines() {
    let signers = signers(&[("example.com", "a", "ed25519"), ("example.com", "b", "rsa")]).unwrap();
    let text = signed(&signers, "a@example.com");
    assert_eq!(text, signed(&signers, "a@example.com"));
    assert!(text.lines().all(|line| line.len() <= 78), "{text}");
    assert!(text.contains("h=from:from:subject:subject;"), "{text}");
    assert!(text.contains("t=1700000000"));
}

#[test]
fn mistakes_name_their_key() {
    for (domain, selector, file, place) in [
        ("exa mple", "s", "ed25519", "mail.dkim.k0.domain"),
        ("example.com", "a;b", "ed25519", "mail.dkim.k0.selector"),
        (
            "example.com",
            "s",
            "none",
            "mail.dkim.k0.key_file can't be read",
        ),
        (
            "example.com",
            "s",
            "rsa-1024",
            "mail.dkim.k0.key_file must be an Ed25519 key",
        ),
    ] {
        let error = signers(&[(domain, selector, file)])
            .unwrap_err()
            .to_string();
        assert!(error.contains(place), "{error}");
    }
}

#[test]
fn records_are_what_openssl_says() {
    let signers = signers(&[
        ("example.com", "ed", "ed25519"),
        ("example.com", "rsa", "rsa"),
    ])
    .unwrap();
    let records = signers.records();
    let ed25519 = &records["ed._domainkey.example.com"];
    assert!(
        ed25519.starts_with("v=DKIM1; k=ed25519; p=") && ed25519.len() == 66,
        "{ed25519}"
    );
    // A SubjectPublicKeyInfo of 2048 bits begins and ends so.
    let rsa = &records["rsa._domainkey.example.com"];
    assert!(
        rsa.starts_with("v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA"),
        "{rsa}"
    );
    assert!(rsa.ends_with("AQAB"), "{rsa}");
}
