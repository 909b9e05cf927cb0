//! All that is listened on, bound before anything serves.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::Context as _;
use tasker_runtime::config::Source;
use tokio::net::TcpListener;
use tracing::warn;

/// Any that is free, for nobody but ourselves.
const PRIVATE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A listener for each service.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) gateway: TcpListener,
    pub(crate) task_request: TcpListener,
    pub(crate) step_enqueuer: TcpListener,
    pub(crate) result_processor: TcpListener,
    pub(crate) finalizer: TcpListener,
}

impl Listeners {
    /// Binds the gateway where it was asked for, and the stages wherever it is free.
    ///
    /// Where nobody asked for the gateway's address, another port does as well.
    pub(crate) async fn bind(source: &Source, gateway: SocketAddr) -> anyhow::Result<Self> {
        let chosen = source.is_set("gateway.listen");
        Ok(Self {
            gateway: bind_gateway(gateway, chosen).await?,
            task_request: bind_stage().await?,
            step_enqueuer: bind_stage().await?,
            result_processor: bind_stage().await?,
            finalizer: bind_stage().await?,
        })
    }

    /// Where clients and workers of this machine find the gateway.
    pub(crate) fn gateway_url(&self) -> io::Result<String> {
        Ok(url(self.gateway.local_addr()?))
    }

    /// Tells the services where they and the others are.
    pub(crate) fn tell(&self, source: &mut Source) -> anyhow::Result<()> {
        source.set("gateway.listen", self.gateway.local_addr()?.to_string())?;
        for (stage, listener) in [
            ("task_request", &self.task_request),
            ("step_enqueuer", &self.step_enqueuer),
            ("result_processor", &self.result_processor),
            ("finalizer", &self.finalizer),
        ] {
            let address = listener.local_addr()?;
            source.set(&format!("{stage}.listen"), address.to_string())?;
            source.set(&format!("mesh.{stage}"), url(address))?;
        }
        Ok(())
    }
}

async fn bind_gateway(address: SocketAddr, chosen: bool) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if error.kind() == ErrorKind::AddrInUse && !chosen => {
            let listener = bind_stage().await?;
            let instead = listener.local_addr()?;
            warn!("something else listens on {address}: the gateway is at {instead} instead");
            Ok(listener)
        }
        bound => bound.with_context(|| format!("cannot listen on {address} (`gateway.listen`)")),
    }
}

async fn bind_stage() -> anyhow::Result<TcpListener> {
    TcpListener::bind(PRIVATE).await.context("cannot listen on 127.0.0.1")
}

/// All addresses are reached by loopback, too.
fn url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_replaced_unless_it_was_asked_for() {
        let taken = TcpListener::bind(PRIVATE).await.unwrap();
        let address = taken.local_addr().unwrap();
        let other = bind_gateway(address, false).await.unwrap();
        assert_ne!(other.local_addr().unwrap(), address);

        let error = format!("{:#}", bind_gateway(address, true).await.unwrap_err());
        assert!(error.contains(&format!("{address} (`gateway.listen`)")), "{error}");
    }

    #[tokio::test]
    async fn every_service_is_told_where_the_others_are() {
        let mut source =
            Source::from_parts(["--mesh.finalizer=elsewhere:1".to_owned()], []).unwrap();
        let listeners = Listeners::bind(&source, PRIVATE).await.unwrap();
        listeners.tell(&mut source).unwrap();
        let mesh: tasker_runtime::config::Mesh = source.section("mesh").unwrap();
        assert_eq!(mesh.finalizer, [url(listeners.finalizer.local_addr().unwrap())]);
        assert_ne!(mesh.finalizer, mesh.task_request);
    }

    #[test]
    fn a_gateway_for_all_machines_is_reached_by_loopback() {
        assert_eq!(url(([0, 0, 0, 0], 1).into()), "http://127.0.0.1:1");
        assert_eq!(url("[::]:1".parse().unwrap()), "http://[::1]:1");
    }
}
