//! The graphs that are checked: the smallest that have each shape.

/// A template's steps. Dependencies come before dependants.
#[derive(Debug, Clone)]
pub(crate) struct Graph {
    steps: Vec<Declared>,
    batch: Option<Batch>,
}

#[derive(Debug, Clone, Default)]
struct Declared {
    parents: Vec<usize>,
    decides: bool,
    born_by: Option<usize>,
}

/// How a plan of the first step is run: as many workers as it plans, the second step being the first of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    /// The most that it plans.
    pub(crate) most: usize,
    /// The most of them that may be in queues or at workers at once.
    pub(crate) parallelism: usize,
    pub(crate) fails_fast: bool,
}

impl Graph {
    /// One after the other.
    pub(crate) fn chain(steps: usize) -> Self {
        Self::of((0..steps).map(|step| after(step.checked_sub(1))).collect())
    }

    /// Side by side.
    pub(crate) fn side_by_side(steps: usize) -> Self {
        Self::of((0..steps).map(|_| after([])).collect())
    }

    /// One unlocks two.
    pub(crate) fn fork() -> Self {
        Self::of(vec![after([]), after([0]), after([0])])
    }

    /// Two unlock one.
    pub(crate) fn join() -> Self {
        Self::of(vec![after([]), after([]), after([0, 1])])
    }

    /// One unlocks two, which unlock one.
    pub(crate) fn diamond() -> Self {
        Self::of(vec![after([]), after([0]), after([0]), after([1, 2])])
    }

    /// A decision between two branches, and a step that waits for those that were chosen.
    pub(crate) fn decision() -> Self {
        let born = |declared: Declared| Declared { born_by: Some(0), ..declared };
        let decision = Declared { decides: true, ..after([]) };
        Self::of(vec![decision, born(after([0])), born(after([0])), born(after([1, 2]))])
    }

    /// A plan, its workers, and a step that waits for all of them.
    pub(crate) fn batch(batch: Batch) -> Self {
        let born = |declared: Declared| Declared { born_by: Some(0), ..declared };
        let workers = 1..=batch.most;
        let plan = Declared { decides: true, ..after([]) };
        let run = workers.clone().map(|_| born(after([0])));
        let steps = [plan].into_iter().chain(run).chain([born(after(workers))]);
        Self { steps: steps.collect(), batch: Some(batch) }
    }

    fn of(steps: Vec<Declared>) -> Self {
        Self { steps, batch: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// The batch that a step is a worker of.
    pub(crate) fn batch_of(&self, step: usize) -> Option<Batch> {
        self.batch.filter(|batch| (1..=batch.most).contains(&step))
    }

    /// All that may be workers of the batch.
    pub(crate) fn workers(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.batch.map_or(0, |batch| batch.most)
    }

    /// Whether its result says what is born.
    pub(crate) fn expands(&self, step: usize) -> bool {
        self.steps[step].decides
    }

    /// Whether it is born with its task, or only by a decision.
    pub(crate) fn is_born_with_the_task(&self, step: usize) -> bool {
        self.steps[step].born_by.is_none()
    }

    pub(crate) fn parents(&self, step: usize) -> &[usize] {
        &self.steps[step].parents
    }

    pub(crate) fn children(&self, step: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.len()).filter(move |child| self.steps[*child].parents.contains(&step))
    }

    /// Those that wait for its end. Workers are born when their plan is taken, and wait for places.
    pub(crate) fn unlocked_by(&self, step: usize) -> impl Iterator<Item = usize> + '_ {
        self.children(step).filter(|child| self.batch_of(*child).is_none())
    }

    /// What a step may choose: nothing, unless it decides or plans.
    pub(crate) fn choices(&self, step: usize) -> Vec<Vec<usize>> {
        if !self.steps[step].decides {
            return vec![Vec::new()];
        }
        if let Some(batch) = self.batch {
            return (1..=batch.most).map(|last| (1..=last).collect()).collect();
        }
        self.children(step).fold(vec![Vec::new()], |chosen, child| {
            let with_it = chosen.iter().map(|others| [others.as_slice(), &[child]].concat());
            with_it.chain(chosen.clone()).collect()
        })
    }

    /// The steps that are born by a choice: the chosen ones, and what waits for any of them.
    pub(crate) fn births(&self, decision: usize, chosen: &[usize]) -> Vec<usize> {
        let mut born = chosen.to_vec();
        let later = (0..self.len()).filter(|step| self.steps[*step].born_by == Some(decision));
        for step in later.filter(|step| !self.steps[*step].parents.contains(&decision)) {
            if self.steps[step].parents.iter().any(|parent| born.contains(parent)) {
                born.push(step);
            }
        }
        born
    }
}

fn after(parents: impl IntoIterator<Item = usize>) -> Declared {
    Declared { parents: parents.into_iter().collect(), ..Declared::default() }
}
