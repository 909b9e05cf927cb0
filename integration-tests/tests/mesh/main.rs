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

mod backlog;
mod bad_input;
mod batches;
mod cancel;
mod costs;
mod database;
mod decisions;
mod dependency_results;
mod dispatch;
mod events;
mod faults;
mod fences;
mod graphs;
mod identity;
mod load;
mod modes;
mod poison;
mod python;
mod random;
mod reconciler;
mod repair;
mod rerun;
mod retries;
mod schemas;
mod template_fields;
mod trace;
mod under_load;
mod watch;
