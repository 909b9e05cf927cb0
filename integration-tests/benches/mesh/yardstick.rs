//! What is measured before and after something, to compare.

use anyhow::Result;
use uuid::Uuid;

use crate::{
    latency::{By, quantile_ms, sequential},
    report::Report,
    rig::Rig,
    sustained::Load,
};

/// Tasks one after another, for the latency: some seconds, as the median of one differs from the next by a fifth.
const TASKS: usize = 1_000;

/// Of linear tasks.
pub struct Yardstick {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub steps_per_s: f64,
}

impl Yardstick {
    /// Measures the latency, then the throughput for as long as is compared.
    pub async fn take(rig: &mut Rig) -> Result<Self> {
        let (p50_ms, p99_ms) = latency(rig).await?;
        let load = Load::start(rig, Uuid::now_v7()).await?;
        let steps_per_s = load.window(rig, rig.arguments.compared()).await?.steps_per_s();
        load.finish(rig).await?;
        Ok(Self { p50_ms, p99_ms, steps_per_s })
    }

    /// Adds it below a name, beside what it was before.
    pub fn add(&self, report: &mut Report, name: &str, before: &Self) {
        report.add(&format!("{name}_linear4_p50_ms_before"), before.p50_ms);
        report.add(&format!("{name}_linear4_p50_ms"), self.p50_ms);
        report.add(&format!("{name}_linear4_p99_ms"), self.p99_ms);
        report.add(&format!("{name}_linear4_p50_ratio"), self.p50_ms / before.p50_ms);
        report.add(&format!("{name}_steps_per_s_before"), before.steps_per_s);
        report.add(&format!("{name}_steps_per_s"), self.steps_per_s);
        report.add(&format!("{name}_steps_per_s_ratio"), self.steps_per_s / before.steps_per_s);
    }
}

/// Median and what one in a hundred exceeds, in ms.
pub async fn latency(rig: &mut Rig) -> Result<(f64, f64)> {
    let times = sequential(rig, "linear", TASKS, By::Wait).await?;
    Ok((quantile_ms(&times, 0.5), quantile_ms(&times, 0.99)))
}
