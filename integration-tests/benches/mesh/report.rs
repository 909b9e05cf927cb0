//! The figures, for people and for programs, and what they are meant to be.

/// What a figure is meant to be, at most or at least.
enum Target {
    AtMost(f64),
    AtLeast(f64),
}

use Target::{AtLeast, AtMost};

/// On 2 cores and one disk, with everything on the one machine.
const TARGETS: &[(&str, Target)] = &[
    ("linear4_p50_ms", AtMost(8.0)),
    ("linear4_p99_ms", AtMost(16.0)),
    ("further_step_ms", AtMost(2.0)),
    ("linear4_p50_per_floor", AtMost(2.0)),
    ("throughput_steps_per_s", AtLeast(3_000.0)),
    ("throughput_share_of_database_alone_percent", AtLeast(35.0)),
    ("commits_per_step", AtMost(0.1)),
    ("row_writes_per_step", AtMost(20.0)),
    ("wal_bytes_per_step", AtMost(6_000.0)),
    ("load_50_percent_p99_per_idle_p50", AtMost(4.0)),
    ("fan_out_1000_ms", AtMost(1_000.0)),
    ("graph_10000_step_time_per_small_step", AtMost(2.0)),
    ("graph_10000_step_cpu_per_small_step", AtMost(2.0)),
    ("with_1m_finished_tasks_linear4_p50_ratio", AtMost(1.1)),
    ("with_1m_finished_tasks_steps_per_s_ratio", AtLeast(0.9)),
    ("snapshot_linear4_p50_ratio", AtMost(2.0)),
    ("snapshot_steps_per_s_ratio", AtLeast(0.5)),
    // Bounded: no more than noise above the half before.
    ("bloat_dead_tuples_second_half_ratio", AtMost(1.5)),
    ("recovery_lost_tasks", AtMost(0.0)),
    ("overload_share_of_maximum_percent", AtLeast(90.0)),
    ("overload_failed_otherwise_tasks", AtMost(0.0)),
    ("overload_lost_tasks", AtMost(0.0)),
    ("idle_queries_per_s", AtMost(2.0)),
    ("idle_cpu_percent", AtMost(1.0)),
    ("rss_mib_gateway", AtMost(30.0)),
    ("rss_mib_task_request", AtMost(30.0)),
    ("rss_mib_step_enqueuer", AtMost(30.0)),
    ("rss_mib_result_processor", AtMost(30.0)),
    ("rss_mib_finalizer", AtMost(30.0)),
];

impl Target {
    fn is_met(&self, figure: f64) -> bool {
        match self {
            AtMost(most) => figure <= *most,
            AtLeast(least) => figure >= *least,
        }
    }

    fn text(&self) -> String {
        match self {
            AtMost(most) => format!("at most {most}"),
            AtLeast(least) => format!("at least {least}"),
        }
    }
}

/// Figures in the order they were measured, each below its section's heading.
pub struct Report {
    heading: &'static str,
    figures: Vec<Figure>,
}

struct Figure {
    heading: &'static str,
    name: String,
    value: f64,
}

impl Report {
    pub fn new() -> Self {
        Self { heading: "", figures: Vec::new() }
    }

    /// Puts what follows below a heading.
    pub fn section(&mut self, heading: &'static str) {
        eprintln!("— {heading}");
        self.heading = heading;
    }

    pub fn add(&mut self, name: &str, value: f64) {
        eprintln!("{name}: {value:.3}");
        self.figures.push(Figure { heading: self.heading, name: name.to_owned(), value });
    }

    /// A figure that has been measured before.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    pub fn print(&self) {
        let width = self.figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
        let mut heading = "";
        for figure in &self.figures {
            if figure.heading != heading {
                heading = figure.heading;
                println!("\n{heading}");
            }
            let Figure { name, value, .. } = figure;
            println!("  {name:width$}  {value:>12.3}{}", verdict(name, *value));
        }
    }

    pub fn json(&self) -> String {
        let figures = self.figures.iter();
        let map: serde_json::Map<String, serde_json::Value> =
            figures.map(|figure| (figure.name.clone(), figure.value.into())).collect();
        serde_json::Value::Object(map).to_string() + "\n"
    }
}

/// The target of a figure, and whether it is missed; nothing if it has none.
fn verdict(name: &str, value: f64) -> String {
    let Some((_, target)) = TARGETS.iter().find(|(of, _)| *of == name) else {
        return String::new();
    };
    let missed = if target.is_met(value) { "" } else { "  MISSED" };
    format!("  {}{missed}", target.text())
}
