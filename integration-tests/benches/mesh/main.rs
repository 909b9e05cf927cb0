//! Measures the whole mesh: five services in processes of their own or in one, worker processes, and a private
//! PostgreSQL with `fsync` and `synchronous_commit` on, all on this machine.

mod arguments;
mod arrivals;
mod bare_chain;
mod bloat;
mod database;
mod database_alone;
mod echo;
mod floors;
mod idle;
mod latency;
mod load;
mod million;
mod multiply;
mod overload;
mod processes;
mod recovery;
mod report;
mod rig;
mod shapes;
mod snapshot;
mod submit;
mod sustained;
mod templates;
mod throughput;
mod yardstick;

use std::fs;

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::{
    arguments::{Arguments, Section},
    report::Report,
    rig::Rig,
};

// A second thread would take the processor from the mesh that is measured.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.echo {
        return echo::serve(arguments.echo_before.as_deref()).await;
    }
    let mut report = Report::new();
    let mut rig = Rig::start(arguments).await?;
    let measured = measure(&mut rig, &mut report).await;
    // What was measured before something broke is still worth reading.
    floors::multiples(&mut report);
    report.print();
    if let Some(file) = &rig.arguments.json {
        fs::write(file, report.json()).with_context(|| file.display().to_string())?;
    }
    if measured.is_err() {
        rig.show_logs();
    }
    measured?;
    rig.stop().await
}

async fn measure(rig: &mut Rig, report: &mut Report) -> Result<()> {
    for section in rig.arguments.sections() {
        match section {
            Section::Latency => latency::measure(rig, report).await,
            Section::Floors => floors::measure(rig, report).await,
            Section::Throughput => throughput::measure(rig, report).await,
            Section::Idle => idle::measure(rig, report).await,
            Section::Load => load::measure(rig, report).await,
            Section::Shapes => shapes::measure(rig, report).await,
            Section::Overload => overload::measure(rig, report).await,
            Section::Recovery => recovery::measure(rig, report).await,
            Section::Snapshot => snapshot::measure(rig, report).await,
            Section::Bloat => bloat::measure(rig, report).await,
            Section::Million => million::measure(rig, report).await,
        }
        .with_context(|| format!("{section:?} could not be measured"))?;
    }
    Ok(())
}
