//! Tasks: as they stand, as they are born, as they are repaired.

use serde::Serialize;
use tasker_client::v1;

use super::shared::{Payload, TemplateRef, Trace};
use super::step::Step;
use crate::names;

/// See `CreateTaskResponse`.
#[derive(Serialize)]
pub(crate) struct Created {
    task_id: String,
    template: Option<TemplateRef>,
}

impl From<v1::CreateTaskResponse> for Created {
    fn from(created: v1::CreateTaskResponse) -> Self {
        Self { task_id: created.task_id, template: created.template.map(Into::into) }
    }
}

/// See `Task`.
#[derive(Serialize)]
pub(crate) struct Task {
    task_id: String,
    template: Option<TemplateRef>,
    state: String,
    paused: bool,
    purged: bool,
    create_time: Option<String>,
    end_time: Option<String>,
    context: Option<Payload>,
    idempotency_key: String,
    correlation_id: String,
    requested_by: String,
    reason: String,
    priority: i32,
    steps: StepCounts,
    trace: Option<Trace>,
    rerun_of: String,
    reruns: Vec<String>,
    /// Where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    step_list: Option<Vec<Step>>,
}

impl Task {
    pub(crate) fn with_steps(self, steps: Option<Vec<v1::Step>>) -> Self {
        Self { step_list: steps.map(|steps| steps.into_iter().map(Step::from).collect()), ..self }
    }
}

impl From<v1::Task> for Task {
    fn from(task: v1::Task) -> Self {
        Self {
            state: names::task_state(task.state()),
            paused: task.paused,
            purged: task.purged,
            task_id: task.task_id,
            template: task.template.map(Into::into),
            create_time: names::time(task.create_time.as_ref()),
            end_time: names::time(task.end_time.as_ref()),
            context: task.context.map(Payload),
            idempotency_key: task.idempotency_key,
            correlation_id: task.correlation_id,
            requested_by: task.requested_by,
            reason: task.reason,
            priority: task.priority,
            steps: task.steps.unwrap_or_default().into(),
            trace: task.trace.map(Into::into),
            rerun_of: task.rerun_of,
            reruns: task.reruns,
            step_list: None,
        }
    }
}

#[derive(Serialize)]
struct StepCounts {
    total: i32,
    ready: i32,
    in_flight: i32,
    waiting_for_retry: i32,
    failed: i32,
    satisfied: i32,
}

impl From<v1::StepCounts> for StepCounts {
    fn from(counts: v1::StepCounts) -> Self {
        let v1::StepCounts { total, ready, in_flight, waiting_for_retry, failed, satisfied } =
            counts;
        Self { total, ready, in_flight, waiting_for_retry, failed, satisfied }
    }
}

/// See `RepairTaskResponse`.
#[derive(Serialize)]
pub(crate) struct Repaired {
    task: Option<Task>,
    step_names: Vec<String>,
}

impl From<v1::RepairTaskResponse> for Repaired {
    fn from(repaired: v1::RepairTaskResponse) -> Self {
        Self { task: repaired.task.map(Into::into), step_names: repaired.step_names }
    }
}

/// See `RepairedTask`.
#[derive(Serialize)]
pub(crate) struct RepairedTask {
    task_id: String,
    step_names: Vec<String>,
    skipped: String,
}

impl From<v1::RepairedTask> for RepairedTask {
    fn from(repaired: v1::RepairedTask) -> Self {
        let v1::RepairedTask { task_id, step_names, skipped } = repaired;
        Self { task_id, step_names, skipped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_shown_as_the_contract_names_it_and_to_the_last_digit() {
        let task = v1::Task {
            task_id: "01890000-0000-7000-8000-000000000000".to_owned(),
            state: v1::TaskState::StepsInProcess.into(),
            context: Some(v1::Payload {
                content_type: "application/json".to_owned(),
                data: r#"{"n": 12345678901234567890123}"#.into(),
                ..v1::Payload::default()
            }),
            ..v1::Task::default()
        };
        let json = serde_json::to_string(&Task::from(task)).unwrap();
        assert!(json.contains(r#""state":"steps_in_process""#), "{json}");
        assert!(json.contains(r#""data":{"n": 12345678901234567890123}"#), "{json}");
        assert!(!json.contains("step_list"), "{json}");
    }
}
