//! The MIME structure of a mail: its texts, what its HTML part shows, and the files that go with it.

use super::{BuildError, text};
use lettre::message::{
    Body, MultiPart, SinglePart,
    header::{ContentDisposition, ContentId, ContentTransferEncoding, ContentType},
};
use shared::{attachment::Attachment, kinds::EmailSend, task::TaskId};

enum Piece {
    One(SinglePart),
    Many(MultiPart),
}

impl Piece {
    fn into(self, parent: MultiPart) -> MultiPart {
        match self {
            Self::One(part) => parent.singlepart(part),
            Self::Many(part) => parent.multipart(part),
        }
    }

    fn formatted(&self) -> Vec<u8> {
        match self {
            Self::One(part) => part.formatted(),
            Self::Many(part) => part.formatted(),
        }
    }
}

/// The body with the MIME headers that stand before it. `files`: what the attachments hold, in their order.
pub(super) fn body<F: AsRef<[u8]>>(
    task_id: TaskId,
    mail: &EmailSend,
    files: &[F],
) -> Result<Vec<u8>, BuildError> {
    if mail.attachments.len() != files.len() {
        return Err(BuildError::Missing("content of an attachment"));
    }
    let (mut shown, mut attached) = (Vec::new(), Vec::new());
    for (about, content) in mail.attachments.iter().zip(files) {
        let is_shown = about.content_id.is_some() && mail.html.is_some();
        let list = if is_shown { &mut shown } else { &mut attached };
        list.push(file(about, content.as_ref())?);
    }
    let is_whole = attached.is_empty();
    let content = texts(task_id, mail, shown, is_whole)?;
    if is_whole {
        return Ok(content.formatted());
    }
    let mixed = multipart(task_id, "mixed", "m", "")?;
    let mixed = attached
        .into_iter()
        .fold(content.into(mixed), MultiPart::singlepart);
    Ok(mixed.formatted())
}

/// Text, HTML or both; the latter with what it shows. `is_whole`: nothing follows.
fn texts(
    task_id: TaskId,
    mail: &EmailSend,
    shown: Vec<SinglePart>,
    is_whole: bool,
) -> Result<Piece, BuildError> {
    // A part's last line is ended by its boundary, or by the end of the mail.
    let alone = |content: &str| {
        let lines = text::crlf(content);
        if is_whole {
            text::last_line_open(lines)
        } else {
            lines
        }
    };
    let html = |content: String, shown: Vec<SinglePart>| {
        let html = SinglePart::html(content);
        if shown.is_empty() {
            return Ok(Piece::One(html));
        }
        let related = multipart(task_id, "related", "r", "; type=\"text/html\"")?;
        let related = related.singlepart(html);
        Ok(Piece::Many(
            shown.into_iter().fold(related, MultiPart::singlepart),
        ))
    };
    match (&mail.text, &mail.html) {
        (Some(plain), Some(styled)) => {
            let parts = multipart(task_id, "alternative", "", "")?;
            let parts = parts.singlepart(SinglePart::plain(text::crlf(plain)));
            Ok(Piece::Many(html(text::crlf(styled), shown)?.into(parts)))
        }
        (Some(plain), None) => Ok(Piece::One(SinglePart::plain(alone(plain)))),
        (None, Some(styled)) if shown.is_empty() => html(alone(styled), shown),
        (None, Some(styled)) => html(text::crlf(styled), shown),
        (None, None) => Err(BuildError::Missing("text or HTML part")),
    }
}

/// "=_" occurs in no quoted-printable or base64 text (RFC 2045, 6.7), and nobody knows the id beforehand.
fn multipart(task_id: TaskId, kind: &str, sign: &str, more: &str) -> Result<MultiPart, BuildError> {
    let kind = format!(
        "multipart/{kind}; boundary=\"=_{sign}{}\"{more}",
        task_id.0.simple()
    );
    let kind = ContentType::parse(&kind).map_err(|_| BuildError::Panicked)?;
    Ok(MultiPart::builder().header(kind).build())
}

fn file(about: &Attachment, content: &[u8]) -> Result<SinglePart, BuildError> {
    let kind = ContentType::parse(&about.content_type)
        .map_err(|_| BuildError::Header("the media type of an attachment is not usable"))?;
    let encoding = ContentTransferEncoding::Base64;
    let content = Body::new_with_encoding(content.to_vec(), encoding)
        .map_err(|_| BuildError::Header("an attachment can't be encoded"))?;
    let part = SinglePart::builder().header(kind);
    let part = match &about.content_id {
        Some(id) => part
            .header(ContentId::from(format!("<{id}>")))
            .header(ContentDisposition::inline_with_name(&about.filename)),
        None => part.header(ContentDisposition::attachment(&about.filename)),
    };
    Ok(part.body(content))
}
