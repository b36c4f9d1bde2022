//! Which variant a locale gets: the lookup of RFC 4647, 3.4.

/// A language tag of BCP 47, as far as its form goes, e.g. `zh-Hant-TW`.
pub fn is_locale(text: &str) -> bool {
    let mut subtags = text.split('-');
    let language = subtags.next().unwrap_or_default();
    let is_language =
        (2..=8).contains(&language.len()) && language.bytes().all(|b| b.is_ascii_alphabetic());
    let is_subtag =
        |tag: &str| (1..=8).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_alphanumeric());
    is_language && text.len() <= 35 && subtags.all(is_subtag)
}

/// Among those that there are: the wanted one, else the nearest that is less special, else another of the same language.
pub(super) fn lookup<'a>(
    wanted: &str,
    mut there: impl Iterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    let mut range = wanted;
    loop {
        let found = there.clone().find(|tag| tag.eq_ignore_ascii_case(range));
        if found.is_some() {
            return found;
        }
        let Some((shorter, _)) = range.rsplit_once('-') else {
            break;
        };
        // A single letter begins an extension, and says nothing alone.
        range = match shorter.rsplit_once('-') {
            Some((before, tag)) if tag.len() == 1 => before,
            _ => shorter,
        };
    }
    there.find(|tag| {
        let language = tag.split('-').next().unwrap_or_default();
        language.eq_ignore_ascii_case(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_variant_is_found() {
        let there = ["en", "en-GB", "zh-Hant", "zh-Hans", "pt-BR"];
        let of = |wanted| lookup(wanted, there.into_iter());
        assert_eq!(of("en-gb"), Some("en-GB"));
        assert_eq!(of("en-US"), Some("en"));
        assert_eq!(of("zh-Hant-TW-u-nu-latn"), Some("zh-Hant"));
        assert_eq!(of("zh"), Some("zh-Hant"));
        assert_eq!(of("pt-PT"), Some("pt-BR"));
        assert_eq!(of("fr"), None);
    }

    #[test]
    fn tags_have_a_form() {
        for good in ["en", "zh-Hant-TW", "de-1996", "sr-Latn"] {
            assert!(is_locale(good), "{good}");
        }
        for bad in ["", "e", "en_GB", "en-", "1en", "../en", "en-toolongsubtag"] {
            assert!(!is_locale(bad), "{bad}");
        }
    }
}
