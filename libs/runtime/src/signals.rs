//! The signals that end a process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// The exit code of a process that a second signal ended at once.
const KILLED: i32 = 130;

/// Listens for SIGTERM and SIGINT from now on; the future returns at the first of them.
///
/// A second one ends the process at once, with exit code 130.
///
/// # Errors
///
/// If the handlers cannot be installed.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn shutdown() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    };
    Ok(async move {
        let name = signals.next().await;
        info!("{name}: draining; once more ends at once");
        tokio::spawn(async move {
            let name = signals.next().await;
            warn!("{name} again: ending at once");
            std::process::exit(KILLED);
        });
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
