//! Lists of any length: in the memory of a page, however long they are.

use std::{
    io::{self, Write as _},
    pin::pin,
};

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use tasker_client::Error;

use crate::print;

/// Rows of one table; more go into another below it.
const BLOCK: usize = 1000;

/// Shows all items: a table, or a JSON array with an item a line.
pub(crate) async fn show<T, V, const N: usize>(
    json: bool,
    items: impl Stream<Item = Result<T, Error>>,
    header: [&str; N],
    row: impl Fn(&T) -> [String; N],
    view: impl Fn(T) -> V,
) -> anyhow::Result<()>
where
    V: Serialize,
{
    if json { array(items, view).await } else { table(items, header, row).await }
}

async fn array<T, V: Serialize>(
    items: impl Stream<Item = Result<T, Error>>,
    view: impl Fn(T) -> V,
) -> anyhow::Result<()> {
    let mut items = pin!(items);
    let mut before = "[";
    while let Some(item) = items.try_next().await? {
        write!(io::stdout(), "{before}{}", serde_json::to_string(&view(item))?)?;
        before = ",\n";
    }
    Ok(print::line(if before == "[" { "[]" } else { "]" })?)
}

async fn table<T, const N: usize>(
    items: impl Stream<Item = Result<T, Error>>,
    header: [&str; N],
    row: impl Fn(&T) -> [String; N],
) -> anyhow::Result<()> {
    let mut blocks = pin!(items.try_chunks(BLOCK));
    let mut shown = false;
    while let Some(block) = blocks.next().await {
        let (block, failed) = match block {
            Ok(block) => (block, None),
            // What came before the failure is still true.
            Err(cut) => (cut.0, Some(cut.1)),
        };
        if !block.is_empty() {
            print::table(header, block.iter().map(&row))?;
            shown = true;
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
    }
    if !shown {
        print::table(header, [])?;
    }
    Ok(())
}
