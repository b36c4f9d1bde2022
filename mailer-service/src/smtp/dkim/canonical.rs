//! What is signed: headers and body without the differences that a relay may make (RFC 6376, 3.4.2 and 3.4.4).

/// A header field: its name and its value, as they stand in the mail.
pub(super) type Field<'m> = (&'m [u8], &'m [u8]);

/// A mail's header fields and its body.
pub(super) fn fields(mail: &[u8]) -> (Vec<Field<'_>>, &[u8]) {
    let mut fields = Vec::new();
    let mut rest = mail;
    loop {
        if let Some(body) = rest.strip_prefix(b"\r\n") {
            return (fields, body);
        }
        if rest.is_empty() {
            return (fields, rest);
        }
        let (field, after) = split_field(rest);
        if let Some(colon) = field.iter().position(|b| *b == b':') {
            fields.push((&field[..colon], &field[colon + 1..]));
        }
        rest = after;
    }
}

/// A field with its folded lines, and what follows.
fn split_field(text: &[u8]) -> (&[u8], &[u8]) {
    let mut from = 0;
    while let Some(end) = text[from..].windows(2).position(|two| two == b"\r\n") {
        let next = from + end + 2;
        if !matches!(text.get(next), Some(b' ' | b'\t')) {
            return text.split_at(next);
        }
        from = next;
    }
    (text, &[])
}

/// A field's value in one line, white space made single.
pub(super) fn header(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let words: Vec<&str> = text
        .split([' ', '\t', '\r', '\n'])
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

/// The body with its white space made single, without such at the ends of lines and without empty lines at its end.
pub(super) fn body(body: &[u8]) -> Vec<u8> {
    let mut done = Vec::with_capacity(body.len() + 2);
    let mut empty_lines = 0;
    for line in lines(body) {
        let line = relaxed(line);
        if line.is_empty() {
            empty_lines += 1;
            continue;
        }
        for _ in 0..std::mem::take(&mut empty_lines) {
            done.extend_from_slice(b"\r\n");
        }
        done.extend_from_slice(&line);
        done.extend_from_slice(b"\r\n");
    }
    done
}

fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|b| *b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn relaxed(line: &[u8]) -> Vec<u8> {
    let mut done = Vec::with_capacity(line.len());
    let mut has_space = false;
    for byte in line {
        if matches!(byte, b' ' | b'\t') {
            has_space = true;
            continue;
        }
        if std::mem::take(&mut has_space) {
            done.push(b' ');
        }
        done.push(*byte);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6376, 3.4.5.
    #[test]
    fn the_example_of_the_rfc() {
        let mail = b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n";
        let (fields, text) = fields(mail);
        let named: Vec<_> = fields
            .iter()
            .map(|(name, value)| (std::str::from_utf8(name).unwrap().trim_end(), header(value)))
            .collect();
        assert_eq!(named, [("A", "X".to_owned()), ("B", "Y Z".to_owned())]);
        assert_eq!(body(text), b" C\r\nD E\r\n");
        assert_eq!(body(b""), b"");
        assert_eq!(body(b"\r\n\r\n"), b"");
        assert_eq!(body(b"a"), b"a\r\n");
    }
}
