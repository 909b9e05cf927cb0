//! The steps as they move: redrawn in place on a terminal, line by line elsewhere.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use tasker_client::v1::StepState;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{
    cases::Case,
    follow::{Happening, name},
    mesh::Steps,
    report::milliseconds,
};

/// Often enough to look alive.
const FRAME: Duration = Duration::from_millis(50);
/// Rows that surely fit on a terminal.
const MOST_ROWS: usize = 20;

/// One task on the screen.
pub(crate) struct Row {
    name: String,
    /// In dependency order.
    steps: Vec<(String, StepState)>,
    /// The newest thing that happened.
    latest: String,
}

pub(crate) fn rows(cases: &[Case], steps: &Steps) -> Vec<Row> {
    let row = |case: &Case| {
        let of = (case.namespace.to_owned(), case.template.to_owned());
        let names = steps.get(&of).into_iter().flatten();
        Row {
            name: case.name.clone(),
            steps: names.map(|name| (name.clone(), StepState::Pending)).collect(),
            latest: String::new(),
        }
    };
    cases.iter().map(row).collect()
}

/// Shows what happens until nothing more does.
pub(crate) async fn show(
    rows: Vec<Row>,
    news: mpsc::Receiver<(usize, Happening)>,
) -> io::Result<()> {
    if io::stdout().is_terminal() { draw(rows, news).await } else { print(rows, news).await }
}

async fn draw(mut rows: Vec<Row>, mut news: mpsc::Receiver<(usize, Happening)>) -> io::Result<()> {
    println!("· waiting   ○ queued   ◐ running   ↻ to be tried again   ● done   ✗ failed\n");
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut drawn, mut changed) = (0, true);
    loop {
        tokio::select! {
            happened = news.recv() => match happened {
                Some((number, happening)) => {
                    rows[number].take(happening);
                    changed = true;
                }
                None => {
                    redraw(&rows, drawn)?;
                    return Ok(());
                }
            },
            _ = frames.tick(), if changed => {
                drawn = redraw(&rows, drawn)?;
                changed = false;
            }
        }
    }
}

/// Draws over the `drawn` lines of the last time. Returns how many there are now.
fn redraw(rows: &[Row], drawn: usize) -> io::Result<usize> {
    let mut out = io::stdout().lock();
    if drawn > 0 {
        write!(out, "\x1b[{drawn}A")?;
    }
    for row in rows.iter().take(MOST_ROWS) {
        writeln!(out, "\x1b[2K{}", row.line())?;
    }
    let hidden = rows.len().saturating_sub(MOST_ROWS);
    if hidden > 0 {
        writeln!(out, "\x1b[2K… and {hidden} more")?;
    }
    out.flush()?;
    Ok(rows.len().min(MOST_ROWS) + usize::from(hidden > 0))
}

async fn print(rows: Vec<Row>, mut news: mpsc::Receiver<(usize, Happening)>) -> io::Result<()> {
    let began = Instant::now();
    while let Some((number, happening)) = news.recv().await {
        if happening.is_passing() {
            continue;
        }
        let (name, what) = (&rows[number].name, happening.to_string());
        writeln!(io::stdout(), "{:>7.3} s  {name:<14} {what}", began.elapsed().as_secs_f64())?;
    }
    Ok(())
}

impl Happening {
    /// Whether something follows at once: too much for lines that stay.
    fn is_passing(&self) -> bool {
        use StepState::{
            Enqueued, EnqueuedAsErrorForOrchestration, EnqueuedForOrchestration, Pending,
        };
        match self {
            Self::Step { state, .. } => matches!(
                state,
                Pending | Enqueued | EnqueuedForOrchestration | EnqueuedAsErrorForOrchestration
            ),
            Self::Settled { .. } => false,
        }
    }
}

impl Row {
    fn take(&mut self, happening: Happening) {
        self.latest = happening.to_string();
        if let Happening::Step { name, state, .. } = happening {
            match self.steps.iter_mut().find(|(known, _)| *known == name) {
                Some((_, current)) => *current = state,
                None => self.steps.push((name, state)),
            }
        }
    }

    fn line(&self) -> String {
        let bar: String = self.steps.iter().map(|(_, state)| glyph(*state)).collect();
        let latest: String = self.latest.chars().take(50).collect();
        format!("{:<14} {bar:<8}  {latest}", self.name)
    }
}

impl std::fmt::Display for Happening {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Step { name: step, state, attempt } => {
                write!(out, "{step}: {}", name(state.as_str_name(), "STEP_STATE_"))?;
                if *attempt > 1 { write!(out, ", attempt {attempt}") } else { Ok(()) }
            }
            Self::Settled { how, latency } => write!(out, "{how} after {}", milliseconds(*latency)),
        }
    }
}

fn glyph(state: StepState) -> char {
    match state {
        StepState::Unspecified | StepState::Pending => '·',
        StepState::Enqueued => '○',
        StepState::InProgress
        | StepState::EnqueuedForOrchestration
        | StepState::EnqueuedAsErrorForOrchestration => '◐',
        StepState::WaitingForRetry => '↻',
        StepState::Complete | StepState::ResolvedManually => '●',
        StepState::Error => '✗',
        StepState::Cancelled => '–',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_where_every_step_is() {
        let step = |name: &str| (name.to_owned(), StepState::Pending);
        let steps = vec![step("a"), step("b"), step("c")];
        let mut row = Row { name: "order 1".to_owned(), steps, latest: String::new() };
        for (step, state, attempt) in
            [("a", StepState::Complete, 1), ("b", StepState::WaitingForRetry, 2)]
        {
            row.take(Happening::Step { name: step.to_owned(), state, attempt });
        }
        assert_eq!(row.line(), "order 1        ●↻·       b: waiting for retry, attempt 2");
    }
}
