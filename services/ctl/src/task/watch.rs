//! `task watch`: what happens, a line for each event, as it happens.

use std::pin::pin;

use futures::TryStreamExt as _;
use tasker_client::{
    Client,
    v1::{WatchTaskResponse, watch_task_response::Transition},
};

use crate::{names, print, view};

pub(super) async fn run(client: &Client, id: &str, cursor: &str, json: bool) -> anyhow::Result<()> {
    let mut events = pin!(client.watch_task_from(id, cursor));
    while let Some(event) = events.try_next().await? {
        if json { print::json(&view::Event::from(event))? } else { print::line(&line(&event))? }
    }
    Ok(())
}

/// For example `… step square_1      in_progress   Start  attempt 1  by step-enqueuer@…`.
fn line(event: &WatchTaskResponse) -> String {
    let time = names::time(event.time.as_ref()).unwrap_or_default();
    let (what, state, name, more) = match &event.transition {
        Some(Transition::Task(task)) => {
            let reason = (!task.reason.is_empty()).then(|| format!("  {}", task.reason));
            let state = names::task_state(task.state());
            ("task".to_owned(), state, task.event.as_str(), reason.unwrap_or_default())
        }
        Some(Transition::Step(step)) => {
            let attempt = (step.attempt > 0).then(|| format!("  attempt {}", step.attempt));
            let reason = (!step.reason.is_empty()).then(|| format!("  {}", step.reason));
            let more = attempt.into_iter().chain(reason).collect();
            (
                format!("step {}", step.step_name),
                names::step_state(step.state()),
                step.event.as_str(),
                more,
            )
        }
        Some(Transition::Paused(paused)) => stopped_or_gone_on("paused", &paused.reason),
        Some(Transition::Resumed(resumed)) => stopped_or_gone_on("resumed", &resumed.reason),
        // Of a newer mesh.
        None => ("something".to_owned(), String::new(), event.actor.as_str(), String::new()),
    };
    names::printable(&format!(
        "{time:<27}  {what:<24}  {state:<31}  {name}{more}  by {}",
        event.actor
    ))
}

/// Its state stays as it is.
fn stopped_or_gone_on<'a>(what: &'a str, reason: &str) -> (String, String, &'a str, String) {
    let reason = if reason.is_empty() { String::new() } else { format!("  {reason}") };
    ("task".to_owned(), String::new(), what, reason)
}

#[cfg(test)]
mod tests {
    use tasker_client::v1::{StepState, StepTransition, TaskPaused};

    use super::*;

    #[test]
    fn a_line_says_what_moved_where_and_who_moved_it() {
        let step = StepTransition {
            step_name: "take_payment".to_owned(),
            state: StepState::Error.into(),
            event: "Fail".to_owned(),
            attempt: 2,
            reason: "card_declined".to_owned(),
        };
        let event = WatchTaskResponse {
            actor: "result-processor@host".to_owned(),
            transition: Some(Transition::Step(step)),
            ..WatchTaskResponse::default()
        };
        let words: Vec<String> = line(&event).split_whitespace().map(str::to_owned).collect();
        let said = words.join(" ");
        assert_eq!(
            said,
            "step take_payment error Fail attempt 2 card_declined by result-processor@host"
        );
    }

    #[test]
    fn a_line_says_who_paused_the_task_and_why() {
        let paused = TaskPaused { reason: "wrong amount".to_owned() };
        let event = WatchTaskResponse {
            actor: "operator:alice".to_owned(),
            transition: Some(Transition::Paused(paused)),
            ..WatchTaskResponse::default()
        };
        assert!(
            line(&event).ends_with("paused  wrong amount  by operator:alice"),
            "{}",
            line(&event)
        );
    }
}
