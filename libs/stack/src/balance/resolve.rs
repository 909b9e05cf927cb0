//! Turns endpoints into addresses, again and again, and keeps a connection to each.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use http::uri::Authority;
use tokio::{net::lookup_host, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{connection, endpoint::Endpoint, ready::Ready};

/// Follows the names of a service until `stop`.
pub(super) struct Resolver {
    pub(super) service: &'static str,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) interval: Duration,
    pub(super) ready: Arc<Ready>,
    pub(super) stop: CancellationToken,
}

impl Resolver {
    pub(super) async fn run(self) {
        let mut known = HashMap::new();
        let mut answers = vec![Vec::new(); self.endpoints.len()];
        let mut failing = vec![false; self.endpoints.len()];
        loop {
            for (index, endpoint) in self.endpoints.iter().enumerate() {
                match lookup_host((endpoint.host(), endpoint.port())).await {
                    Ok(addresses) => {
                        answers[index] = addresses.collect();
                        failing[index] = false;
                    }
                    // The last answer stays: a resolver that is down must not empty the mesh.
                    Err(error) if !failing[index] => {
                        warn!(service = self.service, %error, "cannot resolve {endpoint}");
                        failing[index] = true;
                    }
                    // Said once, until it can be resolved again.
                    Err(_) => {}
                }
            }
            self.follow(&answers, &mut known);
            if self.endpoints.iter().all(Endpoint::is_address) {
                return;
            }
            if self.stop.run_until_cancelled(sleep(self.interval)).await.is_none() {
                return;
            }
        }
    }

    /// Opens what is new and lets go of what is gone.
    fn follow(
        &self,
        answers: &[Vec<SocketAddr>],
        known: &mut HashMap<SocketAddr, CancellationToken>,
    ) {
        let wanted: HashMap<SocketAddr, &Authority> = (self.endpoints.iter().zip(answers).rev())
            .flat_map(|(endpoint, addresses)| {
                addresses.iter().map(|address| (*address, endpoint.authority()))
            })
            .collect();
        known.retain(|address, unwanted| {
            let keep = wanted.contains_key(address);
            if !keep {
                unwanted.cancel();
            }
            keep
        });
        for (address, authority) in wanted {
            known.entry(address).or_insert_with(|| {
                let unwanted = self.stop.child_token();
                tokio::spawn(connection::keep(
                    address,
                    authority.clone(),
                    self.ready.clone(),
                    unwanted.clone(),
                ));
                unwanted
            });
        }
    }
}
