//! What a good result of a step comes to that is not plain.
//!
//! Pure: what judging takes has been read under the locks, and what comes of it is written in the same
//! transaction, both by [`settle_steps`](crate::settle_steps). A further rule is a further function here,
//! asked by [`judge`] in its turn. What comes into being by a result is judged by
//! [`expansions`](crate::expansions).

use tasker_api::field;
use tasker_domain::template::{Condition, Schema, Step, Violation};
use tasker_store::Payload;

/// What a good result comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The step is complete.
    Complete,
    /// The result is not what the template asks for: the step has failed for good.
    Fail {
        /// For programs.
        error_type: &'static str,
        /// For people.
        message: String,
    },
}

/// Judges a good result of a step, as its template declares it.
pub fn judge(step: &Step, result: &Payload) -> Judgement {
    if let Some(what) = step.result_schema.as_ref().and_then(|schema| violates(schema, result)) {
        return Judgement::Fail { error_type: "RESULT_SCHEMA_VIOLATION", message: what };
    }
    for event in step.events.iter().filter(|event| event.condition != Condition::Failure) {
        if let Some(what) = event.schema.as_ref().and_then(|schema| violates(schema, result)) {
            let message = format!("the event {} cannot carry it: {what}", event.name);
            return Judgement::Fail { error_type: "EVENT_SCHEMA_VIOLATION", message };
        }
    }
    Judgement::Complete
}

/// What a schema finds wrong with a result, as a sentence.
fn violates(schema: &Schema, result: &Payload) -> Option<String> {
    if !field::is_json(&result.content_type) {
        return Some(format!(
            "result.content_type: {}: the schema is of JSON",
            result.content_type
        ));
    }
    let found = match schema.violations("result", &result.data) {
        Ok(found) => found,
        Err(error) => return Some(format!("result: {error}")),
    };
    let sentence = |Violation { path, description }: &Violation| format!("{path}: {description}");
    (!found.is_empty()).then(|| found.iter().map(sentence).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use tasker_domain::Template;

    use super::*;

    fn judged(declared: &str, content_type: &str, data: &str) -> Judgement {
        let step = format!("{{name: only, handler: {{callable: c}}, {declared}}}");
        let yaml = format!("{{namespace: n, name: t, version: 1.0.0, steps: [{step}]}}");
        let template = Template::parse(&yaml).unwrap();
        let (content_type, data) = (content_type.to_owned(), data.to_owned().into());
        judge(&template.steps[0], &Payload { content_type, data, ..Payload::default() })
    }

    #[test]
    fn a_result_is_what_its_schema_says_or_fails_with_the_place() {
        let schema = "result_schema: {type: object, properties: {n: {type: integer}}}";
        assert_eq!(judged(schema, "application/json", r#"{"n": 1}"#), Judgement::Complete);
        let Judgement::Fail { error_type, message } =
            judged(schema, "application/json", r#"{"n": "one"}"#)
        else {
            panic!("it was taken");
        };
        assert_eq!(error_type, "RESULT_SCHEMA_VIOLATION");
        assert!(message.starts_with("result.n: "), "{message}");
        let Judgement::Fail { message, .. } = judged(schema, "text/plain", "1") else {
            panic!("it was taken");
        };
        assert!(message.starts_with("result.content_type: text/plain"), "{message}");
    }

    #[test]
    fn an_event_carries_what_its_schema_says() {
        let events = "publishes_events: [{name: a.b, schema: {type: integer}}]";
        assert_eq!(judged(events, "application/json", "1"), Judgement::Complete);
        let Judgement::Fail { error_type, message } = judged(events, "application/json", "\"1\"")
        else {
            panic!("it was taken");
        };
        assert_eq!(error_type, "EVENT_SCHEMA_VIOLATION");
        assert!(message.contains("a.b") && message.contains("result: "), "{message}");
    }
}
