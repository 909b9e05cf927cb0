//! No more steps run at once, or begin in a time, than their limits say; and as many as they say do.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use tasker_client::{
    Client, NewTask, Operator,
    v1::{
        DlqReason, ListDlqEntriesRequest, PollStepsRequest, ResultVerdict, StepReason,
        StepReasonKind, TaskState, worker_service_client::WorkerServiceClient,
    },
};
use tasker_integration_tests::{
    Ledger, Mesh, Service, Session, Setup, success, until, worker, yielded,
};
use tasker_worker::{Registry, StepContext};
use tokio::sync::Semaphore;

const PATIENCE: Duration = Duration::from_secs(60);

in_both_shapes![
    set up by setup;
    as_many_steps_run_at_once_as_their_limit_says_and_no_more,
    each_value_of_a_key_has_a_limit_of_its_own,
    templates_of_a_namespace_share_a_limit_by_its_name,
    no_more_steps_begin_in_a_time_than_their_rate_says,
    a_limited_step_begins_by_rank_and_only_where_a_worker_has_room,
    steps_with_limits_among_others_are_judged_each_by_its_own,
    a_step_that_is_given_back_leaves_its_place_to_the_next_and_waits_for_one_again,
    a_step_that_yields_for_a_time_has_no_place_meanwhile,
    a_held_step_that_is_paused_leaves_its_place_to_the_next,
    a_limited_step_without_a_worker_waits_for_one_like_any_other,
];

/// What is not announced is not found in time.
fn setup() -> Setup {
    Mesh::setup().with("mesh.fallback_interval", "1h").with("finalizer.limits_interval", "100ms")
}

async fn submit(client: &Client, name: &str, context: serde_json::Value) -> String {
    let task = NewTask::of("limits", name).context(&context).unwrap();
    client.create_task(task).await.unwrap().task_id
}

async fn completes(client: &Client, task: &str) {
    let task = client.wait_for_task(task, PATIENCE).await.unwrap();
    assert_eq!(task.state(), TaskState::Complete);
}

/// Handlers that wait for a gate, and note how many are there at once, by the name in their context.
#[derive(Clone)]
struct Gate {
    open: Arc<Semaphore>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    now: BTreeMap<String, usize>,
    most: BTreeMap<String, usize>,
    /// The most of all.
    peak: usize,
    began: Vec<Instant>,
}

impl Gate {
    /// A gate that lets so many through.
    fn new(permits: usize) -> Self {
        Self { open: Arc::new(Semaphore::new(permits)), seen: Arc::default() }
    }

    fn handlers(&self) -> Registry {
        let gate = self.clone();
        let mut handlers = Registry::new();
        handlers.register_fn("gated", move |step: StepContext| {
            let gate = gate.clone();
            async move {
                let context: serde_json::Value = step.input()?;
                let who = context["who"].as_str().unwrap_or_default().to_owned();
                gate.seen(|seen| {
                    let now = seen.now.entry(who.clone()).or_default();
                    *now += 1;
                    let most = seen.most.entry(who.clone()).or_default();
                    *most = (*most).max(seen.now[&who]);
                    seen.peak = seen.peak.max(seen.now.values().sum());
                    seen.began.push(Instant::now());
                });
                gate.open.acquire().await.unwrap().forget();
                gate.seen(|seen| *seen.now.get_mut(&who).unwrap() -= 1);
                Ok(1)
            }
        });
        handlers
    }

    fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn until_there(&self, who: &str, steps: usize) {
        until("so many steps run at once", PATIENCE, async || {
            let now = self.seen(|seen| seen.now.get(who).copied().unwrap_or_default());
            (now == steps).then_some(())
        })
        .await;
    }
}

async fn as_many_steps_run_at_once_as_their_limit_says_and_no_more(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let yaml = "{namespace: limits, name: three, version: 1.0.0,
        limits: [{name: three_at_once, max_concurrent: 3}],
        steps: [{name: first, handler: {callable: gated}},
                {name: second, handler: {callable: gated}, dependencies: [first]}]}";
    client.register_template(yaml).await.unwrap();
    let gate = Gate::new(0);
    let worker = mesh.worker(&["limits"], &gate.handlers());
    let mut tasks = Vec::new();
    for _ in 0..10 {
        tasks.push(submit(&client, "three", json!({"who": "all"})).await);
    }
    gate.until_there("all", 3).await;
    until("the others are held", PATIENCE, async || {
        (ledger.number("SELECT count(*) FROM held_steps").await == 7).then_some(())
    })
    .await;
    assert_eq!(ledger.repairs().await, 0, "what is held is not lost");
    gate.open.add_permits(20);
    for task in &tasks {
        completes(&client, task).await;
    }
    assert_eq!(gate.seen(|seen| seen.most["all"]), 3);
    worker.stop().await;
    ledger.every_task_has_completed_once(10).await;
    ledger.nothing_is_left().await;
}

async fn each_value_of_a_key_has_a_limit_of_its_own(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: limits, name: keyed, version: 1.0.0, steps: [
        {name: only, handler: {callable: gated}, limits: [{name: each, key: /who, max_concurrent: 1}]}]}";
    client.register_template(yaml).await.unwrap();
    let gate = Gate::new(0);
    let worker = mesh.worker(&["limits"], &gate.handlers());
    let mut tasks = Vec::new();
    for _ in 0..5 {
        tasks.push(submit(&client, "keyed", json!({"who": "ann"})).await);
    }
    // Behind a backlog of another's.
    tasks.push(submit(&client, "keyed", json!({"who": "ben"})).await);
    gate.until_there("ann", 1).await;
    gate.until_there("ben", 1).await;
    gate.open.add_permits(6);
    for task in &tasks {
        completes(&client, task).await;
    }
    assert_eq!(gate.seen(|seen| (seen.most["ann"], seen.most["ben"])), (1, 1));
    worker.stop().await;
    mesh.ledger().await.nothing_is_left().await;
}

async fn templates_of_a_namespace_share_a_limit_by_its_name(mesh: &Mesh) {
    let client = mesh.client();
    for name in ["one", "other"] {
        let yaml = format!(
            "{{namespace: limits, name: {name}, version: 1.0.0, steps: [
                {{name: only, handler: {{callable: gated}}, limits: [{{name: shared, max_concurrent: 2}}]}}]}}"
        );
        client.register_template(yaml).await.unwrap();
    }
    let gate = Gate::new(0);
    let worker = mesh.worker(&["limits"], &gate.handlers());
    let mut tasks = Vec::new();
    for name in ["one", "other", "one", "other"] {
        tasks.push(submit(&client, name, json!({"who": "all"})).await);
    }
    gate.until_there("all", 2).await;
    gate.open.add_permits(4);
    for task in &tasks {
        completes(&client, task).await;
    }
    assert_eq!(gate.seen(|seen| seen.most["all"]), 2);
    worker.stop().await;
}

async fn no_more_steps_begin_in_a_time_than_their_rate_says(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: limits, name: rated, version: 1.0.0, steps: [
        {name: only, handler: {callable: gated},
         limits: [{name: four_a_second, rate: {count: 4, per_seconds: 1}}]}]}";
    client.register_template(yaml).await.unwrap();
    let gate = Gate::new(100);
    let mut tasks = Vec::new();
    for _ in 0..12 {
        tasks.push(submit(&client, "rated", json!({"who": "all"})).await);
    }
    let worker = mesh.worker(&["limits"], &gate.handlers());
    for task in &tasks {
        completes(&client, task).await;
    }
    worker.stop().await;
    // By the database's clock, which decides: when it reaches a worker is another matter.
    let too_many = "SELECT count(*) FROM limit_grants AS first WHERE 4 < (
        SELECT count(*) FROM limit_grants AS later
        WHERE later.granted_at BETWEEN first.granted_at AND first.granted_at + interval '1 second')";
    let ledger = mesh.ledger().await;
    assert_eq!(ledger.number("SELECT count(*) FROM limit_grants").await, 12);
    assert_eq!(ledger.number(too_many).await, 0);
    ledger.every_task_has_completed_once(12).await;
    ledger.nothing_is_left().await;
}

async fn a_limited_step_begins_by_rank_and_only_where_a_worker_has_room(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: limits, name: ranked, version: 1.0.0, steps: [
        {name: only, handler: {callable: any}, limits: [{name: five, max_concurrent: 5}]}]}";
    client.register_template(yaml).await.unwrap();
    let ledger = mesh.ledger().await;
    let create = async |priority| {
        let task = NewTask::of("limits", "ranked").priority(priority);
        client.create_task(task).await.unwrap().task_id
    };
    let (usual, urgent, least) = (create(0).await, create(9).await, create(-9).await);
    until("all are held", PATIENCE, async || {
        (ledger.number("SELECT count(*) FROM held_steps").await == 3).then_some(())
    })
    .await;
    let hello = Session::hello("one_at_a_time", "limits", &["any"], 1);
    let mut session = Session::open(mesh.channel().await, hello).await.unwrap();
    for expected in [urgent, usual, least] {
        let delivery = session.take().await;
        assert_eq!(delivery.task_id, expected);
        let verdict = session.report(success(&delivery.delivery_token, "1")).await;
        assert_eq!(verdict, ResultVerdict::Committed);
    }
    session.drain().await;
}

async fn steps_with_limits_among_others_are_judged_each_by_its_own(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: limits, name: mixed, version: 1.0.0, steps: [
        {name: free, handler: {callable: gated}},
        {name: both, handler: {callable: gated}, dependencies: [free], limits: [
            {name: wide, max_concurrent: 100}, {name: narrow, key: /who, max_concurrent: 1}]},
        {name: after, handler: {callable: gated}, dependencies: [both]}]}";
    client.register_template(yaml).await.unwrap();
    let gate = Gate::new(1_000);
    let worker = mesh.worker(&["limits"], &gate.handlers());
    let mut tasks = Vec::new();
    for nth in 0..40 {
        tasks.push(submit(&client, "mixed", json!({"who": format!("customer {}", nth % 4)})).await);
    }
    for task in &tasks {
        completes(&client, task).await;
    }
    worker.stop().await;
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(40).await;
    ledger.nothing_is_left().await;
}

/// A template whose only step runs once at a time, and two tasks of it: the older, the younger.
async fn two_for_one_place(client: &Client) -> (String, String) {
    let yaml = "{namespace: limits, name: single, version: 1.0.0, steps: [
        {name: only, handler: {callable: any}, limits: [{name: single, max_concurrent: 1}]}]}";
    client.register_template(yaml).await.unwrap();
    (submit(client, "single", json!({})).await, submit(client, "single", json!({})).await)
}

async fn one_at_a_time(mesh: &Mesh, worker: &str) -> Session {
    let hello = Session::hello(worker, "limits", &["any"], 1);
    Session::open(mesh.channel().await, hello).await.unwrap()
}

async fn a_step_that_is_given_back_leaves_its_place_to_the_next_and_waits_for_one_again(
    mesh: &Mesh,
) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let (older, younger) = two_for_one_place(&client).await;
    let mut session = one_at_a_time(mesh, "first").await;
    // With room for what must not begin.
    let mut second = one_at_a_time(mesh, "second").await;
    until_held(&ledger, 1).await;
    let ran = async |session: &mut Session, other: &mut Session, expected: &str| {
        tokio::select! {
            delivery = session.take() => { assert_eq!(delivery.task_id, expected); (true, delivery) }
            delivery = other.take() => { assert_eq!(delivery.task_id, expected); (false, delivery) }
        }
    };
    let (at_first, delivery) = ran(&mut session, &mut second, &older).await;
    let (holder, idle) =
        if at_first { (&mut session, &mut second) } else { (&mut second, &mut session) };
    let yielded = holder.report(yielded(&delivery.delivery_token, "1", Duration::ZERO)).await;
    assert_eq!(yielded, ResultVerdict::Committed);
    let (at_holder, delivery) = ran(holder, idle, &younger).await;
    let (holder, idle) = if at_holder { (holder, idle) } else { (idle, holder) };
    until_held(&ledger, 1).await;
    assert_eq!(ledger.number("SELECT count(*) FROM leases").await, 1, "there is one place");
    assert_eq!(ledger.repairs().await, 0, "what is held is not lost");

    // Released, as by a worker that ends: the same.
    holder.give_back(&delivery.delivery_token, "not now").await;
    let (at_holder, delivery) = ran(holder, idle, &older).await;
    assert!(delivery.checkpoint.is_some());
    let (holder, idle) = if at_holder { (holder, idle) } else { (idle, holder) };
    until_held(&ledger, 1).await;
    assert_eq!(ledger.number("SELECT count(*) FROM leases").await, 1, "there is one place");
    let verdict = holder.report(success(&delivery.delivery_token, "1")).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    let (at_holder, delivery) = ran(holder, idle, &younger).await;
    let (holder, _) = if at_holder { (holder, idle) } else { (idle, holder) };
    let verdict = holder.report(success(&delivery.delivery_token, "1")).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    completes(&client, &older).await;
    completes(&client, &younger).await;
    session.drain().await;
    second.drain().await;
    ledger.every_task_has_completed_once(2).await;
    ledger.nothing_is_left().await;
}

async fn a_step_that_yields_for_a_time_has_no_place_meanwhile(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let (older, younger) = two_for_one_place(&client).await;
    // With room for what must not begin.
    let hello = Session::hello("roomy", "limits", &["any"], 2);
    let mut session = Session::open(mesh.channel().await, hello).await.unwrap();
    let delivery = session.take().await;
    assert_eq!(delivery.task_id, older);
    let pause = Duration::from_secs(1);
    let verdict = session.report(yielded(&delivery.delivery_token, "1", pause)).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    let delivery = session.take().await;
    assert_eq!(delivery.task_id, younger);
    // Its time comes while the other has the place.
    until_held(&ledger, 1).await;
    let verdict = session.report(success(&delivery.delivery_token, "1")).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    let delivery = session.take().await;
    assert_eq!((delivery.task_id.as_str(), delivery.attempt), (older.as_str(), 1));
    let verdict = session.report(success(&delivery.delivery_token, "1")).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    completes(&client, &older).await;
    session.drain().await;
    ledger.every_task_has_completed_once(2).await;
    ledger.nothing_is_left().await;
}

async fn a_held_step_that_is_paused_leaves_its_place_to_the_next(mesh: &Mesh) {
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let (older, younger) = two_for_one_place(&client).await;
    until_held(&ledger, 2).await;
    client.pause_task(&older, &Operator::new("ada", "")).await.unwrap();
    let mut session = one_at_a_time(mesh, "only").await;
    let delivery = session.take().await;
    assert_eq!(delivery.task_id, younger);
    let verdict = session.report(success(&delivery.delivery_token, "1")).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    client.resume_task(&older, &Operator::new("ada", "")).await.unwrap();
    let delivery = session.take().await;
    assert_eq!(delivery.task_id, older);
    let verdict = session.report(success(&delivery.delivery_token, "1")).await;
    assert_eq!(verdict, ResultVerdict::Committed);
    completes(&client, &older).await;
    session.drain().await;
    ledger.every_task_has_completed_once(2).await;
    ledger.nothing_is_left().await;
}

async fn a_limited_step_without_a_worker_waits_for_one_like_any_other(mesh: &Mesh) {
    let client = mesh.client();
    let yaml = "{namespace: limits, name: alone, version: 1.0.0,
        lifecycle: {max_waiting_for_worker_seconds: 1, when_stale: dlq}, steps: [
        {name: only, handler: {callable: nobodys}, limits: [{name: single, max_concurrent: 1}]}]}";
    client.register_template(yaml).await.unwrap();
    let task = submit(&client, "alone", json!({})).await;
    let filter =
        ListDlqEntriesRequest { task_id: task.clone(), ..ListDlqEntriesRequest::default() };
    let entry = until("the task is among the dead letters", PATIENCE, async || {
        let entries = client.list_dlq_entries(filter.clone());
        entries.try_collect::<Vec<_>>().await.unwrap().pop()
    })
    .await;
    assert_eq!(entry.reason(), DlqReason::WorkerUnavailable);
    let explained = client.explain_step(&task, "only").await.unwrap();
    let kinds: Vec<_> = explained.reasons.iter().map(StepReason::kind).collect();
    assert_eq!(kinds, [StepReasonKind::Limit, StepReasonKind::NoWorker]);
    let mut handlers = Registry::new();
    handlers.register_fn("nobodys", |_| async { Ok(1) });
    let worker = mesh.worker(&["limits"], &handlers);
    completes(&client, &task).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_an_end_or_a_repair_by_hand_frees_is_used_at_once_wherever_it_was() {
    let mesh = setup().replicas(2).start().await;
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let (cancelled, resolved) = two_for_one_place(&client).await;
    let last = submit(&client, "single", json!({})).await;
    // Between its calls, no replica knows what a worker that polls has.
    let mut polling = WorkerServiceClient::new(mesh.channel().await);
    let poll = PollStepsRequest {
        worker_id: "polling".to_owned(),
        namespaces: vec!["limits".to_owned()],
        handlers: vec!["any".to_owned()],
        max_steps: 1,
        wait: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
        ..PollStepsRequest::default()
    };
    let mut held = async || {
        let polled = polling.poll_steps(poll.clone()).await.unwrap().into_inner();
        assert_eq!(polled.deliveries.len(), 1);
        polled.deliveries[0].task_id.clone()
    };
    assert_eq!(held().await, cancelled);
    until_held(&ledger, 2).await;
    let next = tokio::spawn({
        let (client, cancelled) = (client.clone(), cancelled.clone());
        async move { client.cancel_task(&cancelled, &Operator::new("ada", "")).await.unwrap() }
    });
    assert_eq!(held().await, resolved);
    next.await.unwrap();
    let mut session = one_at_a_time(&mesh, "waiting").await;
    client.resolve_step(&resolved, "only", &Operator::new("ada", "")).await.unwrap();
    let delivery = session.take().await;
    assert_eq!(delivery.task_id, last);
    session.report(success(&delivery.delivery_token, "1")).await;
    completes(&client, &last).await;
    session.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_over_all_replicas_and_is_used_up_by_all_of_them() {
    let mesh = Mesh::setup().replicas(2).with("mesh.fallback_interval", "1h").start().await;
    let client = mesh.client();
    let yaml = "{namespace: limits, name: replicas, version: 1.0.0, steps: [
        {name: only, handler: {callable: gated}, limits: [{name: two, max_concurrent: 2}]}]}";
    client.register_template(yaml).await.unwrap();
    let gate = Gate::new(0);
    let workers: Vec<_> = mesh
        .gateways()
        .iter()
        .map(|gateway| worker(gateway, &["limits"], &gate.handlers()))
        .collect();
    let mut tasks = Vec::new();
    for _ in 0..30 {
        tasks.push(submit(&client, "replicas", json!({"who": "all"})).await);
    }
    gate.until_there("all", 2).await;
    gate.open.add_permits(30);
    for task in &tasks {
        completes(&client, task).await;
    }
    assert_eq!(gate.seen(|seen| seen.most["all"]), 2);
    for worker in workers {
        worker.stop().await;
    }
    let ledger = mesh.ledger().await;
    ledger.every_task_has_completed_once(30).await;
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_replica_and_a_lost_worker_had_of_a_limit_is_free_again() {
    let mesh = Mesh::setup()
        .with("step_enqueuer.session_ttl", "1s")
        .with("mesh.fallback_interval", "1s")
        .start()
        .await;
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let yaml = "{namespace: limits, name: lost, version: 1.0.0, steps: [
        {name: only, handler: {callable: any}, retry: {backoff: none},
         limits: [{name: single, max_concurrent: 1}]}]}";
    client.register_template(yaml).await.unwrap();
    let hello = || Session::hello("one_at_a_time", "limits", &["any"], 1);
    let mut lost = Session::open(mesh.channel().await, hello()).await.unwrap();
    let tasks =
        [submit(&client, "lost", json!({})).await, submit(&client, "lost", json!({})).await];
    let taken = lost.take().await;
    until_held(&ledger, 1).await;
    drop(lost);
    mesh.kill(Service::StepEnqueuer, 0);
    mesh.restart(Service::StepEnqueuer, 0).await;
    let mut session = Session::open(mesh.channel().await, hello()).await.unwrap();
    let mut run = HashSet::new();
    for _ in 0..2 {
        let delivery = session.take().await;
        run.insert(delivery.task_id.clone());
        let verdict = session.report(success(&delivery.delivery_token, "1")).await;
        assert_eq!(verdict, ResultVerdict::Committed);
    }
    assert!(run.contains(&taken.task_id));
    for task in &tasks {
        completes(&client, task).await;
    }
    session.drain().await;
    ledger.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_every_kind_hold_over_all_replicas_together() {
    let mesh = Mesh::setup().replicas(2).with("mesh.fallback_interval", "1h").start().await;
    let client = mesh.client();
    let yaml = "{namespace: limits, name: every, version: 1.0.0,
        limits: [{name: whole, max_concurrent: 4}],
        steps: [{name: only, handler: {callable: gated}, limits: [
            {name: each, key: /who, max_concurrent: 1},
            {name: pace, rate: {count: 8, per_seconds: 1}}]}]}";
    client.register_template(yaml).await.unwrap();
    let gate = Gate::new(0);
    let workers: Vec<_> = mesh
        .gateways()
        .iter()
        .map(|gateway| worker(gateway, &["limits"], &gate.handlers()))
        .collect();
    let mut tasks = Vec::new();
    for nth in 0..24 {
        tasks.push(submit(&client, "every", json!({"who": format!("{}", nth % 6)})).await);
    }
    until("as many run as may", PATIENCE, async || {
        (gate.seen(|seen| seen.now.values().sum::<usize>()) == 4).then_some(())
    })
    .await;
    gate.open.add_permits(24);
    for task in &tasks {
        completes(&client, task).await;
    }
    assert_eq!(gate.seen(|seen| seen.peak), 4);
    assert!(gate.seen(|seen| seen.most.values().all(|most| *most == 1)));
    let ledger = mesh.ledger().await;
    let too_many = "SELECT count(*) FROM limit_grants AS first WHERE limit_name = 'pace' AND 8 < (
        SELECT count(*) FROM limit_grants AS later WHERE limit_name = 'pace'
          AND later.granted_at BETWEEN first.granted_at AND first.granted_at + interval '1 second')";
    assert_eq!(ledger.number(too_many).await, 0);
    for worker in workers {
        worker.stop().await;
    }
    ledger.every_task_has_completed_once(24).await;
    ledger.nothing_is_left().await;
}

/// Tasks whose steps wait for other values of a limit: as many as one look takes in.
const VALUES: usize = 1_000;

/// Submits a task for each of so many values, all of which are held.
async fn hold_values(client: &Client, ledger: &Ledger, name: &str) {
    futures::stream::iter(0..VALUES)
        .for_each_concurrent(50, async |nth| {
            submit(client, name, json!({"who": format!("v{nth:04}")})).await;
        })
        .await;
    until("all values are held", PATIENCE, async || {
        (ledger.number("SELECT count(*) FROM held_steps").await == 1_000).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_are_used_up_keep_none_behind_them_from_beginning() {
    let mesh = Mesh::setup().start_in_one_process().await;
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let yaml = "{namespace: limits, name: paced, version: 1.0.0, steps: [
        {name: only, handler: {callable: any},
         limits: [{name: each, key: /who, rate: {count: 1, per_seconds: 3600}}]}]}";
    client.register_template(yaml).await.unwrap();
    let used_up = "INSERT INTO limit_grants (namespace, limit_name, limit_value, task_id, ordinal,
            attempt, granted_at, counts_until)
        SELECT 'limits', 'each', 'v' || lpad(nth::text, 4, '0'), gen_random_uuid(), 0, 1, now(),
            now() + interval '1 hour'
        FROM generate_series(0, 999) AS nth";
    ledger.change(used_up).await;
    hold_values(&client, &ledger, "paced").await;
    let last = submit(&client, "paced", json!({"who": "z"})).await;
    let mut session = one_at_a_time(&mesh, "any").await;
    assert_eq!(session.take().await.task_id, last);
    // Nor when something else ends.
    let next = submit(&client, "paced", json!({"who": "zz"})).await;
    let mut other = one_at_a_time(&mesh, "any").await;
    assert_eq!(other.take().await.task_id, next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_whose_handler_has_no_worker_keep_no_other_handler_waiting() {
    let mesh = Mesh::setup().start_in_one_process().await;
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    for (name, handler) in [("nobodys", "none"), ("served", "any")] {
        let yaml = format!(
            "{{namespace: limits, name: {name}, version: 1.0.0, steps: [
                {{name: only, handler: {{callable: {handler}}},
                 limits: [{{name: each, key: /who, max_concurrent: 1}}]}}]}}"
        );
        client.register_template(&yaml).await.unwrap();
    }
    hold_values(&client, &ledger, "nobodys").await;
    let served = submit(&client, "served", json!({"who": "z"})).await;
    let mut session = one_at_a_time(&mesh, "any").await;
    assert_eq!(session.take().await.task_id, served);
}

/// Waits until step-enqueuer has forgotten what no limit counts any more.
async fn until_purged(ledger: &Ledger) {
    let nobodys = "INSERT INTO limit_grants (namespace, limit_name, limit_value, task_id, ordinal,
            attempt, granted_at, counts_until)
        SELECT 'limits', 'nobodys', '', gen_random_uuid(), 0, 1, now(), now() + interval '1 second'";
    ledger.change(nobodys).await;
    until("what nothing counts is forgotten", PATIENCE, async || {
        let left = "SELECT count(*) FROM limit_grants WHERE limit_name = 'nobodys'";
        (ledger.number(left).await == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_counts_in_its_own_time_what_templates_with_other_numbers_have_begun() {
    // So what nothing counts is looked for every 4 s.
    let mesh = Mesh::setup().with("step_enqueuer.session_ttl", "1s").start().await;
    let (client, ledger) = (mesh.client(), mesh.ledger().await);
    let numbers = [
        ("without_rate", "max_concurrent: 100"),
        ("short", "rate: {count: 100, per_seconds: 1}"),
        ("long", "rate: {count: 2, per_seconds: 12}"),
    ];
    for (name, numbers) in numbers {
        let yaml = format!(
            "{{namespace: limits, name: {name}, version: 1.0.0, steps: [
                {{name: only, handler: {{callable: gated}}, limits: [{{name: shared, {numbers}}}]}}]}}"
        );
        client.register_template(&yaml).await.unwrap();
    }
    let gate = Gate::new(100);
    let worker = mesh.worker(&["limits"], &gate.handlers());
    for name in ["without_rate", "short"] {
        completes(&client, &submit(&client, name, json!({"who": "all"})).await).await;
    }
    until_purged(&ledger).await;
    let shared = "SELECT count(*) FROM limit_grants WHERE limit_name = 'shared'";
    assert_eq!(ledger.number(shared).await, 2, "the long rate still counts them");
    let held = submit(&client, "long", json!({"who": "all"})).await;
    // To its own number, which does not count what the long one holds.
    completes(&client, &submit(&client, "short", json!({"who": "all"})).await).await;
    completes(&client, &held).await;
    worker.stop().await;
    let too_soon = "WITH begun AS (SELECT * FROM limit_grants JOIN task_search USING (task_id))
        SELECT count(*) FROM begun AS long WHERE name = 'long' AND 2 <= (
            SELECT count(*) FROM begun AS other WHERE other.task_id <> long.task_id
              AND other.granted_at BETWEEN long.granted_at - interval '12 seconds' AND long.granted_at)";
    assert_eq!(ledger.number(too_soon).await, 0);
}

async fn until_held(ledger: &Ledger, steps: i64) {
    until("the steps are held", PATIENCE, async || {
        (ledger.number("SELECT count(*) FROM held_steps").await == steps).then_some(())
    })
    .await;
}
