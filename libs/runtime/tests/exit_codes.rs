//! How a process ends that never came to serve.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::process::ExitCode;

use anyhow::bail;
use tasker_runtime::{
    Context, Process, Service,
    config::{Drain, Error, Source},
    mesh,
};
use tokio_util::sync::CancellationToken;

fn source(arguments: &[&str]) -> Source {
    Source::from_parts(arguments.iter().map(ToString::to_string), []).unwrap()
}

fn never_built((): (), _context: Context) -> std::future::Pending<anyhow::Result<Service>> {
    panic!("nothing may be opened with a wrong configuration")
}

#[test]
fn a_wrong_configuration_ends_with_64_before_anything_is_opened() {
    let process = Process::new("finalizer");
    let usage = ExitCode::from(64);
    let fine = source(&[]);
    assert_eq!(
        process.run_from(&source(&["--drain.timeout=soon"]), |_| Ok(()), never_built),
        usage
    );
    assert_eq!(
        process.run_from(&source(&["--telemetry.colour=red"]), |_| Ok(()), never_built),
        usage
    );
    let refuse = |_: &Source| Err(Error::invalid("finalizer.batch", "must be at least 1"));
    assert_eq!(process.run_from(&fine, refuse, never_built), usage);
    assert_eq!(
        process.run_from(&source(&["--telemetry.log_filter=tasker=loud"]), |_| Ok(()), never_built),
        usage
    );
}

#[test]
fn help_and_version_are_no_failure() {
    for argument in ["--help", "--version"] {
        let asked = Source::from_parts([argument.to_owned()], []).unwrap_err();
        assert_eq!(asked.report("finalizer"), ExitCode::SUCCESS);
    }
}

#[tokio::test]
async fn work_that_panics_ends_its_service_with_an_error() {
    let context = Context::new("finalizer", &Drain::default());
    context.spawn("the loop", async { panic!("on purpose") });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = listener.local_addr().unwrap();
    let service = Service { listen, routes: tonic::service::Routes::default() };
    let error = tasker_runtime::serve(service, listener, context).await.unwrap_err();
    assert_eq!(error.to_string(), "the loop panicked");
}

// The only test here that sets up telemetry, which a process does once.
#[test]
fn a_service_that_cannot_be_built_ends_with_1() {
    let broken = Process::new("finalizer").run_from(
        &source(&["--telemetry.log_filter=off"]),
        |_| Ok(()),
        |(), _context| async { bail!("the database has another schema") },
    );
    assert_eq!(broken, ExitCode::FAILURE);
}

#[tokio::test]
async fn an_endpoint_of_the_mesh_that_is_none_is_a_wrong_configuration() {
    let drain = CancellationToken::new();
    let wrong = mesh::channel("task-request", &["nowhere".to_owned()], &drain).unwrap_err();
    assert_eq!(wrong.report("finalizer"), ExitCode::from(64));
}
