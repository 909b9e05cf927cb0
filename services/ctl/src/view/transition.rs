//! What happened to a task: as it happens, and afterwards.

use serde::Serialize;
use tasker_client::v1;

use crate::names;

/// See `WatchTaskResponse`.
#[derive(Serialize)]
pub(crate) struct Event {
    cursor: String,
    time: Option<String>,
    actor: String,
    #[serde(flatten)]
    transition: Option<Transition>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Transition {
    Task { state: String, event: String, reason: String },
    Step { step_name: String, state: String, event: String, attempt: i32, reason: String },
    Paused { reason: String },
    Resumed { reason: String },
}

impl From<v1::WatchTaskResponse> for Event {
    fn from(event: v1::WatchTaskResponse) -> Self {
        let time = names::time(event.time.as_ref());
        let transition = event.transition.map(Into::into);
        Self { cursor: event.cursor, time, actor: event.actor, transition }
    }
}

impl From<v1::watch_task_response::Transition> for Transition {
    fn from(transition: v1::watch_task_response::Transition) -> Self {
        match transition {
            v1::watch_task_response::Transition::Task(task) => {
                let state = names::task_state(task.state());
                Self::Task { state, event: task.event, reason: task.reason }
            }
            v1::watch_task_response::Transition::Step(step) => Self::Step {
                state: names::step_state(step.state()),
                step_name: step.step_name,
                event: step.event,
                attempt: step.attempt,
                reason: step.reason,
            },
            v1::watch_task_response::Transition::Paused(paused) => {
                Self::Paused { reason: paused.reason }
            }
            v1::watch_task_response::Transition::Resumed(resumed) => {
                Self::Resumed { reason: resumed.reason }
            }
        }
    }
}

/// See `Transition`.
#[derive(Serialize)]
pub(crate) struct Past {
    time: Option<String>,
    actor: String,
    reason: String,
    events: Vec<String>,
    duration: Option<String>,
    #[serde(flatten)]
    moved: Option<Moved>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Moved {
    Task { from: String, to: String },
    Step { step_name: String, from: String, to: String, attempt: i32 },
    Paused { reason: String },
    Resumed { reason: String },
}

impl From<v1::Transition> for Past {
    fn from(transition: v1::Transition) -> Self {
        Self {
            time: names::time(transition.time.as_ref()),
            actor: transition.actor,
            reason: transition.reason,
            events: transition.events,
            duration: names::duration(transition.duration.as_ref()),
            moved: transition.moved.map(Into::into),
        }
    }
}

impl From<v1::transition::Moved> for Moved {
    fn from(moved: v1::transition::Moved) -> Self {
        match moved {
            v1::transition::Moved::Task(task) => Self::Task {
                from: names::task_state(task.from()),
                to: names::task_state(task.to()),
            },
            v1::transition::Moved::Step(step) => Self::Step {
                from: names::step_state(step.from()),
                to: names::step_state(step.to()),
                step_name: step.step_name,
                attempt: step.attempt,
            },
            v1::transition::Moved::Paused(paused) => Self::Paused { reason: paused.reason },
            v1::transition::Moved::Resumed(resumed) => Self::Resumed { reason: resumed.reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_whether_it_is_of_the_task_or_of_a_step() {
        let moved = v1::TaskTransition {
            state: v1::TaskState::Complete.into(),
            event: "AllStepsSuccessful".to_owned(),
            reason: String::new(),
        };
        let event = v1::WatchTaskResponse {
            cursor: "c".to_owned(),
            transition: Some(v1::watch_task_response::Transition::Task(moved)),
            ..v1::WatchTaskResponse::default()
        };
        assert_eq!(
            serde_json::to_string(&Event::from(event)).unwrap(),
            r#"{"cursor":"c","time":null,"actor":"","task":{"state":"complete","event":"AllStepsSuccessful","reason":""}}"#
        );
    }
}
