//! The relay's words, made fit for a task's error.

/// Characters that are kept.
const MAX_TEXT: usize = 300;

/// One line of at most [`MAX_TEXT`] characters without control characters and with addresses masked.
pub(in crate::smtp) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_TEXT));
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !out.is_empty() {
            out.push(' ');
        }
        mask(word, &mut out);
        if out.len() > 4 * MAX_TEXT {
            break;
        }
    }
    if let Some((end, _)) = out.char_indices().nth(MAX_TEXT) {
        out.truncate(end);
    }
    out
}

/// `<ada@example.com>:` becomes `<a***@e***>:`, as [`shared::address::EmailAddress`] prints itself.
fn mask(word: &str, out: &mut String) {
    let around = |c: char| "<>()[]\"',;:".contains(c);
    let mut rest = word;
    while let Some(at) = rest.find('@') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        let local = before.rfind(around).map_or(0, |i| i + 1);
        let domain = after.find(|c| around(c) || c == '@').unwrap_or(after.len());
        out.push_str(&before[..local]);
        for part in [&before[local..], &after[..domain]] {
            out.extend(part.chars().next());
            out.push_str("***@");
        }
        out.pop();
        rest = &after[domain..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_one_short_line_without_addresses() {
        for (text, cleaned) in [
            (
                "5.1.1 <ada@example.com>: unknown",
                "5.1.1 <a***@e***>: unknown",
            ),
            ("a@b c@d,e@f", "a***@b*** c***@d***,e***@f***"),
            ("x\r\ny\u{7}\tz", "x y z"),
            (
                "@ a@ @b a@b@c",
                "***@*** a***@*** ***@b*** a***@b******@c***",
            ),
            ("j\u{f6}rg@b\u{fc}cher.example", "j***@b***"),
        ] {
            assert_eq!(clean(text), cleaned);
        }
        assert_eq!(clean(&"\u{e9} ".repeat(1000)).chars().count(), MAX_TEXT);
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_long_or_breaks_a_line(text in "[\\PC\r\n@<> ]{0,400}") {
            let cleaned = clean(&text);
            proptest::prop_assert!(cleaned.chars().count() <= MAX_TEXT && !cleaned.contains(char::is_control));
        }
    }
}
