//! The times that follow from how soon a dead worker's steps must be back in their queue.

use std::time::Duration;

/// One truth about who lives. The parts add up to less than the whole, whichever way a worker dies.
#[derive(Debug, Clone, Copy)]
pub struct Liveness {
    /// Within this time a dead worker's steps are back.
    pub session_ttl: Duration,
}

impl Liveness {
    /// How often a worker pings; three missed close the stream: 6 of 15 s.
    pub fn heartbeat(self) -> Duration {
        self.session_ttl * 2 / 15
    }

    /// How long nothing may be heard: three heartbeats.
    pub fn silence(self) -> Duration {
        self.heartbeat() * 3
    }

    /// How often sessions are renewed, and lost ones looked for: 3 of 15 s.
    pub fn tick(self) -> Duration {
        self.session_ttl / 5
    }

    /// How long a session outlives the replica that renews it: 9 of 15 s.
    pub fn renewal(self) -> Duration {
        self.session_ttl * 3 / 5
    }

    /// How long a session outlives its stream, for a reconnect: 4 of 15 s.
    pub fn grace(self) -> Duration {
        self.session_ttl * 4 / 15
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_die_is_noticed_within_the_sessions_time() {
        for session_ttl in [1, 3, 15, 3600].map(Duration::from_secs) {
            let live = Liveness { session_ttl };
            assert!(live.silence() + live.grace() + live.tick() <= session_ttl);
            assert!(live.renewal() + live.tick() <= session_ttl);
        }
    }
}
