//! A message as a queue holds it.

use serde_json::Value;
use sqlx::{Row, postgres::PgRow};

/// A message with what PGMQ knows of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Unique in its queue; grows.
    pub id: i64,
    /// How often it has been read without being deleted, this time included.
    pub reads: i32,
    /// What was sent.
    pub body: Value,
    /// Sent beside it, for example a `traceparent`.
    pub headers: Option<Value>,
}

impl Message {
    /// A header's text; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.as_ref().and_then(|all| all.get(name)?.as_str()).unwrap_or_default()
    }
}

impl sqlx::FromRow<'_, PgRow> for Message {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("msg_id")?,
            reads: row.try_get("read_ct")?,
            body: row.try_get("message")?,
            headers: row.try_get("headers")?,
        })
    }
}
