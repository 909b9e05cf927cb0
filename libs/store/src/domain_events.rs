//! Domain events: what steps tell others when they have ended.
//!
//! Durable ones are messages of the queue `<namespace>_domain_events`, sent in the transaction that takes
//! the result. Fast ones are announced after it, to whoever listens: see [`Store::announce_events`].

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgListener;
use tasker_domain::template::Outcome;
use uuid::Uuid;

use crate::{Payload, Settlement, Store, StoreError};

/// Where fast events are announced.
const CHANNEL: &str = "tasker_domain_events";
/// PostgreSQL takes 8,000 bytes a payload.
const MAX_ANNOUNCEMENT: usize = 7_900;
/// What surrounds the events of one.
const FRAME: usize = 60;

/// An event, as the queue and announcements hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainEvent {
    /// A UUIDv7, the same on every way that the event takes.
    pub event_id: Uuid,
    /// As the template declares it.
    pub name: String,
    /// Of the template.
    pub namespace: String,
    /// Whose step has ended.
    pub task_id: Uuid,
    /// What the task was made from.
    pub template: TemplateOfEvent,
    /// Which step.
    pub step: String,
    /// Its place in the task.
    pub ordinal: i32,
    /// Which attempt ended it.
    pub attempt: i32,
    /// How it ended.
    pub outcome: Outcome,
    /// When.
    pub time: DateTime<Utc>,
    /// Of the task; may be empty.
    pub correlation_id: String,
    /// Of the span that took the result; may be empty.
    pub traceparent: String,
    /// What the step came to, if it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<EventPayload>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<EventError>,
}

/// Name and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateOfEvent {
    /// Unique in its namespace.
    pub name: String,
    /// A semantic version.
    pub version: String,
}

/// A result, to the byte: a database that read it as JSON would change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPayload {
    /// A media type.
    pub content_type: String,
    /// The data, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The data, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// Beside the data.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// Why a step has failed for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventError {
    /// For programs.
    #[serde(rename = "type")]
    pub error_type: String,
    /// For people.
    pub message: String,
    /// Whether another attempt would have been made, had there been one left.
    pub retryable: bool,
}

impl From<&Payload> for EventPayload {
    fn from(payload: &Payload) -> Self {
        let Payload { content_type, data, metadata } = payload;
        // A text with a NUL is none to the database.
        let text = std::str::from_utf8(data).ok().filter(|text| !text.contains('\0'));
        Self {
            content_type: content_type.clone(),
            data: text.map(str::to_owned),
            data_base64: text.is_none().then(|| BASE64_STANDARD.encode(data)),
            metadata: metadata.clone(),
        }
    }
}

impl TryFrom<EventPayload> for Payload {
    type Error = base64::DecodeError;

    fn try_from(payload: EventPayload) -> Result<Self, base64::DecodeError> {
        let EventPayload { content_type, data, data_base64, metadata } = payload;
        let data = match data_base64 {
            Some(text) => BASE64_STANDARD.decode(text)?,
            None => data.unwrap_or_default().into_bytes(),
        };
        Ok(Self { content_type, data: data.into(), metadata })
    }
}

impl Settlement {
    /// Sends durable events, in their order.
    ///
    /// # Errors
    /// The transaction has failed.
    pub async fn publish(&mut self, events: &[&DomainEvent]) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let namespaces: Vec<String> = events.iter().map(|event| event.namespace.clone()).collect();
        let traces: Vec<String> = events.iter().map(|event| event.traceparent.clone()).collect();
        let messages = events
            .iter()
            .map(|event| serde_json::to_value(event).expect("names, numbers and texts are JSON"));
        let messages: Vec<serde_json::Value> = messages.collect();
        sqlx::query_file!("sql/domain_events/publish.sql", &namespaces, &messages, &traces)
            .fetch_one(self.connection())
            .await?;
        Ok(())
    }
}

/// Fast events, as replicas tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct AnnouncedEvents {
    /// Where both `payload` and `error` are missing, [`Store::complete_event`] reads them, if there is either.
    pub events: Vec<DomainEvent>,
    /// How many there were beside them that could not be announced.
    pub missed: u64,
}

impl DomainEvent {
    /// As it is announced: without what would be too large.
    #[must_use]
    pub fn announcement(self) -> String {
        let json =
            |event: &Self| serde_json::to_string(event).expect("names, numbers and texts are JSON");
        let whole = json(&self);
        if whole.len() + FRAME <= MAX_ANNOUNCEMENT {
            return whole;
        }
        json(&Self { payload: None, error: None, ..self })
    }
}

impl Store {
    /// Tells all replicas of events, as [`DomainEvent::announcement`] has written them.
    ///
    /// # Errors
    /// The database is not available: nobody was told.
    pub async fn announce_events(&self, events: &[String], missed: u64) -> Result<(), StoreError> {
        let mut line = self.relaxed_lines.take().await?;
        let told = sqlx::query("SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload")
            .bind(CHANNEL)
            .bind(announcements(events, missed))
            .execute(&mut *line)
            .await;
        line.done(told)?;
        Ok(())
    }

    /// Listens to the events that replicas announce, on a connection of its own.
    ///
    /// # Errors
    /// The database is not available.
    pub async fn listen_to_events(&self) -> Result<PgListener, StoreError> {
        let mut listener = PgListener::connect_with(&self.relaxed).await?;
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }

    /// Deletes durable events that have lain in their queues for more than so many days, of each namespace
    /// the oldest, at most `count`. Says of which namespaces how many.
    ///
    /// # Errors
    /// Nothing was done.
    pub async fn purge_events(
        &self,
        keep_days: i32,
        count: i32,
    ) -> Result<Vec<(String, i64)>, StoreError> {
        let rows = sqlx::query_file!("sql/domain_events/purge.sql", keep_days, count)
            .fetch_all(&self.durable)
            .await?;
        Ok(rows.into_iter().map(|row| (row.namespace, row.purged)).collect())
    }

    /// Reads what an announcement had no room for. None if it is not kept any more.
    ///
    /// # Errors
    /// The database is not available, or the row is corrupt.
    pub async fn complete_event(
        &self,
        event: DomainEvent,
    ) -> Result<Option<DomainEvent>, StoreError> {
        let is_whole = event.payload.is_some() || event.error.is_some();
        if is_whole || event.outcome == Outcome::ResolvedManually {
            return Ok(Some(event));
        }
        let row = sqlx::query!(
            "SELECT content_type, data, metadata, error_type, error_message, retryable
            FROM step_results WHERE task_id = $1 AND ordinal = $2 AND attempt = $3",
            event.task_id,
            event.ordinal,
            event.attempt
        )
        .fetch_optional(&self.relaxed)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(match (event.outcome, row.content_type, row.data, row.error_type) {
            (Outcome::Success, Some(content_type), Some(data), _) => {
                let payload =
                    Payload::from_columns("step_results", content_type, data, row.metadata)?;
                Some(DomainEvent { payload: Some((&payload).into()), ..event })
            }
            (Outcome::Failure, _, _, Some(error_type)) => {
                let message = row.error_message.unwrap_or_default();
                let retryable = row.retryable.unwrap_or_default();
                let error = Some(EventError { error_type, message, retryable });
                Some(DomainEvent { error, ..event })
            }
            // Another result stands there by now.
            _ => None,
        })
    }
}

/// In pieces that fit a payload each.
fn announcements(events: &[String], mut missed: u64) -> Vec<String> {
    let mut pieces: Vec<Vec<&str>> = vec![Vec::new()];
    let mut bytes = FRAME;
    for event in events {
        if bytes + event.len() > MAX_ANNOUNCEMENT {
            pieces.push(Vec::new());
            bytes = FRAME;
        }
        bytes += event.len() + 1;
        pieces.last_mut().expect("there is a first").push(event);
    }
    let piece = |events: Vec<&str>| {
        let missed = std::mem::take(&mut missed);
        format!("{{\"missed\":{missed},\"events\":[{}]}}", events.join(","))
    };
    pieces.into_iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &str) -> DomainEvent {
        DomainEvent {
            event_id: Uuid::now_v7(),
            name: "orders.paid".to_owned(),
            namespace: "orders".to_owned(),
            task_id: Uuid::now_v7(),
            template: TemplateOfEvent { name: "order".to_owned(), version: "1.0.0".to_owned() },
            step: "pay".to_owned(),
            ordinal: 0,
            attempt: 1,
            outcome: Outcome::Success,
            time: Utc::now(),
            correlation_id: String::new(),
            traceparent: String::new(),
            payload: Some(EventPayload {
                content_type: "application/json".to_owned(),
                data: Some(data.to_owned()),
                data_base64: None,
                metadata: BTreeMap::new(),
            }),
            error: None,
        }
    }

    #[test]
    fn announcements_fit_their_channel_and_lose_nothing_but_what_can_be_read() {
        let small: Vec<DomainEvent> = (0..40).map(|n| event(&n.to_string())).collect();
        let large = event(&"x".repeat(MAX_ANNOUNCEMENT));
        let all = small.iter().cloned().chain([large.clone()]);
        let texts: Vec<String> = all.map(DomainEvent::announcement).collect();
        let pieces = announcements(&texts, 3);
        assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.len() < 8_000));
        let read: Vec<AnnouncedEvents> =
            pieces.iter().map(|piece| serde_json::from_str(piece).unwrap()).collect();
        assert_eq!(read.iter().map(|piece| piece.missed).sum::<u64>(), 3);
        let events: Vec<DomainEvent> = read.into_iter().flat_map(|piece| piece.events).collect();
        assert_eq!(events[..40], small);
        assert_eq!(events[40], DomainEvent { payload: None, ..large });
    }

    #[test]
    fn a_payload_comes_back_to_the_byte_whatever_it_is() {
        let json = br#"{"n": 1.10, "n": "\u0000"}"#.as_slice();
        for data in [json, b"", b"\0", b"\xff\xfe"] {
            let content_type = "application/json".to_owned();
            let payload = Payload { content_type, data: data.into(), ..Payload::default() };
            let text = serde_json::to_string(&EventPayload::from(&payload)).unwrap();
            // What jsonb does not take.
            assert!(!text.replace("\\\\u0000", "").contains("\\u0000"), "{text}");
            let back: EventPayload = serde_json::from_str(&text).unwrap();
            assert_eq!(Payload::try_from(back).unwrap(), payload);
        }
    }
}
