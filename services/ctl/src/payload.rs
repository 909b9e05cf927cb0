//! Payloads: as they are given on the command line, and as they are shown.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs::File,
    io::{self, Read},
    path::PathBuf,
    str::FromStr,
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;
use tasker_client::v1::Payload;

use crate::names::printable;

/// More than the mesh takes, so that the mesh says so; an endless file still has an end here.
const MOST: u64 = 6 << 20;

/// Where a task's context comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Text(String),
    File(PathBuf),
    StandardInput,
}

impl FromStr for Given {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.strip_prefix('@') {
            Some(path) => Self::File(path.into()),
            None if text == "-" => Self::StandardInput,
            None => Self::Text(text.to_owned()),
        })
    }
}

impl Given {
    /// The JSON as it is given, to the byte: whether it is JSON is for the mesh to say.
    pub(crate) fn read(self) -> anyhow::Result<Payload> {
        let data = match self {
            Self::Text(text) => text.into_bytes(),
            Self::StandardInput => bounded(io::stdin().lock()).context("standard input")?,
            Self::File(path) => {
                let file = || path.display().to_string();
                bounded(File::open(&path).with_context(file)?).with_context(file)?
            }
        };
        let content_type = "application/json".to_owned();
        Ok(Payload { content_type, data: data.into(), ..Payload::default() })
    }
}

fn bounded(source: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut data = Vec::new();
    let read = source.take(MOST + 1).read_to_end(&mut data)?;
    ensure!(read as u64 <= MOST, "more than {MOST} bytes; a context has 4 MiB at most");
    Ok(data)
}

/// A payload for people: JSON as it is, anything else by type and size.
pub(crate) fn text(payload: &Payload) -> String {
    match json(payload) {
        Some(json) => printable(json.get()),
        None => format!("{}, {} bytes", printable(&payload.content_type), payload.data.len()),
    }
}

/// A payload for programs.
#[derive(Serialize)]
pub(crate) struct View<'a> {
    content_type: &'a str,
    /// JSON as it is, to the byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    /// All else.
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a Payload> for View<'a> {
    fn from(payload: &'a Payload) -> Self {
        let data = json(payload);
        let data_base64 = data.is_none().then(|| STANDARD.encode(&payload.data));
        Self { content_type: &payload.content_type, data, data_base64, metadata: &payload.metadata }
    }
}

fn json(payload: &Payload) -> Option<&RawValue> {
    let is_json = payload.content_type.is_empty() || payload.content_type.contains("json");
    is_json.then(|| serde_json::from_slice(&payload.data).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(text: &str) -> anyhow::Result<Payload> {
        text.parse::<Given>().unwrap().read()
    }

    #[test]
    fn a_context_is_given_as_text_or_as_a_file() {
        assert_eq!(read("{\"n\": 6}").unwrap().data, "{\"n\": 6}");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"[1]").unwrap();
        assert_eq!(read(&format!("@{}", file.path().display())).unwrap().data, "[1]");
        assert_eq!("-".parse(), Ok(Given::StandardInput));
        let error = format!("{:#}", read("@/nowhere/at all").unwrap_err());
        assert!(error.starts_with("/nowhere/at all: "), "{error}");
    }

    #[test]
    fn an_endless_file_has_an_end() {
        let error = format!("{:#}", read("@/dev/zero").unwrap_err());
        assert!(error.contains("4 MiB at most"), "{error}");
    }

    #[test]
    fn json_is_shown_to_the_byte_and_all_else_in_base64() {
        let data = r#"{"b": 63340286662973277706162286946811886609896461828096, "a": 1.10}"#;
        let payload = Payload { data: data.into(), ..Payload::default() };
        assert_eq!(text(&payload), data);
        let shown = serde_json::to_string(&View::from(&payload)).unwrap();
        assert_eq!(shown, format!(r#"{{"content_type":"","data":{data}}}"#));

        let sealed = Payload {
            content_type: "application/octet-stream".to_owned(),
            data: vec![0, 255].into(),
            metadata: [("key_id".to_owned(), "7".to_owned())].into(),
        };
        assert_eq!(text(&sealed), "application/octet-stream, 2 bytes");
        let shown = serde_json::to_string(&View::from(&sealed)).unwrap();
        assert!(shown.ends_with(r#""data_base64":"AP8=","metadata":{"key_id":"7"}}"#), "{shown}");
    }
}
