//! `tasker-ctl`: what people and scripts ask of the mesh.
//!
//! It knows the gateway's address and nothing else, except for `migrate`, which goes to the database.
//! Results go to standard output, as tables or with `--json` as JSON; what went wrong to standard
//! error, and into the exit code.

mod arguments;
mod dlq;
mod event;
mod exit;
mod explain;
mod health;
mod listed;
mod migrate;
mod names;
mod operator;
mod outcome;
mod payload;
mod print;
mod step;
mod task;
mod template;
mod template_ref;
mod view;

use std::process::ExitCode;

use clap::Parser as _;
use tasker_client::Client;

use crate::arguments::{Arguments, Command};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run(Arguments::parse()).await.unwrap_or_else(|error| exit::report(&error))
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { gateway, json, command } = arguments;
    match command {
        Command::Migrate(migration) => migrate::run(&migration, json).await,
        Command::Template(command) => template::run(command, &connect(&gateway).await?, json).await,
        Command::Task(command) => task::run(command, &connect(&gateway).await?, json).await,
        Command::Step(command) => step::run(command, &connect(&gateway).await?, json).await,
        Command::Dlq(command) => dlq::run(command, &connect(&gateway).await?, json).await,
        Command::Event(command) => event::run(command, &connect(&gateway).await?, json).await,
        Command::Health => health::run(&connect(&gateway).await?, json).await,
    }
}

/// At once, so that an address where nobody listens is known at once.
async fn connect(gateway: &str) -> anyhow::Result<Client> {
    Client::connect(gateway)
        .await
        .map_err(|error| anyhow::Error::new(error).context(gateway.to_owned()))
}
