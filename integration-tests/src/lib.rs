//! The whole mesh for tests: its programs as they are deployed, workers, and a look into the database.
//!
//! A [`Mesh`] starts the real programs, each service in a process of its own or all in one, on free
//! ports and a database of its own. Programs must have been built: `scripts/test` does it first.

mod examples;
mod keeper;
mod ledger;
mod mesh;
mod metrics;
mod ports;
mod program;
mod recorder;
mod script;
mod service;
mod session;
mod spans;
mod wait;
mod worker;

pub use examples::{example, register_examples};
pub use ledger::{Grant, Ledger, Move, Record, Row, Wait};
pub use mesh::{Mesh, Setup};
pub use program::{Program, Signal};
pub use recorder::{Recorder, Run};
pub use script::{
    Answer, End, Line, Progress, Says, Script, Told, Turn, line as script_line, scripted,
    turn as script_turn,
};
pub use service::Service;
pub use session::{Session, checkpoint, failure, success, yielded};
pub use spans::{ReceivedSpan, SpanReceiver};
pub use wait::until;
pub use worker::{WorkerTask, worker};
