//! What limits hold is found however many values it is of.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

use std::{collections::BTreeSet, time::Duration};

use tasker_domain::{TaskId, Template, usage::Limited};
use tasker_store::{NewTask, Options, Payload, Registered, Store, ToEnqueue};
use tasker_testing::TestDatabase;
use uuid::Uuid;

const NAMESPACE: &str = "limits";
const YAML: &str = "{namespace: limits, name: one_step, version: 1.0.0,
    steps: [{name: only, handler: {callable: any}}]}";

/// Has a step held for each of some values of a limit, by a handler.
async fn hold(store: &Store, template: Uuid, callable: &str, values: &[&str]) {
    for value in values {
        let context = Payload {
            content_type: "application/json".to_owned(),
            data: "{}".into(),
            ..Payload::default()
        };
        let task = NewTask {
            message_id: None,
            task_id: TaskId::new(),
            template_id: template,
            newest: false,
            steps: 1,
            look_after: None,
            repetition: None,
            identity: None,
            priority: 0,
            context,
            idempotency_key: String::new(),
            correlation_id: String::new(),
            requested_by: String::new(),
            reason: String::new(),
            traceparent: String::new(),
            tracestate: String::new(),
        };
        let born = store.create_tasks([&task], "test").await.unwrap();
        let limited = Limited { name: "each".to_owned(), value: (*value).to_owned() };
        let item = ToEnqueue {
            ready: born.ready.into_iter().next().unwrap(),
            to: None,
            traceparent: String::new(),
            queue: NAMESPACE.to_owned(),
            callable: callable.to_owned(),
            held_to: Some((limited, vec![(*value).to_owned()])),
        };
        store.enqueue_steps(&[item], "test").await.unwrap();
    }
}

#[tokio::test]
async fn looks_go_from_value_to_value_and_see_those_of_their_handlers_alone() {
    const LOOK: usize = 2;
    let database = TestDatabase::fresh().await;
    let options = Options {
        url: database.url().to_owned(),
        max_connections: 2,
        acquire_timeout: Duration::from_secs(10),
        application_name: "test".to_owned(),
    };
    let store = Store::connect(&options).await.unwrap();
    let template = Template::parse(YAML).unwrap();
    let registered = store.register_template(&template, YAML, "").await.unwrap();
    let Registered::As(row) = registered else { panic!("{registered:?}") };
    let template = row.template_id.0;
    // In the order of their bytes, whatever the order of the database's language.
    let values = ["", "B", "a", "b", "z", "ä", "日"];
    hold(&store, template, "other", &["A", "Z", "y"]).await;
    hold(&store, template, "any", &values).await;
    hold(&store, template, "any", &values[2..4]).await;

    let mut seen = Vec::new();
    let mut after: Option<Limited> = None;
    loop {
        let asked = [("any".to_owned(), after.clone())];
        let found = store.held_by_limits(NAMESPACE, &asked, 10, 2).await.unwrap();
        assert!(found.iter().all(|step| step.callable == "any"));
        let looked: BTreeSet<Limited> = found.into_iter().map(|step| step.by).collect();
        assert!(looked.len() <= LOOK);
        let Some(last) = looked.last().cloned() else { break };
        seen.extend(looked.into_iter().map(|limited| limited.value));
        after = Some(last);
    }
    assert_eq!(seen, values);
    let both = [("any".to_owned(), None), ("other".to_owned(), None)];
    let found = store.held_by_limits(NAMESPACE, &both, 10, 3).await.unwrap();
    let mut found: Vec<_> =
        found.iter().map(|step| (step.callable.as_str(), step.by.value.as_str())).collect();
    found.sort_unstable();
    let expected = [
        ("any", ""),
        ("any", "B"),
        ("any", "a"),
        ("any", "a"),
        ("other", "A"),
        ("other", "Z"),
        ("other", "y"),
    ];
    assert_eq!(found, expected);
}
