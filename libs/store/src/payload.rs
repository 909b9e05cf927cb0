//! User data, kept to the byte.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

use crate::StoreError;

/// Data of a user with what it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payload {
    /// A media type; never empty.
    pub content_type: String,
    /// As given.
    pub data: Bytes,
    /// Kept beside the data.
    pub metadata: BTreeMap<String, String>,
}

impl Payload {
    /// As a column holds it: nothing where there is none.
    pub(crate) fn metadata_column(&self) -> Option<Value> {
        if self.metadata.is_empty() {
            return None;
        }
        let map = self.metadata.iter().map(|(key, value)| (key.clone(), value.clone().into()));
        Some(Value::Object(map.collect()))
    }

    pub(crate) fn from_columns(
        table: &'static str,
        content_type: String,
        data: Vec<u8>,
        metadata: Option<Value>,
    ) -> Result<Self, StoreError> {
        let metadata = match metadata {
            None => BTreeMap::new(),
            Some(map) => serde_json::from_value(map).map_err(|error| StoreError::Corrupt {
                table,
                what: format!("metadata: {error}"),
            })?,
        };
        Ok(Self { content_type, data: data.into(), metadata })
    }
}
