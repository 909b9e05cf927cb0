//! What processes cost: processor time, waiting for it, and memory, as Linux tells.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, Result};

/// Linux tells processor time in hundredths of a second, whatever the kernel counts in.
const TICKS_PER_S: f64 = 100.0;

/// Processes by name; several may have one name, and then count together.
pub struct Processes(pub Vec<(String, Process)>);

pub enum Process {
    One(u32),
    /// With its children, also those that have ended.
    Tree(u32),
}

impl Processes {
    /// Processor time so far, in seconds.
    pub fn cpu(&self) -> Result<BTreeMap<String, f64>> {
        let mut cpu = BTreeMap::new();
        for (name, process) in &self.0 {
            let spent = match process {
                Process::One(id) => Times::of(*id)?.own,
                Process::Tree(id) => tree(*id)?,
            };
            *cpu.entry(name.clone()).or_insert(0.0) += spent;
        }
        Ok(cpu)
    }

    /// How long each thread that there is has been ready to run and had no core so far, in seconds. Empty where
    /// Linux does not count it.
    pub fn waited(&self) -> Result<Waited> {
        let mut all = Waited::new();
        for (_, process) in &self.0 {
            match process {
                Process::One(id) => waited(*id, &mut all)?,
                Process::Tree(id) => {
                    waited(*id, &mut all)?;
                    for child in children(*id)? {
                        // An error means that it has ended meanwhile.
                        waited(child, &mut all).ok();
                    }
                }
            }
        }
        Ok(all)
    }

    /// Resident memory, in MiB: of the largest process of each name, without the database's.
    pub fn resident_mib(&self) -> Result<BTreeMap<String, f64>> {
        let mut resident = BTreeMap::new();
        for (name, process) in &self.0 {
            if let Process::One(id) = process {
                let largest: &mut f64 = resident.entry(name.clone()).or_insert(0.0);
                *largest = largest.max(resident_mib(*id)?);
            }
        }
        Ok(resident)
    }
}

/// By thread, in seconds.
pub type Waited = BTreeMap<PathBuf, f64>;

/// What came between two looks, in seconds: processor time by name, or waiting by thread. One that has ended
/// meanwhile is left out.
pub fn spent<K: Ord + Clone>(
    before: &BTreeMap<K, f64>,
    after: &BTreeMap<K, f64>,
) -> BTreeMap<K, f64> {
    let since =
        |(name, now): (&K, &f64)| (name.clone(), now - before.get(name).copied().unwrap_or(0.0));
    after.iter().map(since).collect()
}

struct Times {
    parent: u32,
    own: f64,
    of_ended_children: f64,
}

impl Times {
    fn of(process: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))
            .with_context(|| format!("process {process} cannot be looked at"))?;
        // The name, in brackets, may hold spaces. After it come state and parent; user and system
        // time are the 14th and 15th fields of all, those of ended children the next two.
        let rest = stat.rsplit_once(')').context("no process name")?.1;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let seconds =
            |nth: usize| Ok::<_, anyhow::Error>(fields[nth].parse::<f64>()? / TICKS_PER_S);
        Ok(Self {
            parent: fields[1].parse()?,
            own: seconds(11)? + seconds(12)?,
            of_ended_children: seconds(13)? + seconds(14)?,
        })
    }
}

fn tree(root: u32) -> Result<f64> {
    let times = Times::of(root)?;
    let mut sum = times.own + times.of_ended_children;
    for child in children(root)? {
        // One that has ended meanwhile is counted next time, with its parent.
        sum += Times::of(child).map_or(0.0, |times| times.own);
    }
    Ok(sum)
}

fn children(root: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if Times::of(id).is_ok_and(|times| times.parent == root) {
            children.push(id);
        }
    }
    Ok(children)
}

fn waited(process: u32, all: &mut Waited) -> Result<()> {
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let thread = thread?.path();
        // Time on a core and time in the queue for one, in nanoseconds, and how often it was given one.
        let Ok(text) = fs::read_to_string(thread.join("schedstat")) else { continue };
        let in_queue = text.split_whitespace().nth(1).context("no time in the queue")?;
        all.insert(thread, in_queue.parse::<f64>()? / 1e9);
    }
    Ok(())
}

fn resident_mib(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
    Ok(kib / 1024.0)
}
