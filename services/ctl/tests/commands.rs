//! The program as people and scripts run it, against the whole mesh.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tasker_runtime::config::Source;
use tasker_standalone::{Running, Standalone};
use tasker_testing::TestDatabase;
use tasker_worker::{HandlerError, Registry, StepContext, Worker};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

const GREETING: &str = "
namespace: greetings
name: greet
version: 1.0.0
description: Greets.
steps:
  - name: greet
    handler: {callable: greet}
    retry: {retryable: false}
";

/// More digits than any number of the machine has.
const LONG: &str = "63340286662973277706162286946811886609896461828096";

struct Mesh {
    running: Running,
    database: TestDatabase,
    files: TempDir,
    worker: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Mesh {
    /// Migrated by `tasker-ctl`, with the template of this file registered by it.
    async fn start() -> Self {
        let database = TestDatabase::empty().await;
        let migrated = Command::new(env!("CARGO_BIN_EXE_tasker-ctl"))
            .arg("migrate")
            .env("TASKER_DATABASE__URL", database.url())
            .output()
            .unwrap();
        assert!(text(&migrated.stdout).starts_with("The database has schema version"));

        let flags = [
            "--gateway.listen=127.0.0.1:0".to_owned(),
            format!("--database.url={}", database.url()),
        ];
        let source = Source::from_parts(flags, []).unwrap();
        let running = Standalone::start(source).await.unwrap();
        let files = tempfile::tempdir().unwrap();
        let mesh = Self { running, database, files, worker: None };
        let file = mesh.file("greet.yaml", GREETING);
        assert_eq!(mesh.says(&["template", "register", &file]), "greetings/greet@1.0.0\n");
        mesh
    }

    /// A worker that returns what it is given, and cannot greet a nobody.
    fn with_a_worker(mut self) -> Self {
        let mut registry = Registry::new();
        registry.register_fn("greet", |step: StepContext| async move {
            let input: Value = step.input()?;
            if input["name"] == "nobody" {
                return Err(HandlerError::permanent("NOBODY", "there is nobody"));
            }
            Ok(input)
        });
        let worker = Worker::builder(self.running.gateway_url())
            .namespaces(["greetings"])
            .registry(registry)
            .build()
            .unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let working = tokio::spawn(async move {
            worker.run(async move { drop(stopped.await) }).await.unwrap();
        });
        self.worker = Some((stop, working));
        self
    }

    fn file(&self, name: &str, content: &str) -> String {
        let file = self.files.path().join(name);
        fs::write(&file, content).unwrap();
        file.to_str().unwrap().to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-ctl"));
        command.args(arguments).env("TASKER_GATEWAY", self.running.gateway_url());
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command that succeeds prints.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.says(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// Exit code and complaint of a command that does not succeed.
    fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        (output.status.code().unwrap(), text(&output.stderr))
    }

    fn create(&self, context: &str) -> String {
        let made = self.says(&["task", "create", "greetings/greet", "--context", context]);
        made.trim().to_owned()
    }

    async fn stop(self) {
        if let Some((stop, working)) = self.worker {
            stop.send(()).ok();
            working.await.unwrap();
        }
        self.running.stop().await.unwrap();
        drop(self.database);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_submitted_followed_and_read_to_the_last_digit() {
    let mesh = Mesh::start().await.with_a_worker();
    let context = format!(r#"{{"name": "you", "n": {LONG}}}"#);
    let id = mesh.create(&format!("@{}", mesh.file("context.json", &context)));

    assert!(mesh.says(&["task", "wait", &id]).contains("complete"));
    let watched = mesh.says(&["task", "watch", &id]);
    assert!(watched.contains("step greet"), "{watched}");
    let events = mesh.says(&["task", "watch", &id, "--json"]);
    let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!(last["task"]["state"], "complete");
    let cursor = last["cursor"].as_str().unwrap();
    assert_eq!(mesh.says(&["task", "watch", &id, "--cursor", cursor]), "");

    let task = mesh.json(&["task", "get", &id, "--steps"]);
    assert_eq!(task["step_list"][0]["state"], "complete");
    assert_eq!(task["context"]["data"]["n"].to_string(), LONG);
    assert!(mesh.says(&["task", "get", &id]).contains(&context));
    let step = mesh.json(&["step", "get", &id, "greet"]);
    assert_eq!(step["result"]["payload"]["data"]["n"].to_string(), LONG);
    assert!(mesh.says(&["step", "list", &id]).contains("greet"));
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_of_wait_says_how_the_task_came_out() {
    let mesh = Mesh::start().await;
    let id = mesh.create(r#"{"name": "nobody"}"#);
    let (code, said) = mesh.fails(&["task", "wait", &id, "--timeout", "50ms"]);
    assert_eq!(code, 4, "{said}");
    assert!(said.starts_with("after 50ms: still "), "{said}");

    let mesh = mesh.with_a_worker();
    assert_eq!(mesh.fails(&["task", "wait", &id]).0, 3);
    assert!(mesh.says(&["step", "get", &id, "greet"]).contains("NOBODY: there is nobody"));
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_repairs_ends_and_reruns_tasks_and_the_history_names_who_and_why() {
    let mesh = Mesh::start().await.with_a_worker();
    let by = ["--operator", "dora", "--reason", "by hand"];
    let failed = mesh.create(r#"{"name": "nobody"}"#);
    assert_eq!(mesh.fails(&["task", "wait", &failed]).0, 3);
    let said = mesh.says(&[&["task", "repair-all", "resolve", "--preview"], &by[..]].concat());
    assert_eq!(said, format!("{failed}  greet\n"));
    let complete = ["step", "complete", &failed, "greet", "--result", "7"];
    let step = mesh.json(&[&complete[..], &by[..]].concat());
    assert_eq!(
        (step["state"].as_str(), &step["result"]["payload"]["data"]),
        (Some("complete"), &7.into())
    );
    assert!(mesh.says(&["task", "wait", &failed]).contains("complete"));
    let watched = mesh.says(&["task", "watch", &failed]);
    let line = watched.lines().find(|line| line.contains("CompleteManually")).unwrap();
    assert!(line.contains("by hand") && line.contains("operator:dora"), "{line}");

    let rerun = ["task", "rerun", &failed, "--from", "greet", "--context", r#"{"name": "you"}"#];
    let rerun = mesh.says(&[&rerun[..], &by[..]].concat());
    let task = mesh.json(&["task", "get", rerun.trim()]);
    assert_eq!(task["rerun_of"], failed);
    assert!(mesh.says(&["task", "wait", rerun.trim()]).contains("complete"));
    let (code, said) = mesh.fails(&[&["task", "cancel", &failed], &by[..]].concat());
    assert_eq!((code, said.contains("reason: TASK_ENDED")), (1, true), "{said}");
    // Nobody acts by hand without a name.
    assert_eq!(mesh.fails(&["task", "cancel", &failed]).0, 2);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_says_what_comes_into_being_by_a_decision_or_plan() {
    let mesh = Mesh::start().await.with_a_worker();
    let route = mesh.file(
        "route.yaml",
        "{namespace: greetings, name: route, version: 1.0.0, steps: [
            {name: decide, type: decision, handler: {callable: nobody_does}},
            {name: plan, type: batchable, handler: {callable: nobody_does}, dependencies: [decide]},
            {name: each, type: batch_worker, handler: {callable: greet}, dependencies: [plan]},
            {name: rude, handler: {callable: greet}, dependencies: [decide]}]}",
    );
    mesh.says(&["template", "register", &route]);
    let context = r#"{"name": "you"}"#;
    let made = mesh.says(&["task", "create", "greetings/route", "--context", context]);
    let id = made.trim();
    let by = ["--operator", "dora", "--reason", "by hand"];
    let complete = |step: &str, says: &[&str]| {
        [&["step", "complete", id, step][..], says, &by].concat().join("\n")
    };
    let refused = |line: String| mesh.fails(&line.split('\n').collect::<Vec<_>>());
    let done = |line: String| mesh.json(&line.split('\n').collect::<Vec<_>>());

    let (code, said) = refused(complete("decide", &["--create-step", "ghost"]));
    assert_eq!((code, said.contains("reason: UNREACHABLE_STEP")), (1, true), "{said}");
    let (code, said) = refused(complete("decide", &["--result", "1"]));
    assert_eq!((code, said.contains("reason: OUTCOME_MISSING")), (1, true), "{said}");
    let (code, said) = mesh.fails(&[&["step", "resolve", id, "decide"][..], &by].concat());
    assert_eq!((code, said.contains("reason: OUTCOME_NEEDED")), (1, true), "{said}");
    let step = done(complete("decide", &["--create-step", "plan"]));
    assert_eq!(step["state"], "complete");
    assert_eq!(step["result"]["payload"]["data"], serde_json::json!({}));
    let batch = mesh.file("batch.json", "[2]");
    let file = format!("@{batch}");
    let says = ["--create-batch", "1", "--create-batch", &file, "--result", "7"];
    assert_eq!(done(complete("plan", &says))["result"]["payload"]["data"], 7);
    assert!(mesh.says(&["task", "wait", id]).contains("complete"));
    let steps = mesh.json(&["step", "list", id]);
    let names: Vec<_> = steps.as_array().unwrap().iter().map(|step| &step["name"]).collect();
    assert_eq!(names, ["decide", "plan", "each_1", "each_2"]);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_go_on_over_all_pages_and_stop_at_a_limit() {
    let mesh = Mesh::start().await;
    for n in 0..3 {
        mesh.create(&n.to_string());
    }
    let count = |arguments: &[&str]| mesh.json(arguments).as_array().unwrap().len();
    assert_eq!(count(&["task", "list"]), 3);
    assert_eq!(count(&["task", "list", "--limit", "2"]), 2);
    assert_eq!(count(&["task", "list", "--state", "complete"]), 0);
    assert_eq!(count(&["task", "list", "--namespace", "greetings", "--name", "greet"]), 3);
    assert_eq!(mesh.says(&["task", "list"]).lines().count(), 4);
    assert_eq!(count(&["template", "list", "--namespace", "elsewhere"]), 0);
    assert_eq!(mesh.json(&["template", "get", "greetings/greet"])["yaml"], GREETING);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_explained_line_by_line() {
    let mesh = Mesh::start().await;
    let wrong = mesh.file("wrong.yaml", &GREETING.replace("retryable: false", "max_attempt: 1"));
    let (code, said) = mesh.fails(&["template", "register", &wrong]);
    assert_eq!(code, 1);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains("wrong.yaml"), "{said}");
    assert!(lines[1].starts_with("reason: "), "{said}");
    assert!(lines.iter().any(|line| line.starts_with("steps[0].retry")), "{said}");

    let (code, said) = mesh.fails(&["template", "validate", &wrong]);
    assert_eq!((code, said.contains("steps[0].retry")), (1, true), "{said}");
    let (code, said) = mesh.fails(&["task", "create", "greetings/none"]);
    assert_eq!((code, said.contains("reason: ")), (1, true), "{said}");
    let (code, said) = mesh.fails(&["health", "--gateway", "http://127.0.0.1:1"]);
    assert_eq!((code, said.contains("http://127.0.0.1:1")), (1, true), "{said}");
    assert_eq!(mesh.fails(&["task", "get"]).0, 2);
    assert_eq!(mesh.json(&["health"])["ready"], true);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_has_seen_enough_is_no_error() {
    let mesh = Mesh::start().await.with_a_worker();
    let id = mesh.create("{}");
    mesh.says(&["task", "wait", &id]);
    let mut command = mesh.command(&["task", "watch", &id]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    // Gone with the first line, whether or not the others were written before.
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_says_so_until_it_is_resumed() {
    let mesh = Mesh::start().await;
    let id = mesh.create("{}");
    let alice = ["--operator", "alice", "--reason", "wrong name"];
    mesh.says(&[&["template", "pause", "greetings/greet"][..], &alice].concat());
    assert_eq!(mesh.json(&[&["task", "pause", &id][..], &alice].concat())["paused"], true);

    let said = mesh.says(&["step", "explain", &id, "greet"]);
    let told = [
        "1. Its task was paused by alice: wrong name.",
        &format!("→ tasker-ctl task resume {id}"),
        "2. Its template greetings/greet was paused by alice: wrong name.",
        "→ tasker-ctl template resume greetings/greet",
        "3. No connected worker of the namespace greetings has the handler greet.",
    ];
    let places: Vec<_> = told.iter().map(|line| said.find(line)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{said}");
    let explained = mesh.json(&["step", "explain", &id, "greet"]);
    assert_eq!(explained["reasons"][0]["kind"], "task_paused");
    assert_eq!(explained["reasons"][1]["pause"]["operator"], "alice");
    assert!(mesh.says(&["task", "explain", &id]).contains("task_paused"));

    let mesh = mesh.with_a_worker();
    mesh.says(&["template", "resume", "greetings/greet", "--operator", "bob"]);
    mesh.says(&["task", "resume", &id, "--operator", "bob"]);
    assert!(mesh.says(&["task", "wait", &id]).contains("complete"));
    assert!(mesh.says(&["step", "explain", &id, "greet"]).contains("It is complete."));
    let (code, said) = mesh.fails(&["task", "pause", &id, "--operator", "alice"]);
    assert_eq!((code, said.contains("TASK_ENDED")), (1, true), "{said}");
    mesh.stop().await;
}
