//! The life of a process that holds one service.

use std::{env, process::ExitCode, thread};

use anyhow::Context as _;
use tokio::{net::TcpListener, runtime, time::Instant};

use crate::{
    Context, Service, Telemetry, TelemetryError,
    config::{self, Source},
    serve::{self, serve},
    signals,
};

/// A process that holds one service.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    name: &'static str,
}

impl Process {
    /// For the service of this name, as in `result-processor`.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name }
    }

    /// Reads the configuration, builds the service and serves it until a signal ends it.
    ///
    /// `load` reads the sections of the service; `telemetry` and `drain` are read here.
    /// `TOKIO_WORKER_THREADS` sets the number of threads, by default one for every four cores: a service
    /// that has few hands passes work on in one thread, and leaves the cores to the others.
    pub fn run<C, F>(
        self,
        load: impl FnOnce(&Source) -> Result<C, config::Error>,
        build: impl FnOnce(C, Context) -> F,
    ) -> ExitCode
    where
        F: Future<Output = anyhow::Result<Service>>,
    {
        match Source::from_process() {
            Ok(source) => self.run_from(&source, load, build),
            Err(error) => error.report(self.name),
        }
    }

    /// As [`run`](Self::run), with a configuration that was read before.
    pub fn run_from<C, F>(
        self,
        source: &Source,
        load: impl FnOnce(&Source) -> Result<C, config::Error>,
        build: impl FnOnce(C, Context) -> F,
    ) -> ExitCode
    where
        F: Future<Output = anyhow::Result<Service>>,
    {
        let settings = Settings::read(source).and_then(|settings| Ok((settings, load(source)?)));
        let (settings, config) = match settings {
            Ok(read) => read,
            Err(error) => return error.report(self.name),
        };
        match self.live(&settings, |context| build(config, context)) {
            Ok(()) => ExitCode::SUCCESS,
            // Found only while building, such as an endpoint of the mesh, but still a wrong value.
            Err(error) => match error.downcast_ref::<config::Error>() {
                Some(wrong) => wrong.report(self.name),
                None => {
                    eprintln!("tasker-{}: {error:#}", self.name);
                    ExitCode::FAILURE
                }
            },
        }
    }

    fn live<F>(self, settings: &Settings, build: impl FnOnce(Context) -> F) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<Service>>,
    {
        let mut runtime = runtime::Builder::new_multi_thread();
        if env::var_os("TOKIO_WORKER_THREADS").is_none() {
            runtime.worker_threads(threads());
        }
        let runtime = runtime
            .enable_all()
            .thread_name(self.name)
            .build()
            .context("cannot start the async runtime")?;
        let telemetry = {
            let _runtime = runtime.enter();
            Telemetry::init(self.name, &settings.telemetry).map_err(|error| match error {
                TelemetryError::Config(error) => anyhow::Error::new(error),
                other @ TelemetryError::Twice(_) => other.into(),
            })?
        };
        let context = Context::new(self.name, &settings.drain);
        let ended = runtime.block_on(self.until_drained(context, build));
        // While the runtime still runs: it carries the exporter.
        drop(telemetry);
        // Work that outlived the drain does not delay the end.
        runtime.shutdown_background();
        ended
    }

    async fn until_drained<F>(
        self,
        context: Context,
        build: impl FnOnce(Context) -> F,
    ) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<Service>>,
    {
        let signalled = signals::shutdown().context("cannot listen for signals")?;
        let drain = context.drain.clone();
        tokio::spawn(async move {
            signalled.await;
            drain.cancel();
        });
        let Some(built) = context.drain.run_until_cancelled(build(context.clone())).await else {
            return serve::finish(&context, Instant::now() + context.drain_timeout).await;
        };
        let service = built.with_context(|| format!("cannot start {}", self.name))?;
        let listener = self.bind(&service).await?;
        serve(service, listener, context).await
    }

    async fn bind(self, service: &Service) -> anyhow::Result<TcpListener> {
        let section = self.name.replace('-', "_");
        TcpListener::bind(service.listen)
            .await
            .with_context(|| format!("cannot listen on {} (`{section}.listen`)", service.listen))
    }
}

/// A service shares its machine with others and the database, and more replicas use more cores.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(4))
}

/// What every process reads.
struct Settings {
    telemetry: config::Telemetry,
    drain: config::Drain,
}

impl Settings {
    fn read(source: &Source) -> Result<Self, config::Error> {
        Ok(Self { telemetry: source.section("telemetry")?, drain: source.section("drain")? })
    }
}

#[cfg(test)]
mod tests {
    use tonic::service::Routes;

    use super::*;

    #[tokio::test]
    async fn an_address_that_is_taken_is_named_with_its_field() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = taken.local_addr().unwrap();
        let service = Service { listen, routes: Routes::default() };
        let error = Process::new("task-request").bind(&service).await.unwrap_err();
        let told = format!("{error:#}");
        assert!(told.contains(&format!("{listen} (`task_request.listen`)")), "{told}");
        assert!(told.contains("in use"), "{told}");
    }
}
