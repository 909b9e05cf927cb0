//! Pages of lists: sizes, and opaque tokens that name the last row of a page.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::Invalid;

/// What 0 means.
const DEFAULT: i32 = 50;
/// What more than this means.
const MAX: i32 = 1_000;

/// How many rows a page has.
///
/// # Errors
/// The size is negative.
pub fn size(page_size: i32) -> Result<i64, Invalid> {
    match page_size {
        ..0 => Err(Invalid::field("page_size", format!("{page_size}: give 0 to {MAX}"))),
        0 => Ok(DEFAULT.into()),
        more => Ok(more.min(MAX).into()),
    }
}

/// Names the last row of a page by its key.
#[must_use]
pub fn token(key: &[&str]) -> String {
    URL_SAFE_NO_PAD.encode(key.join("\u{1f}"))
}

/// Reads a token into the key it was made from, of so many parts; `None` for the first page.
///
/// # Errors
/// It is none of ours.
pub fn key<const N: usize>(page_token: &str) -> Result<Option<[String; N]>, Invalid> {
    if page_token.is_empty() {
        return Ok(None);
    }
    let wrong = || Invalid::field("page_token", "give `next_page_token` of the page before");
    let bytes = URL_SAFE_NO_PAD.decode(page_token).map_err(|_| wrong())?;
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    let parts: Vec<String> = text.split('\u{1f}').map(str::to_owned).collect();
    parts.try_into().map(Some).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_key_and_others_are_refused() {
        let key_of = |token: &str| key::<2>(token);
        assert_eq!(key_of(&token(&["a", "b"])).unwrap(), Some(["a".to_owned(), "b".to_owned()]));
        assert_eq!(key_of("").unwrap(), None);
        assert!(key_of("no token").is_err());
        assert!(key_of(&token(&["a"])).is_err());
    }

    #[test]
    fn a_negative_size_is_refused_and_a_large_one_clamped() {
        assert!(size(-1).is_err());
        assert_eq!(size(0).unwrap(), 50);
        assert_eq!(size(5_000).unwrap(), 1_000);
    }
}
