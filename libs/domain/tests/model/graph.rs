//! The graphs that are checked: the smallest that have each shape.

/// A template's steps. Dependencies come before dependants.
#[derive(Debug, Clone)]
pub(crate) struct Graph(Vec<Declared>);

#[derive(Debug, Clone, Default)]
struct Declared {
    parents: Vec<usize>,
    decides: bool,
    born_by: Option<usize>,
}

impl Graph {
    /// One after the other.
    pub(crate) fn chain(steps: usize) -> Self {
        Self((0..steps).map(|step| after(step.checked_sub(1))).collect())
    }

    /// One unlocks two.
    pub(crate) fn fork() -> Self {
        Self(vec![after([]), after([0]), after([0])])
    }

    /// Two unlock one.
    pub(crate) fn join() -> Self {
        Self(vec![after([]), after([]), after([0, 1])])
    }

    /// One unlocks two, which unlock one.
    pub(crate) fn diamond() -> Self {
        Self(vec![after([]), after([0]), after([0]), after([1, 2])])
    }

    /// A decision between two branches, and a step that waits for those that were chosen.
    pub(crate) fn decision() -> Self {
        let born = |declared: Declared| Declared { born_by: Some(0), ..declared };
        let decision = Declared { decides: true, ..after([]) };
        Self(vec![decision, born(after([0])), born(after([0])), born(after([1, 2]))])
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is born with its task, or only by a decision.
    pub(crate) fn is_born_with_the_task(&self, step: usize) -> bool {
        self.0[step].born_by.is_none()
    }

    pub(crate) fn parents(&self, step: usize) -> &[usize] {
        &self.0[step].parents
    }

    pub(crate) fn children(&self, step: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.len()).filter(move |child| self.0[*child].parents.contains(&step))
    }

    /// What a step may choose: nothing, unless it decides.
    pub(crate) fn choices(&self, step: usize) -> Vec<Vec<usize>> {
        if !self.0[step].decides {
            return vec![Vec::new()];
        }
        self.children(step).fold(vec![Vec::new()], |chosen, child| {
            let with_it = chosen.iter().map(|others| [others.as_slice(), &[child]].concat());
            with_it.chain(chosen.clone()).collect()
        })
    }

    /// The steps that are born by a choice: the chosen ones, and what waits for any of them.
    pub(crate) fn births(&self, decision: usize, chosen: &[usize]) -> Vec<usize> {
        let mut born = chosen.to_vec();
        let later = (0..self.len()).filter(|step| self.0[*step].born_by == Some(decision));
        for step in later.filter(|step| !self.0[*step].parents.contains(&decision)) {
            if self.0[step].parents.iter().any(|parent| born.contains(parent)) {
                born.push(step);
            }
        }
        born
    }
}

fn after(parents: impl IntoIterator<Item = usize>) -> Declared {
    Declared { parents: parents.into_iter().collect(), ..Declared::default() }
}
