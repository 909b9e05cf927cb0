//! The whole mesh, as it is deployed, against a real PostgreSQL: a family of promises a module.

#![expect(clippy::unwrap_used, reason = "in a test, it is how a promise fails")]

/// Makes two tests of each scenario: with every service in a process of its own, and with all in one. A
/// module may say how its meshes are set up: `in_both_shapes![set up by setup; …]`.
macro_rules! in_both_shapes {
    (set up by $setup:ident; $($scenario:ident),* $(,)?) => {
        mod in_separate_processes {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    let mesh = super::$setup().start().await;
                    super::$scenario(&mesh).await;
                }
            )*
        }

        mod in_one_process {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    let mesh = super::$setup().start_in_one_process().await;
                    super::$scenario(&mesh).await;
                }
            )*
        }
    };
    ($($scenario:ident),* $(,)?) => {
        fn defaults() -> tasker_integration_tests::Setup {
            tasker_integration_tests::Mesh::setup()
        }
        in_both_shapes![set up by defaults; $($scenario),*];
    };
}

mod ageing;
mod backlog;
mod bad_input;
mod batches;
mod cancel;
mod checkpoints;
mod costs;
mod database;
mod dead_letters;
mod decide_by_hand;
mod decisions;
mod deliveries;
mod dependency_results;
mod dispatch;
mod events;
mod explain;
mod faults;
mod fences;
mod graphs;
mod history;
mod identity;
mod lifecycle;
mod limits;
mod load;
mod modes;
mod pause;
mod poison;
mod purged;
mod python;
mod random;
mod reconciler;
mod repair;
mod repair_events;
mod rerun;
mod rerun_grown;
mod retries;
mod schemas;
mod template_fields;
mod trace;
mod under_load;
mod waiting;
mod watch;
