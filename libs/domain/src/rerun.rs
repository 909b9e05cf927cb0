//! Running a task again from a step on: which steps begin anew, and which are kept.

use crate::{Ordinal, StepState, Template};

/// How a step of the new task is born.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Birth {
    /// Which step.
    pub ordinal: Ordinal,
    /// The state that it keeps, with its result: `complete` or `resolved_manually`.
    pub kept: Option<StepState>,
    /// How many of its dependencies are not kept.
    pub unmet_dependencies: i32,
}

/// The steps of a task that runs again from a step on. What follows from that step begins anew, and what
/// was not satisfied; `stood` says how steps stood before.
#[must_use]
pub fn births(
    template: &Template,
    from: Ordinal,
    stood: impl Fn(Ordinal) -> Option<StepState>,
) -> Vec<Birth> {
    let mut follows = Vec::with_capacity(template.steps.len());
    let mut kept = Vec::with_capacity(template.steps.len());
    // Dependencies come before dependants: what is asked about them is known.
    let of = |known: &[bool], ordinal: Ordinal| {
        usize::try_from(ordinal.0).ok().and_then(|place| known.get(place).copied()) == Some(true)
    };
    let mut births = Vec::with_capacity(template.steps.len());
    for (ordinal, step) in template.ordinals() {
        let dependencies = || step.dependencies.iter().copied();
        let anew = ordinal == from || dependencies().any(|parent| of(&follows, parent));
        let keeps = stood(ordinal).filter(|state| state.satisfies_dependants() && !anew);
        let unmet = dependencies().filter(|parent| !of(&kept, *parent)).count();
        follows.push(anew);
        kept.push(keeps.is_some());
        let unmet_dependencies = i32::try_from(unmet).expect("a template's steps are bounded");
        births.push(Birth { ordinal, kept: keeps, unmet_dependencies });
    }
    births
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIAMOND: &str = "{namespace: n, name: n, version: 1.0.0, steps: [
        {name: top, handler: {callable: c}},
        {name: left, handler: {callable: c}, dependencies: [top]},
        {name: right, handler: {callable: c}, dependencies: [top]},
        {name: bottom, handler: {callable: c}, dependencies: [left, right]}]}";

    /// Of each step, by name: whether it is kept, and how many dependencies it waits for.
    fn from(name: &str, stood: StepState) -> Vec<(String, bool, i32)> {
        let template = Template::parse(DIAMOND).unwrap();
        let place = template.steps.iter().position(|step| step.name == name).unwrap();
        let from = Ordinal(i32::try_from(place).unwrap());
        let births = births(&template, from, |_| Some(stood));
        let mut births: Vec<_> = births
            .iter()
            .zip(&template.steps)
            .map(|(birth, step)| {
                (step.name.clone(), birth.kept.is_some(), birth.unmet_dependencies)
            })
            .collect();
        births.sort();
        births
    }

    fn born(births: [(&str, bool, i32); 4]) -> Vec<(String, bool, i32)> {
        births.map(|(name, kept, unmet)| (name.to_owned(), kept, unmet)).to_vec()
    }

    #[test]
    fn what_follows_begins_anew_and_the_rest_is_kept() {
        assert_eq!(
            from("left", StepState::Complete),
            born([("bottom", false, 1), ("left", false, 0), ("right", true, 0), ("top", true, 0)])
        );
        assert_eq!(
            from("top", StepState::Complete),
            born([
                ("bottom", false, 2),
                ("left", false, 1),
                ("right", false, 1),
                ("top", false, 0)
            ])
        );
    }

    #[test]
    fn what_was_not_satisfied_begins_anew_wherever_it_is() {
        assert_eq!(
            from("left", StepState::Error),
            born([
                ("bottom", false, 2),
                ("left", false, 1),
                ("right", false, 1),
                ("top", false, 0)
            ])
        );
        assert_eq!(from("bottom", StepState::ResolvedManually)[1], ("left".to_owned(), true, 0));
    }
}
