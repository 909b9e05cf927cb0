//! Plans as they ran, by `auto_explain`, with the time that each node took itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::File,
    io::{BufRead as _, BufReader, Seek as _, SeekFrom},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use tasker_private_postgres::PrivatePostgres;

use crate::{
    folder::Folder,
    statements::{Names, OURS, shortened},
};

/// How many statements are shown, and nodes of each.
const STATEMENTS_SHOWN: usize = 12;
const NODES_SHOWN: usize = 8;

/// The log of the server, from a place on.
#[derive(Debug)]
pub struct Plans {
    log: PathBuf,
    from: u64,
}

/// Plans of the same shape, added up; the statement that took most comes first.
#[derive(Debug)]
pub struct Explained(Vec<Plan>);

#[derive(Debug, Default)]
struct Plan {
    name: String,
    runs: usize,
    /// Of all runs, in ms.
    total: f64,
    /// In the order of the plan.
    nodes: Vec<Node>,
    /// The plan that took longest, with its time.
    slowest: (f64, String),
}

/// One node, over all runs.
#[derive(Debug, Default, Clone)]
struct Node {
    depth: usize,
    label: String,
    /// Time with what is below it, and without, in ms.
    with_children: f64,
    alone: f64,
    rows: f64,
    loops: f64,
    blocks: f64,
    wal_bytes: f64,
    /// The CTE that this node computes, or that it reads.
    computes: Option<String>,
    reads: Option<String>,
}

impl Plans {
    /// Has every statement explained from now on; with `nested`, those within functions and triggers
    /// too, whose callers are then slower by the explaining.
    pub async fn begin(looking: &PgPool, postgres: &PrivatePostgres, nested: bool) -> Result<Self> {
        let log = postgres.data_dir().join("profile_log/log.json");
        let from = log.metadata().with_context(|| log.display().to_string())?.len();
        set(looking, "log_nested_statements", if nested { "on" } else { "off" }).await?;
        set(looking, "log_min_duration", "0").await?;
        Ok(Self { log, from })
    }

    /// Ends that, and reads what was logged.
    pub async fn end(self, looking: &PgPool) -> Result<Explained> {
        set(looking, "log_min_duration", "-1").await?;
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.from))?;
        let names = Names::read();
        let mut plans: BTreeMap<(String, String), Plan> = BTreeMap::new();
        for line in BufReader::new(file).lines() {
            let entry: Value = serde_json::from_str(&line?).context("a line of the log")?;
            let message = entry["message"].as_str().unwrap_or_default();
            let Some((duration, plan)) = message.split_once(" plan:") else { continue };
            let took = duration.split_whitespace().nth(1).context("no duration")?.parse()?;
            let explained: Value = serde_json::from_str(plan).context("a plan in the log")?;
            let query = explained["Query Text"].as_str().unwrap_or_default();
            if !query.starts_with(OURS) {
                add(&mut plans, names.of(query), took, plan, &explained);
            }
        }
        let mut plans: Vec<_> = plans.into_values().collect();
        plans.sort_by(|a, b| b.total.total_cmp(&a.total));
        Ok(Explained(plans))
    }
}

async fn set(looking: &PgPool, name: &str, value: &str) -> Result<()> {
    // Backends hear of it before their next statement.
    let set = format!("{OURS} ALTER SYSTEM SET auto_explain.{name} = {value}");
    sqlx::query(AssertSqlSafe(set)).execute(looking).await?;
    let reload = format!("{OURS} SELECT pg_reload_conf()");
    sqlx::query(AssertSqlSafe(reload)).execute(looking).await?;
    Ok(())
}

fn add(
    plans: &mut BTreeMap<(String, String), Plan>,
    name: String,
    took: f64,
    plan: &str,
    explained: &Value,
) {
    let mut nodes = Vec::new();
    walk(&explained["Plan"], 0, &mut nodes);
    without_their_ctes(&mut nodes);
    for trigger in explained["Triggers"].as_array().into_iter().flatten() {
        let what = trigger["Constraint Name"].as_str().or(trigger["Trigger Name"].as_str());
        let time = number(trigger, "Time");
        nodes.push(Node {
            label: format!("Trigger {}", what.unwrap_or_default()),
            with_children: time,
            alone: time,
            loops: number(trigger, "Calls"),
            ..Node::default()
        });
    }
    let shape: Vec<_> = nodes.iter().map(|node| format!("{}{}", node.depth, node.label)).collect();
    let sum = plans.entry((name.clone(), shape.join("\n"))).or_default();
    if sum.nodes.is_empty() {
        sum.name = name;
        sum.nodes = nodes;
    } else {
        for (sum, node) in sum.nodes.iter_mut().zip(nodes) {
            sum.add(&node);
        }
    }
    sum.runs += 1;
    sum.total += took;
    if took >= sum.slowest.0 {
        sum.slowest = (took, plan.to_owned());
    }
}

/// Lists a node and those below it; the time of each still has that of the CTEs it has begun.
fn walk(plan: &Value, depth: usize, nodes: &mut Vec<Node>) {
    let loops = number(plan, "Actual Loops");
    let with_children = number(plan, "Actual Total Time") * loops;
    let children = plan["Plans"].as_array().map(Vec::as_slice).unwrap_or_default();
    let blocks =
        |plan: &Value| number(plan, "Shared Hit Blocks") + number(plan, "Shared Read Blocks");
    let below = |figure: &dyn Fn(&Value) -> f64| children.iter().map(figure).sum::<f64>();
    // A CTE runs as it is read, so in the time of its readers.
    let time_below = below(&|child| {
        let time = number(child, "Actual Total Time") * number(child, "Actual Loops");
        if cte_of(child).is_some() { 0.0 } else { time }
    });
    nodes.push(Node {
        depth,
        label: label(plan),
        with_children,
        alone: (with_children - time_below).max(0.0),
        rows: number(plan, "Actual Rows") * loops,
        loops,
        blocks: (blocks(plan) - below(&blocks)).max(0.0),
        wal_bytes: (number(plan, "WAL Bytes") - below(&|child| number(child, "WAL Bytes")))
            .max(0.0),
        computes: cte_of(plan).map(str::to_owned),
        reads: plan["CTE Name"].as_str().map(str::to_owned),
    });
    for child in children {
        walk(child, depth + 1, nodes);
    }
}

/// Takes from the readers of each CTE the time that computing it took.
fn without_their_ctes(nodes: &mut [Node]) {
    let computed: Vec<(String, f64)> = nodes
        .iter()
        .filter_map(|node| Some((node.computes.clone()?, node.with_children)))
        .collect();
    for (cte, time) in computed {
        let readers = |node: &&mut Node| node.reads.as_ref() == Some(&cte);
        let read: f64 = nodes.iter_mut().filter(readers).map(|node| node.alone).sum();
        let kept = if read > time { (read - time) / read } else { 0.0 };
        nodes.iter_mut().filter(readers).for_each(|node| node.alone *= kept);
    }
}

fn cte_of(plan: &Value) -> Option<&str> {
    plan["Subplan Name"].as_str()?.strip_prefix("CTE ")
}

fn number(plan: &Value, name: &str) -> f64 {
    plan[name].as_f64().unwrap_or_default()
}

/// For example `Update on steps`, `Index Scan steps_pkey`, `CTE Scan judged`.
fn label(plan: &Value) -> String {
    let text = |name: &str| plan[name].as_str();
    let kind = match text("Operation") {
        Some(operation) => format!("{operation} on"),
        None => text("Node Type").unwrap_or_default().to_owned(),
    };
    let of = ["Index Name", "Relation Name", "CTE Name", "Function Name"];
    let of = of.into_iter().find_map(text).unwrap_or_default();
    let within = text("Subplan Name").map(|name| format!(" [{name}]")).unwrap_or_default();
    format!("{kind} {of}{within}").replace("  ", " ").trim().to_owned()
}

impl Node {
    fn add(&mut self, other: &Self) {
        self.with_children += other.with_children;
        self.alone += other.alone;
        self.rows += other.rows;
        self.loops += other.loops;
        self.blocks += other.blocks;
        self.wal_bytes += other.wal_bytes;
    }

    fn line(&self, runs: f64) -> String {
        format!(
            "{:>9.4} {:>9.4} {:>9.1} {:>9.1} {:>9.1} {:>9.0}",
            self.alone / runs,
            self.with_children / runs,
            self.rows / runs,
            self.loops / runs,
            self.blocks / runs,
            self.wal_bytes / runs
        )
    }
}

const HEAD: &str = "    alone   with it      rows     loops    blocks       WAL";

impl Explained {
    /// Adds the plans of statements that are not here.
    pub fn with_others_of(mut self, nested: Self) -> Self {
        let here: BTreeSet<_> = self.0.iter().map(|plan| plan.name.clone()).collect();
        self.0.extend(nested.0.into_iter().filter(|plan| !here.contains(&plan.name)));
        self.0.sort_by(|a, b| b.total.total_cmp(&a.total));
        self
    }

    pub fn print(&self) {
        for plan in self.0.iter().take(STATEMENTS_SHOWN) {
            println!("{}", plan.head());
            println!("  {HEAD}");
            let mut nodes: Vec<_> = plan.nodes.iter().collect();
            nodes.sort_by(|a, b| b.alone.total_cmp(&a.alone));
            for node in nodes.into_iter().take(NODES_SHOWN) {
                println!("  {}  {}", node.line(plan.runs as f64), node.label);
            }
        }
    }

    /// For each statement, its plan with means, and the JSON of its slowest run.
    pub fn save(&self, folder: &Folder) -> Result<()> {
        for (nth, plan) in self.0.iter().enumerate() {
            let mut text = format!("{}\n{HEAD}\n", plan.head());
            for node in &plan.nodes {
                let indent = "  ".repeat(node.depth + 1);
                writeln!(text, "{}{indent}{}", node.line(plan.runs as f64), node.label)?;
            }
            let name: String = shortened(&plan.name, 40)
                .chars()
                .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
                .collect();
            folder.write(&format!("{nth:02}-{name}.txt"), &text)?;
            folder.write(&format!("{nth:02}-{name}.json"), &plan.slowest.1)?;
        }
        Ok(())
    }
}

impl Plan {
    fn head(&self) -> String {
        format!(
            "\n{}: {} runs, {:.3} ms each, {:.1} ms in all, {:.1} ms the slowest",
            shortened(&self.name, 70),
            self.runs,
            self.total / self.runs as f64,
            self.total,
            self.slowest.0
        )
    }
}
