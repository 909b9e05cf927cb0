//! Urgent steps go first, whatever waits before them; and no other waits for ever.

use std::time::Duration;

use tasker_client::{Client, NewTask, v1::ResultVerdict};
use tasker_integration_tests::{Mesh, Session, success, until};

const PATIENCE: Duration = Duration::from_secs(30);
const YAML: &str = "{namespace: ageing, name: one_step, version: 1.0.0, steps: [
    {name: only, handler: {callable: any}}]}";
/// More than one look takes in.
const BACKLOG: usize = 150;

async fn submit(client: &Client, priority: i32) -> String {
    let task = NewTask::of("ageing", "one_step").priority(priority);
    client.create_task(task).await.unwrap().task_id
}

async fn session(mesh: &Mesh) -> Session {
    let hello = Session::hello("one_at_a_time", "ageing", &["any"], 1);
    Session::open(mesh.channel().await, hello).await.unwrap()
}

async fn until_waiting(mesh: &Mesh, steps: usize) {
    let ledger = mesh.ledger().await;
    let count = "SELECT count(*) FROM pgmq.q_worker_ageing_queue";
    until("the steps wait", PATIENCE, async || {
        (usize::try_from(ledger.number(count).await) == Ok(steps)).then_some(())
    })
    .await;
}

in_both_shapes![an_urgent_step_does_not_wait_behind_a_backlog_longer_than_one_look];

async fn an_urgent_step_does_not_wait_behind_a_backlog_longer_than_one_look(mesh: &Mesh) {
    let client = mesh.client();
    client.register_template(YAML).await.unwrap();
    for _ in 0..BACKLOG {
        submit(&client, -1).await;
    }
    let urgent = submit(&client, 7).await;
    let usual = submit(&client, 0).await;
    for _ in 0..BACKLOG {
        submit(&client, -1).await;
    }
    until_waiting(mesh, 2 * BACKLOG + 2).await;
    let mut session = session(mesh).await;
    for expected in [urgent, usual] {
        let delivery = session.take().await;
        assert_eq!(delivery.task_id, expected);
        session.report(success(&delivery.delivery_token, "1")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_the_least_priority_is_served_under_a_lasting_stream_of_urgent_ones() {
    let mesh = Mesh::setup().with("step_enqueuer.ageing", "10ms").start().await;
    assert!(served_within(&mesh, 2_000).await, "the least has starved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_ageing_urgent_steps_go_first_as_long_as_there_are_any() {
    let mesh = Mesh::setup().with("step_enqueuer.ageing", "0s").start().await;
    assert!(!served_within(&mesh, 100).await, "the least went before urgent ones");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_the_least_priority_is_served_under_an_urgent_chain_of_another_handler() {
    let mesh = Mesh::setup().with("step_enqueuer.ageing", "10ms").start().await;
    let client = mesh.client();
    let steps: Vec<String> = (0..2_000)
        .map(|nth| {
            let parent = if nth == 0 { String::new() } else { format!("s{}", nth - 1) };
            format!("{{name: s{nth}, handler: {{callable: chained}}, dependencies: [{parent}]}}")
        })
        .collect();
    let chain = format!(
        "{{namespace: ageing, name: chain, version: 1.0.0, steps: [{}]}}",
        steps.join(", ")
    );
    client.register_template(&chain).await.unwrap();
    client.register_template(YAML).await.unwrap();
    let hello = Session::hello("both", "ageing", &["any", "chained"], 1);
    let mut session = Session::open(mesh.channel().await, hello).await.unwrap();
    client.create_task(NewTask::of("ageing", "chain").priority(100)).await.unwrap();
    let mut running = session.take().await;
    let least = submit(&client, -100).await;
    until_waiting(&mesh, 1).await;
    let mut turns = 0;
    while running.task_id != least {
        turns += 1;
        assert!(turns < 2_000, "the least has starved");
        session.report(success(&running.delivery_token, "1")).await;
        running = session.take().await;
    }
    // Not before it had aged.
    assert!(turns > 1, "the least went before an urgent one");
}

/// Whether a step of the least priority gets its turn while urgent ones always wait beside it: among so
/// many turns.
async fn served_within(mesh: &Mesh, turns: usize) -> bool {
    let client = mesh.client();
    client.register_template(YAML).await.unwrap();
    let mut session = session(mesh).await;
    submit(&client, 100).await;
    let mut running = session.take().await;
    let least = submit(&client, -100).await;
    submit(&client, 100).await;
    submit(&client, 100).await;
    until_waiting(mesh, 3).await;
    for _ in 0..turns {
        let verdict = session.report(success(&running.delivery_token, "1")).await;
        assert_eq!(verdict, ResultVerdict::Committed);
        running = session.take().await;
        if running.task_id == least {
            return true;
        }
        submit(&client, 100).await;
        // It waits, too: the stream does not dry up before the next turn.
        until_waiting(mesh, 3).await;
    }
    false
}
