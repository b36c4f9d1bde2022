//! Paths of MAIL and RCPT (RFC 5321, 4.1.2, with RFC 6531's letters): `<local@domain>`, `<>`, quoted local
//! parts, and source routes, which are skipped.

/// Longest address in octets: 64 of a local part, the at sign, 255 of a domain.
const MAX_ADDRESS: usize = 64 + 1 + 255;

/// The address between the angle brackets, empty for `<>`, and the rest of the line. `None` for a wrong syntax.
pub(super) fn parse(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(' ').strip_prefix('<')?;
    let end = end_of_path(text)?;
    let (path, rest) = (&text[..end], &text[end + 1..]);
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    let address = match path.strip_prefix('@') {
        Some(route) => route.split_once(':')?.1,
        None => path,
    };
    (address.is_empty() && path.is_empty() || is_address(address)).then_some((address, rest.trim()))
}

/// The place of the closing bracket, with those in quotes passed over.
fn end_of_path(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|byte| {
        let here = std::mem::take(&mut escaped);
        match byte {
            _ if here => {}
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' => return !quoted,
            _ => {}
        }
        false
    })
}

fn is_address(address: &str) -> bool {
    if address.eq_ignore_ascii_case("postmaster") {
        return true;
    }
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    let quoted = local.len() >= 2 && local.starts_with('"') && local.ends_with('"');
    let plain = |text: &str| {
        !text.is_empty() && !text.contains([' ', '<', '>', '"', '@', '\\', ',', ';', '(', ')'])
    };
    address.len() <= MAX_ADDRESS
        && !address.chars().any(char::is_control)
        && (quoted || plain(local))
        && plain(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (text, expected) in [
            ("<a@b>", Some(("a@b", ""))),
            (" <a@b> SIZE=1", Some(("a@b", "SIZE=1"))),
            ("<>", Some(("", ""))),
            ("<Postmaster>", Some(("Postmaster", ""))),
            ("<@c,@d:a@b>", Some(("a@b", ""))),
            ("<\"a > b\\\"\"@c> X", Some(("\"a > b\\\"\"@c", "X"))),
            (
                "<jürgen@münchen.example>",
                Some(("jürgen@münchen.example", "")),
            ),
            ("<a@[127.0.0.1]>", Some(("a@[127.0.0.1]", ""))),
            ("a@b", None),
            ("<a@b", None),
            ("<a@b>x", None),
            ("<a>", None),
            ("<@b>", None),
            ("<@c:>", None),
            ("<a@>", None),
            ("<a b@c>", None),
            ("<a\tb@c>", None),
            ("<\"a>@c", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(parse(&format!("<{}@b>", "a".repeat(400))), None);
    }
}
