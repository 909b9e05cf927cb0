//! A worker to be killed: it takes steps, saves a checkpoint of them, says so, and never ends them.

use std::{env, future::pending};

use anyhow::Context as _;
use tasker_worker::{Checkpoint, HandlerError, Registry, StepContext, Worker};

/// Arguments: the gateway's address, a namespace and a callable.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let mut next = || arguments.next().context("give a gateway, a namespace and a callable");
    let (gateway, namespace, callable) = (next()?, next()?, next()?);
    let mut registry = Registry::new();
    registry.register_fn(callable, |step: StepContext| async move {
        step.save_checkpoint(Checkpoint::at(&"half way")?).await?;
        println!("has saved {}", step.step_name());
        pending::<Result<(), HandlerError>>().await
    });
    let worker = Worker::builder(gateway).namespaces([namespace]).registry(registry).build()?;
    worker.run(pending()).await?;
    Ok(())
}
