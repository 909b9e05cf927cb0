//! Words for people and scripts: states as `in_progress`, times as RFC 3339.

use chrono::{DateTime, SecondsFormat, Utc};
use prost_types::{Duration, Timestamp};
use tasker_client::v1::{
    DlqReason, DlqStatus, LifecycleLimit, StepReasonKind, StepState, StepType, TaskHealth,
    TaskState, TemplateRef,
};

/// `TASK_STATE_IN_PROGRESS` is `in_progress`.
pub(crate) fn task_state(state: TaskState) -> String {
    without("TASK_STATE_", state.as_str_name())
}

/// `STEP_STATE_IN_PROGRESS` is `in_progress`.
pub(crate) fn step_state(state: StepState) -> String {
    without("STEP_STATE_", state.as_str_name())
}

/// `DLQ_REASON_MANUAL` is `manual`.
pub(crate) fn dlq_reason(reason: DlqReason) -> String {
    without("DLQ_REASON_", reason.as_str_name())
}

/// `DLQ_STATUS_PENDING` is `pending`.
pub(crate) fn dlq_status(status: DlqStatus) -> String {
    without("DLQ_STATUS_", status.as_str_name())
}

/// `TASK_HEALTH_STALE` is `stale`.
pub(crate) fn health(health: TaskHealth) -> String {
    without("TASK_HEALTH_", health.as_str_name())
}

/// `LIFECYCLE_LIMIT_BLOCKED` is `blocked`.
pub(crate) fn limit(limit: LifecycleLimit) -> String {
    without("LIFECYCLE_LIMIT_", limit.as_str_name())
}

/// `STEP_TYPE_BATCH_WORKER` is `batch_worker`.
pub(crate) fn step_type(of: StepType) -> String {
    without("STEP_TYPE_", of.as_str_name())
}

/// `STEP_REASON_KIND_NO_WORKER` is `no_worker`.
pub(crate) fn reason(kind: StepReasonKind) -> String {
    without("STEP_REASON_KIND_", kind.as_str_name())
}

fn without(prefix: &str, name: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

/// In UTC; nothing for a time that no calendar has.
pub(crate) fn time(time: Option<&Timestamp>) -> Option<String> {
    let time = time?;
    let time: DateTime<Utc> =
        DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)?;
    Some(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// In seconds, to the millisecond: `1.250s`; nothing for a negative one.
pub(crate) fn duration(duration: Option<&Duration>) -> Option<String> {
    let duration = std::time::Duration::try_from(*duration?).ok()?;
    Some(format!("{:.3}s", duration.as_secs_f64()))
}

/// As it may be typed: `namespace/name@version`.
pub(crate) fn template(of: Option<&TemplateRef>) -> String {
    let Some(TemplateRef { namespace, name, version }) = of else { return String::new() };
    format!("{namespace}/{name}@{version}")
}

/// Without what would move a terminal's cursor or change its colours.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\n' {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_lower_case_and_times_are_rfc_3339() {
        assert_eq!(task_state(TaskState::BlockedByFailures), "blocked_by_failures");
        assert_eq!(step_state(StepState::InProgress), "in_progress");
        let at = Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 };
        assert_eq!(time(Some(&at)).unwrap(), "2023-11-14T22:13:20.005Z");
        assert_eq!(time(Some(&Timestamp { seconds: i64::MAX, nanos: 0 })), None);
    }

    #[test]
    fn a_name_cannot_play_with_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mé\n"), "a\\u{1b}[31mé\n");
    }
}
