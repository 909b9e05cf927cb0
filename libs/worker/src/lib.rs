//! The worker library: runs steps for the mesh, knowing only the gateway's address.
//!
//! A worker registers a [`Handler`] for each callable that templates name, opens a session and takes
//! deliveries, as many at once as its concurrency allows. It keeps each result until the mesh has
//! acknowledged it, over any number of connections, and connects again for ever, with full jitter.
//!
//! A step may run more than once: delivery is at least once, acceptance of a result exactly once.
//! Effects elsewhere that must happen once are to be named by [`StepContext::idempotency_key`].
//!
//! A long step saves how far it has come by [`StepContext::save_checkpoint`], so that the next attempt
//! goes on from there; and gives its place to others for a while by [`Yield`].
//! The handler of a step of type `decision` returns a [`Decision`], that of a `batchable` step
//! [`Batches`]; what its `batch_worker` is to work on is its [`StepContext::cursor`].
//!
//! ```no_run
//! use tasker_worker::{HandlerError, Registry, StepContext, Worker};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut registry = Registry::new();
//! registry.register_fn("greet", |step: StepContext| async move {
//!     let name: String = step.input()?;
//!     if name.is_empty() {
//!         return Err(HandlerError::permanent("NOBODY", "there is nobody to greet"));
//!     }
//!     Ok(format!("Hello, {name}!"))
//! });
//! let worker = Worker::builder("http://127.0.0.1:7700")
//!     .namespaces(["greetings"])
//!     .registry(registry)
//!     .build()?;
//! worker.run(async { tokio::signal::ctrl_c().await.expect("signals work") }).await?;
//! # Ok(())
//! # }
//! ```

mod checkpoint;
mod context;
mod delivery;
mod error;
mod failure;
mod handler;
mod holdings;
mod outbox;
mod output;
mod registry;
mod saves;
mod session;
mod stop;
mod worker;

pub use async_trait::async_trait;
pub use checkpoint::{Checkpoint, Yield};
pub use context::StepContext;
pub use error::WorkerError;
pub use failure::HandlerError;
pub use handler::{Handler, PayloadHandler};
pub use output::{Batches, Decision, IntoOutput, Output};
pub use registry::Registry;
pub use tasker_api::v1;
pub use tasker_client::json;
pub use tokio_util::sync::CancellationToken;
pub use worker::{Worker, WorkerBuilder};
