//! `task history`: what has happened, a row for each move.

use tasker_client::{
    Client,
    v1::{Transition, transition::Moved},
};

use crate::{listed, names, view};

pub(super) async fn run(client: &Client, id: &str, step: &str, json: bool) -> anyhow::Result<()> {
    let transitions = client.list_transitions(id, step);
    listed::show(json, transitions, HEADER, row, view::Past::from).await
}

const HEADER: [&str; 8] = ["TIME", "WHAT", "FROM", "TO", "AFTER", "EVENTS", "BY", "REASON"];

fn row(transition: &Transition) -> [String; 8] {
    let (what, from, to) = match &transition.moved {
        Some(Moved::Task(moved)) => {
            ("task".to_owned(), names::task_state(moved.from()), names::task_state(moved.to()))
        }
        Some(Moved::Step(moved)) => (
            format!("step {} ({})", moved.step_name, moved.attempt),
            names::step_state(moved.from()),
            names::step_state(moved.to()),
        ),
        Some(Moved::Paused(_)) => ("paused".to_owned(), String::new(), String::new()),
        Some(Moved::Resumed(_)) => ("resumed".to_owned(), String::new(), String::new()),
        // Of a newer mesh.
        None => ("something".to_owned(), String::new(), String::new()),
    };
    [
        names::time(transition.time.as_ref()).unwrap_or_default(),
        what,
        from,
        to,
        names::duration(transition.duration.as_ref()).unwrap_or_default(),
        transition.events.join(", "),
        transition.actor.clone(),
        transition.reason.clone(),
    ]
}
