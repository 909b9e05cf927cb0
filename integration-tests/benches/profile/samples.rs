//! In which functions the processes are, by `perf`.

use std::{collections::BTreeMap, process::Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use crate::folder::Folder;

/// Samples a second; not a divisor of what timers are set to.
const FREQUENCY: &str = "997";
/// How many functions of each process are shown, and kept.
const SHOWN: usize = 12;
const KEPT: usize = 100;

/// `perf`, while it samples.
#[derive(Debug)]
pub struct Sampler {
    recording: Child,
    data: String,
    processes: Vec<(String, u32)>,
}

impl Sampler {
    /// Whether this machine can be sampled.
    ///
    /// # Errors
    /// Says why not.
    pub async fn works() -> Result<()> {
        let mut trial = Command::new("perf");
        trial.args(["record", "-e", "cpu-clock", "-o", "/dev/null", "--", "true"]);
        let output = trial.output().await.context("there is no perf: see --perf")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "perf does not work here: {}", told.trim());
        Ok(())
    }

    /// Begins to sample processes, named by what they do.
    pub fn begin(processes: Vec<(String, u32)>, folder: &Folder) -> Result<Self> {
        let data = folder.path().join("perf.data").display().to_string();
        let ids: Vec<_> = processes.iter().map(|(_, id)| id.to_string()).collect();
        let recording = Command::new("perf")
            // Virtual machines often count no cycles.
            .args(["record", "-q", "-e", "cpu-clock", "-F", FREQUENCY, "-o", &data])
            .args(["-p", &ids.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { recording, data, processes })
    }

    /// Ends it, and shows where each process was most.
    pub async fn end(mut self, folder: &Folder) -> Result<()> {
        let Some(id) = self.recording.id() else { bail!("perf has ended before the load") };
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGINT)?;
        self.recording.wait().await?;
        let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, id) in &self.processes {
            groups.entry(name).or_default().push(id.to_string());
        }
        for (name, ids) in groups {
            let lines = self.report(&ids.join(",")).await?;
            if lines.is_empty() {
                continue;
            }
            println!("\n{name}");
            println!("  {:>8} {:>8}", "", "samples");
            lines.iter().take(SHOWN).for_each(|line| println!("  {line}"));
            folder.write(&format!("{}.txt", name.replace(' ', "-")), &(lines.join("\n") + "\n"))?;
        }
        Ok(())
    }

    /// Functions of some processes by their share of the samples there.
    async fn report(&self, ids: &str) -> Result<Vec<String>> {
        let mut report = Command::new("perf");
        report.args(["report", "-i", &self.data, "--stdio", "-q", "--no-inline", "--pid", ids]);
        report.args(["--sort", "symbol", "-n", "--percentage", "relative"]).stdin(Stdio::null());
        let output = report.output().await?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "perf report: {}", told.trim());
        let text = String::from_utf8_lossy(&output.stdout);
        // "12.34%  56  [.] function  -  -"
        let lines = text.lines().filter_map(|line| {
            let (share, rest) = line.trim().split_once('%')?;
            let (samples, function) = rest.trim().split_once(char::is_whitespace)?;
            Some(format!(
                "{share:>7}% {samples:>8}  {}",
                function.trim_end_matches([' ', '-']).trim()
            ))
        });
        Ok(lines.take(KEPT).collect())
    }
}
