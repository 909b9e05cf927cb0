//! Payloads from and to JSON. Numbers keep all their digits.

use serde::{Serialize, de::DeserializeOwned};
use tasker_api::v1::Payload;

use crate::error::Error;

const JSON: &str = "application/json";

/// Writes `value` as a JSON payload.
///
/// # Errors
/// [`Error::Json`] if `value` has no form in JSON, such as a map whose keys are not text.
pub fn payload(value: &impl Serialize) -> Result<Payload, Error> {
    let data =
        serde_json::to_vec(value).map_err(|source| Error::Json { path: ".".to_owned(), source })?;
    Ok(Payload { content_type: JSON.to_owned(), data: data.into(), ..Payload::default() })
}

/// Reads a JSON payload.
///
/// # Errors
/// [`Error::NotJson`] if it says that it is something else, [`Error::Json`] with the path of what
/// does not fit.
pub fn parse<T: DeserializeOwned>(payload: &Payload) -> Result<T, Error> {
    if !is_json(&payload.content_type) {
        return Err(Error::NotJson(payload.content_type.clone()));
    }
    let mut text = serde_json::Deserializer::from_slice(&payload.data);
    let value = serde_path_to_error::deserialize(&mut text).map_err(|error| Error::Json {
        path: error.path().to_string(),
        source: error.into_inner(),
    })?;
    text.end().map_err(|source| Error::Json { path: ".".to_owned(), source })?;
    Ok(value)
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.is_empty() || essence.eq_ignore_ascii_case(JSON) || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Order {
        items: Vec<Item>,
        total: serde_json::Number,
    }

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Item {
        sku: String,
    }

    #[test]
    fn numbers_keep_all_their_digits() {
        let text = r#"{"items":[],"total":63340286662973277706162286946811886609896461828096}"#;
        let order: Order = parse(&Payload { data: text.into(), ..Payload::default() }).unwrap();
        assert_eq!(payload(&order).unwrap().data, text);
    }

    #[test]
    fn what_does_not_fit_is_named_by_its_path() {
        let text = r#"{"items":[{"sku":"a"},{"sku":7}],"total":1}"#;
        let error =
            parse::<Order>(&Payload { data: text.into(), ..Payload::default() }).unwrap_err();
        assert_eq!(error.to_string(), "`items[1].sku` is not as expected");
    }

    #[test]
    fn what_is_not_json_is_not_read_as_json() {
        let payload = Payload { content_type: "application/cbor".to_owned(), ..Payload::default() };
        assert!(matches!(parse::<Order>(&payload), Err(Error::NotJson(_))));
    }
}
