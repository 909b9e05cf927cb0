//! `event`: domain events, as steps publish them.

use std::{pin::pin, process::ExitCode};

use clap::Subcommand;
use futures::TryStreamExt as _;
use tasker_client::{
    Client,
    v1::{DomainEvent, domain_event::Outcome, subscribe_events_response::Message},
};

use crate::{names, payload, print, view};

/// What may be asked of events.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show fast events from now on, a line each, until interrupted.
    Watch {
        /// As in orders.paid; * stands for one part, ** at the end for all that follow. Default: all.
        #[arg(default_value = "", hide_default_value = true)]
        pattern: String,
        /// Only of this namespace.
        #[arg(long, default_value = "", hide_default_value = true)]
        namespace: String,
    },
}

pub(crate) async fn run(command: Command, client: &Client, json: bool) -> anyhow::Result<ExitCode> {
    let Command::Watch { pattern, namespace } = command;
    let mut told = pin!(client.subscribe_events(&namespace, &pattern).await?);
    while let Some(said) = told.try_next().await? {
        match said.message {
            Some(Message::Event(event)) if json => print::json(&view::DomainEvent::from(event))?,
            Some(Message::Event(event)) => print::line(&line(&event))?,
            Some(Message::Missed(missed)) => eprintln!("{}", missed_line(missed.count)),
            // Of a newer mesh.
            None => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// For example `…  orders.paid  arithmetic/linear@1.0.0  pay of 0189…  {"sum": 1}`.
fn line(event: &DomainEvent) -> String {
    let what = match &event.outcome {
        Some(Outcome::Success(result)) => payload::text(result),
        Some(Outcome::Failure(error)) => format!("failed: {}: {}", error.r#type, error.message),
        Some(Outcome::ResolvedManually(_)) => "resolved manually".to_owned(),
        None => String::new(),
    };
    names::printable(&format!(
        "{time:<27}  {name:<24}  {template}  {step} of {task}  {what}",
        time = names::time(event.time.as_ref()).unwrap_or_default(),
        name = event.name,
        template = names::template(event.template.as_ref()),
        step = event.step_name,
        task = event.task_id,
    ))
    .replace('\n', " ")
}

fn missed_line(count: i64) -> String {
    match count {
        0 => "some events may have been missed".to_owned(),
        count => format!("{count} events were missed"),
    }
}

#[cfg(test)]
mod tests {
    use tasker_client::v1::{Payload, ResolvedManually, StepError};

    use super::*;

    #[test]
    fn a_line_says_what_was_published_by_which_step() {
        let result = Payload { data: "[1]".into(), ..Payload::default() };
        let event = DomainEvent {
            name: "orders.paid".to_owned(),
            step_name: "pay".to_owned(),
            task_id: "0189".to_owned(),
            outcome: Some(Outcome::Success(result)),
            ..DomainEvent::default()
        };
        assert!(line(&event).ends_with("pay of 0189  [1]"), "{}", line(&event));
        let error = StepError { r#type: "no_stock".to_owned(), ..StepError::default() };
        let event = DomainEvent { outcome: Some(Outcome::Failure(error)), ..event };
        assert!(line(&event).contains("failed: no_stock"), "{}", line(&event));
        let by_hand = Some(Outcome::ResolvedManually(ResolvedManually {}));
        let event = DomainEvent { outcome: by_hand, ..event };
        assert!(line(&event).ends_with("resolved manually"), "{}", line(&event));
    }
}
