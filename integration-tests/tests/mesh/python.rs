//! Another language needs nothing but the proto files.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::{Value, json};
use tasker_client::v1::StepState;
use tasker_integration_tests::Mesh;
use tasker_worker::{Registry, StepContext};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_made_from_the_proto_files_submits_watches_and_works() {
    let stubs = tempfile::tempdir().unwrap();
    generate(stubs.path()).await;
    let mesh = Mesh::setup().start().await;
    // Python does the first step, Rust the second.
    let mut handlers = Registry::new();
    handlers.register_fn("rust.exclaim", |step: StepContext| async move {
        Ok(format!("{}!", step.dependency::<String>("greet")?))
    });
    let worker = mesh.worker(&["polyglot"], &handlers);
    let flow = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/flow.py");
    let address = mesh.gateway().strip_prefix("http://").unwrap();
    let output = Command::new(python())
        .arg(flow)
        .arg(address)
        .env("PYTHONPATH", stubs.path())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let told: Value = serde_json::from_str(&text(&output)).unwrap();

    assert_eq!(
        told["delivered"],
        json!({"step": "greet", "attempt": 1, "context": {"name": "Ada"}})
    );
    assert_eq!(told["saved"], "PROGRESS_VERDICT_COMMITTED");
    assert_eq!(told["verdict"], "RESULT_VERDICT_COMMITTED");
    assert_eq!(told["state"], "TASK_STATE_COMPLETE");
    let completed = json!(["greet", "exclaim"]);
    assert_eq!(told["completed"], completed, "as WatchTask told it");
    let step = mesh.client().get_step(told["task_id"].as_str().unwrap(), "exclaim").await.unwrap();
    assert_eq!(step.state(), StepState::Complete);
    assert_eq!(step.result.unwrap().payload.unwrap().data, r#""Hello, Ada!""#);
    worker.stop().await;
    mesh.ledger().await.every_task_has_completed_once(1).await;
}

/// Makes modules from `proto/` and nothing else.
async fn generate(folder: &Path) {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let mut files = fs::read_dir(proto.join("tasker/v1"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "proto"))
        .collect::<Vec<_>>();
    files.sort();
    let output = Command::new(python())
        .args(["-m", "grpc_tools.protoc", "-I"])
        .arg(&proto)
        .arg(format!("--python_out={}", folder.display()))
        .arg(format!("--grpc_python_out={}", folder.display()))
        .args(files)
        .output()
        .await
        .unwrap();
    text(&output);
}

/// The Python that `scripts/setup test` installs.
fn python() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tasker/python/bin/python");
    let python = env::var_os("TASKER_PYTHON").map_or(installed, PathBuf::from);
    assert!(python.is_file(), "{} is missing: run `scripts/setup test`", python.display());
    python
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    assert!(output.status.success(), "{}:\n{}", output.status, String::from_utf8_lossy(err));
    String::from_utf8_lossy(out).into_owned()
}
