//! Lists of any length as streams: the next page is fetched when the one before is used up.

use futures::{Stream, TryStreamExt as _, stream};

use crate::error::Error;

/// Streams the items of all pages; `fetch` takes a page token and returns items and the next token.
pub(crate) fn items<T, F>(fetch: impl FnMut(String) -> F) -> impl Stream<Item = Result<T, Error>>
where
    F: Future<Output = Result<(Vec<T>, String), Error>>,
{
    let first = Some((fetch, String::new()));
    stream::try_unfold(first, |state| async {
        let Some((mut fetch, token)) = state else { return Ok::<_, Error>(None) };
        let (items, next) = fetch(token).await?;
        let rest = (!next.is_empty()).then_some((fetch, next));
        Ok(Some((stream::iter(items.into_iter().map(Ok)), rest)))
    })
    .try_flatten()
}
