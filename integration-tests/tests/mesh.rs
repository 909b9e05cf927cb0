//! The whole mesh, as it is deployed, against a real PostgreSQL: a family of promises a module.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

/// Makes two tests of each scenario: with every service in a process of its own, and with all in one.
macro_rules! in_both_shapes {
    ($($scenario:ident),* $(,)?) => {
        mod in_separate_processes {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    let mesh = tasker_integration_tests::Mesh::setup().start().await;
                    super::$scenario(&mesh).await;
                }
            )*
        }

        mod in_one_process {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    let mesh = tasker_integration_tests::Mesh::setup().start_in_one_process().await;
                    super::$scenario(&mesh).await;
                }
            )*
        }
    };
}

#[path = "mesh/bad_input.rs"]
mod bad_input;
#[path = "mesh/database.rs"]
mod database;
#[path = "mesh/faults.rs"]
mod faults;
#[path = "mesh/fences.rs"]
mod fences;
#[path = "mesh/graphs.rs"]
mod graphs;
#[path = "mesh/identity.rs"]
mod identity;
#[path = "mesh/load.rs"]
mod load;
#[path = "mesh/modes.rs"]
mod modes;
#[path = "mesh/poison.rs"]
mod poison;
#[path = "mesh/python.rs"]
mod python;
#[path = "mesh/retries.rs"]
mod retries;
#[path = "mesh/trace.rs"]
mod trace;
#[path = "mesh/under_load.rs"]
mod under_load;
#[path = "mesh/watch.rs"]
mod watch;
