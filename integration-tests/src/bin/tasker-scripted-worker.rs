//! A worker that follows the scripts of its tasks until it is killed.

use std::{env, future::pending};

use anyhow::Context as _;
use tasker_integration_tests::scripted;
use tasker_worker::Worker;

/// Arguments: the gateway's address and a namespace.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let mut next = || arguments.next().context("give a gateway and a namespace");
    let (gateway, namespace) = (next()?, next()?);
    let worker = Worker::builder(gateway).namespaces([namespace]).registry(scripted()).build()?;
    worker.run(pending()).await?;
    Ok(())
}
