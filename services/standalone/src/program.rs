//! The program around the mesh: arguments, telemetry, signals, exit code.

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use tasker_runtime::{
    Telemetry, TelemetryError,
    config::{self, Source},
    signals,
};
use tokio::runtime;
use tokio_util::sync::CancellationToken;

use crate::Standalone;

const NAME: &str = "standalone";

/// Our own flags that are worth a short form, each with its field.
const SHORT: [&str; 3] = ["data-dir", "ready-file", "templates"];

/// Runs the mesh until a signal ends it. A second signal ends it at once; its PostgreSQL ends too.
///
/// Exit codes are those of every service: 0 after a drain, 1 if something failed, 64 if the
/// configuration is wrong, 130 after a second signal.
#[must_use]
pub fn run() -> ExitCode {
    let environment = env::vars_os().filter_map(|(variable, value)| {
        Some((variable.into_string().ok()?, value.into_string().ok()?))
    });
    let ended = match Source::from_parts(env::args().skip(1).map(in_full), environment) {
        Ok(source) => live(source),
        Err(error) => return error.report(NAME),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<config::Error>() {
            Some(wrong) => wrong.report(NAME),
            None => {
                eprintln!("tasker-{NAME}: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// `--ready-file` is `--standalone.ready_file`.
fn in_full(argument: String) -> String {
    let Some(flag) = argument.strip_prefix("--") else { return argument };
    let (name, value) = flag.split_once('=').map_or((flag, None), |(name, it)| (name, Some(it)));
    if !SHORT.contains(&name) {
        return argument;
    }
    let field = format!("--{NAME}.{}", name.replace('-', "_"));
    value.map_or(field.clone(), |value| format!("{field}={value}"))
}

fn live(source: Source) -> anyhow::Result<()> {
    let telemetry: config::Telemetry = source.section("telemetry")?;
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(NAME)
        .build()
        .context("cannot start the async runtime")?;
    let telemetry = {
        let _runtime = runtime.enter();
        Telemetry::init(NAME, &telemetry).map_err(|error| match error {
            TelemetryError::Config(error) => anyhow::Error::new(error),
            other => other.into(),
        })?
    };
    let ended = runtime.block_on(until_drained(source));
    // While the runtime still runs: it carries the exporter.
    drop(telemetry);
    // Work that outlived the drain does not delay the end.
    runtime.shutdown_background();
    ended
}

async fn until_drained(source: Source) -> anyhow::Result<()> {
    let signalled = signals::shutdown().context("cannot listen for signals")?;
    let stop = CancellationToken::new();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            signalled.await;
            stop.cancel();
        }
    });
    let Some(running) = Standalone::start_unless(source, &stop).await? else { return Ok(()) };
    // Nobody may read it: the mesh is as ready without.
    writeln!(io::stdout(), "ready {}", running.gateway_url()).ok();
    tokio::select! {
        () = stop.cancelled() => {}
        () = running.failed() => {}
    }
    running.stop().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_flags_have_a_short_form() {
        let in_full = |text: &str| in_full(text.to_owned());
        assert_eq!(in_full("--ready-file=/a b"), "--standalone.ready_file=/a b");
        assert_eq!(in_full("--data-dir"), "--standalone.data_dir");
        for other in ["--config=x", "--gateway.listen", "templates", "--help"] {
            assert_eq!(in_full(other), other);
        }
    }
}
