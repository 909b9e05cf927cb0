//! Client of the mesh: submits tasks through the gateway and follows them.
//!
//! It knows one address, the gateway's, and speaks the types of [`v1`]. Calls that fail because the
//! mesh is away or busy are tried again, with full jitter, within a deadline and a rate: reads
//! always, and submissions too, since each carries a `request_id` by which the mesh recognises it.
//!
//! ```no_run
//! # async fn example() -> Result<(), tasker_client::Error> {
//! use std::time::Duration;
//! use tasker_client::{Client, NewTask};
//!
//! let client = Client::connect("http://127.0.0.1:7700").await?;
//! let context = serde_json::json!({ "n": 6 });
//! let created = client.create_task(NewTask::of("arithmetic", "linear").context(&context)?).await?;
//! let task = client.wait_for_task(&created.task_id, Duration::from_secs(30)).await?;
//! println!("{:?}", task.state());
//! # Ok(())
//! # }
//! ```

mod back_off;
mod call;
mod client;
mod dlq;
mod endpoint;
mod error;
mod events;
mod health;
mod history;
pub mod json;
mod new_task;
mod pages;
mod progress;
mod repairs;
mod steps;
mod tasks;
mod templates;
mod watch;

pub use back_off::FullJitter;
pub use call::RetryPolicy;
pub use client::Client;
pub use endpoint::endpoint;
pub use error::{Error, Failure, FieldViolation};
pub use new_task::NewTask;
pub use progress::{has_ended, has_settled};
pub use repairs::Operator;
pub use tasker_api::v1;
