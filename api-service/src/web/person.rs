//! Pages for the people that mails go to: one sentence and at most one button, in English or Chinese. They tell nothing
//! of whose link it is.

use super::escape;
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{StatusCode, header},
};

/// Nothing is loaded, and the button leads back here alone.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Which the reader's program asks for first, of those there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    Chinese,
}

impl Language {
    pub fn of(request: &HttpRequest) -> Self {
        let header = request.headers().get(header::ACCEPT_LANGUAGE);
        let text = header
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let known = text.split(',').find_map(|tag| {
            let tag = tag.trim().to_ascii_lowercase();
            match tag.get(..2) {
                Some("zh") => Some(Self::Chinese),
                Some("en") => Some(Self::English),
                _ => None,
            }
        });
        known.unwrap_or(Self::English)
    }
}

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    Unsubscribe,
    Unsubscribed,
    UnknownLink,
    NotMe,
    NotMeDone,
    MagicLink,
    MagicLinkDone,
    MagicLinkOver,
}

/// Title, text, and the button where there is one.
type Words = (&'static str, &'static str, Option<&'static str>);

impl Page {
    fn words(self, language: Language) -> Words {
        match language {
            Language::English => self.english(),
            Language::Chinese => self.chinese(),
        }
    }

    fn english(self) -> Words {
        match self {
            Self::Unsubscribe => (
                "Unsubscribe",
                "Do you want no more mails of this kind?",
                Some("Unsubscribe"),
            ),
            Self::Unsubscribed => (
                "You have unsubscribed",
                "You will get no more mails of this kind. One that is on its way may still arrive.",
                None,
            ),
            Self::UnknownLink => (
                "This link is not valid",
                "It may have been cut off. Open it from the mail again.",
                None,
            ),
            Self::NotMe => (
                "That was not me",
                "Did you not ask for this mail? Then somebody else entered your address. Nothing was done with it; you can stop such mails.",
                Some("I did not ask for this"),
            ),
            Self::NotMeDone => (
                "Thank you",
                "The code is of no use any more, and you will get no more such mails.",
                None,
            ),
            Self::MagicLink => (
                "Confirm",
                "Confirm that you have asked for this.",
                Some("Confirm"),
            ),
            Self::MagicLinkDone => (
                "Confirmed",
                "You can close this page and go on where you came from.",
                None,
            ),
            Self::MagicLinkOver => (
                "This link is of no use any more",
                "It was used already, or its time is over. Ask for a new one.",
                None,
            ),
        }
    }

    fn chinese(self) -> Words {
        match self {
            Self::Unsubscribe => ("退订", "您要退订此类邮件吗？", Some("退订")),
            Self::Unsubscribed => (
                "退订成功",
                "您将不再收到此类邮件。已经发出的邮件仍可能送达。",
                None,
            ),
            Self::UnknownLink => ("链接无效", "链接可能不完整，请从邮件中重新打开。", None),
            Self::NotMe => (
                "不是我本人操作",
                "如果您没有请求这封邮件，可能是他人误填了您的地址。您的账户没有任何变化；您可以停止接收此类邮件。",
                Some("我没有请求这封邮件"),
            ),
            Self::NotMeDone => ("谢谢", "该验证码已失效，您将不再收到此类邮件。", None),
            Self::MagicLink => ("确认", "请确认这是您本人的请求。", Some("确认")),
            Self::MagicLinkDone => ("已确认", "您可以关闭此页面，继续之前的操作。", None),
            Self::MagicLinkOver => ("链接已失效", "链接已被使用或已过期，请重新获取。", None),
        }
    }
}

/// The button posts to the address that the page is at.
pub fn page(status: StatusCode, language: Language, page: Page) -> HttpResponse {
    let (title, text, button) = page.words(language);
    let button = button.map_or_else(String::new, |label| {
        format!(
            "<form method=\"post\"><button>{}</button></form>",
            escape(label)
        )
    });
    let tag = match language {
        Language::English => "en",
        Language::Chinese => "zh",
    };
    let html = format!(
        include_str!("person.html"),
        tag = tag,
        title = escape(title),
        text = escape(text),
        button = button,
    );
    HttpResponseBuilder::new(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("x-robots-tag", "noindex"))
        .body(html)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn the_reader_s_language_is_spoken() {
        let of = |text: &str| {
            let request = TestRequest::default().insert_header((header::ACCEPT_LANGUAGE, text));
            Language::of(&request.to_http_request())
        };
        assert_eq!(of("zh-CN,zh;q=0.9,en;q=0.8"), Language::Chinese);
        assert_eq!(of("fr, en;q=0.5, zh;q=0.1"), Language::English);
        assert_eq!(of(""), Language::English);
        assert_eq!(of("é"), Language::English);
    }
}
