//! An open loop: callers come when they come, however long those before them wait.

use std::{
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Always the same arrivals: two runs differ in the mesh, not in the load.
const SEED: u64 = 4;

/// One caller.
pub struct Arrival {
    /// 0 for the first.
    pub nth: usize,
    /// When it was to come: what it waits is counted from here, also what it waits for this bench.
    pub at: Instant,
}

/// Callers that come independently of each other (a Poisson process), so many per second.
pub fn arrivals(per_s: f64, time: Duration) -> UnboundedReceiver<Arrival> {
    let (callers, arriving) = unbounded_channel();
    // A thread, since timers of the runtime tick in whole milliseconds.
    thread::spawn(move || {
        let mut rng = StdRng::seed_from_u64(SEED);
        let begun = Instant::now();
        let mut after = 0.0;
        for nth in 0.. {
            after -= (1.0 - rng.random::<f64>()).ln() / per_s;
            if after >= time.as_secs_f64() {
                return;
            }
            let at = begun + Duration::from_secs_f64(after);
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if callers.send(Arrival { nth, at }).is_err() {
                return;
            }
        }
    });
    arriving
}
