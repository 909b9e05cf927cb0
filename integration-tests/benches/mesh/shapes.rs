//! Large tasks, each alone in the mesh: wide, long, and both.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tasker_client::{NewTask, v1::TaskState};

use crate::{
    processes,
    report::Report,
    rig::Rig,
    sustained::{self, Maximum},
    templates,
};

const CHILDREN: usize = 1_000;
const CHAIN: usize = 200;
/// Layers, and steps in each.
const GRAPH: (usize, usize) = (100, 100);
/// Of each shape, after a first one that is not counted: it has the template read and parsed.
const TASKS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(300);

/// Times are medians of three, from CreateTask sent to the end told by WaitForTask.
///
/// The cost of a step of the graph is given twice as a multiple of a step of small tasks under full
/// load: by time, the graph's time by its number of steps times the maximum of steps per second; and
/// by the processor time that all processes together spend on a step.
pub async fn measure(rig: &mut Rig, report: &mut Report) -> Result<()> {
    let maximum = sustained::maximum(rig).await?;
    report.section(
        "shapes: large tasks, each alone; a graph's step compared with linear4's at the maximum",
    );
    let fan_out = run(rig, &format!("fan_out_{CHILDREN}"), templates::fan_out(CHILDREN)).await?;
    report.add(&format!("fan_out_{CHILDREN}_ms"), millis(fan_out.time));
    let chain = run(rig, &format!("chain_{CHAIN}"), templates::chain(CHAIN)).await?;
    report.add(&format!("chain_{CHAIN}_ms"), millis(chain.time));
    report.add(&format!("chain_{CHAIN}_step_ms"), millis(chain.time) / CHAIN as f64);
    let (layers, width) = GRAPH;
    let steps = layers * width;
    let graph = run(rig, &format!("graph_{steps}"), templates::layers(layers, width)).await?;
    add_graph(report, steps, &graph, maximum);
    Ok(())
}

/// What one task took.
struct Cost {
    time: Duration,
    /// Of all processes together, in seconds.
    cpu_s: f64,
}

async fn run(rig: &mut Rig, name: &str, yaml: String) -> Result<Cost> {
    rig.client.register_template(yaml).await?;
    once(rig, name).await?;
    let before = rig.processes()?.cpu()?;
    let mut times = Vec::with_capacity(TASKS);
    for _ in 0..TASKS {
        times.push(once(rig, name).await?);
    }
    let spent = processes::spent(&before, &rig.processes()?.cpu()?);
    rig.was_busy();
    times.sort_unstable();
    Ok(Cost { time: times[TASKS / 2], cpu_s: spent.values().sum::<f64>() / TASKS as f64 })
}

async fn once(rig: &Rig, name: &str) -> Result<Duration> {
    let begun = Instant::now();
    let task = NewTask::of("arithmetic", name).context(&json!({"n": 0}))?;
    let task = rig.client.create_task(task).await?.task_id;
    let ended = rig.client.wait_for_task(&task, PATIENCE).await?;
    let time = begun.elapsed();
    ensure!(ended.state() == TaskState::Complete, "{name} came to {:?}", ended.state());
    Ok(time)
}

fn add_graph(report: &mut Report, steps: usize, graph: &Cost, maximum: Maximum) {
    let name = format!("graph_{steps}");
    let step_s = graph.time.as_secs_f64() / steps as f64;
    report.add(&format!("{name}_ms"), millis(graph.time));
    report.add(&format!("{name}_step_ms"), 1e3 * step_s);
    report.add(&format!("{name}_step_time_per_small_step"), step_s * maximum.steps_per_s);
    let cpu_s = graph.cpu_s / steps as f64;
    report.add(&format!("{name}_step_cpu_per_small_step"), cpu_s / maximum.cpu_s_per_step);
}

fn millis(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}
