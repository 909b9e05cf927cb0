use proptest::{prelude::*, sample::Index};

use super::*;
use crate::expand::tests::{Row, Run, in_the_end, says, step, template, templates};

const DIAMOND: &str = "{name: top, handler: {callable: c}},
    {name: left, handler: {callable: c}, dependencies: [top]},
    {name: right, handler: {callable: c}, dependencies: [top]},
    {name: bottom, handler: {callable: c}, dependencies: [left, right]}";

fn stood(ordinal: i32, state: StepState) -> Stood {
    Stood { ordinal: Ordinal(ordinal), declared: None, state, passed_over: false }
}

fn worker(ordinal: i32, declared: i32, state: StepState) -> Stood {
    Stood { declared: Some(Ordinal(declared)), ..stood(ordinal, state) }
}

/// Of each step that is born, by name and place: whether it is kept, and how much it waits for.
fn born(
    template: &Template,
    from: &str,
    older: &[Stood],
    chosen: &[(&str, &[&str])],
) -> Vec<(String, bool, u32)> {
    let place = |name: &str| {
        let place = template.steps.iter().position(|step| step.name == name);
        Ordinal(i32::try_from(place.unwrap()).unwrap())
    };
    let from = match from.parse() {
        Ok(worker) => Ordinal(worker),
        Err(_) => place(from),
    };
    let chosen = chosen.iter().map(|(decision, names)| {
        (place(decision), names.iter().map(|&name| name.to_owned()).collect())
    });
    let births = births(template, from, older, &chosen.collect());
    let named = births.iter().map(|birth| {
        let name = &template.step(birth.declared).unwrap().name;
        let run = (birth.ordinal != birth.declared).then(|| format!(" at {}", birth.ordinal.0));
        (name.clone() + &run.unwrap_or_default(), birth.kept.is_some(), birth.unmet)
    });
    named.collect()
}

fn expected(births: &[(&str, bool, u32)]) -> Vec<(String, bool, u32)> {
    births.iter().map(|(name, kept, unmet)| ((*name).to_owned(), *kept, *unmet)).collect()
}

/// All steps of a template stand so.
fn all(template: &Template, state: StepState) -> Vec<Stood> {
    template.ordinals().map(|(ordinal, _)| stood(ordinal.0, state)).collect()
}

#[test]
fn what_follows_begins_anew_and_the_rest_is_kept() {
    let diamond = template(DIAMOND);
    let older = all(&diamond, StepState::Complete);
    assert_eq!(
        born(&diamond, "left", &older, &[]),
        expected(&[("top", true, 0), ("left", false, 0), ("right", true, 0), ("bottom", false, 1)])
    );
    assert_eq!(
        born(&diamond, "top", &older, &[]),
        expected(&[
            ("top", false, 0),
            ("left", false, 1),
            ("right", false, 1),
            ("bottom", false, 2)
        ])
    );
}

#[test]
fn what_was_not_satisfied_begins_anew_wherever_it_is() {
    let diamond = template(DIAMOND);
    assert_eq!(
        born(&diamond, "left", &all(&diamond, StepState::Error), &[]),
        expected(&[
            ("top", false, 0),
            ("left", false, 1),
            ("right", false, 1),
            ("bottom", false, 2)
        ])
    );
    let resolved = all(&diamond, StepState::ResolvedManually);
    assert_eq!(born(&diamond, "bottom", &resolved, &[])[1], ("left".to_owned(), true, 0));
}

/// A decision between two branches that meet again, beside another step that the end waits for.
fn approval() -> Template {
    let steps = [
        step("check", "standard", ""),
        step("decide", "decision", "check"),
        step("approve", "standard", "decide"),
        step("review", "standard", "decide"),
        step("other", "standard", ""),
        step("finish", "deferred_convergence", "approve, review, other"),
    ];
    template(&steps.join(","))
}

#[test]
fn a_decision_that_is_kept_keeps_what_it_chose_and_one_that_begins_anew_has_chosen_nothing() {
    let template = approval();
    let done = |ordinal| stood(ordinal, StepState::Complete);
    let older: Vec<Stood> = [0, 1, 3, 4, 5].map(done).into();
    let chosen: &[(&str, &[&str])] = &[("decide", &["review"])];
    assert_eq!(
        born(&template, "other", &older, chosen),
        expected(&[
            ("check", true, 0),
            ("decide", true, 0),
            ("review", true, 0),
            ("other", false, 0),
            ("finish", false, 1)
        ])
    );
    assert_eq!(
        born(&template, "review", &older, chosen),
        expected(&[
            ("check", true, 0),
            ("decide", true, 0),
            ("review", false, 0),
            ("other", true, 0),
            ("finish", false, 1)
        ])
    );
    // What comes together waits until it is decided again.
    let anew = [("check", true, 0), ("decide", false, 0), ("other", true, 0)];
    assert_eq!(born(&template, "decide", &older, chosen), expected(&anew));
}

/// A plan of a batch of which two may run at once, and what waits for it.
fn batch() -> Template {
    let plan =
        "{name: plan, type: batchable, handler: {callable: c}, batch_config: {parallelism: 2}}";
    let steps = [
        plan.to_owned(),
        step("work", "batch_worker", "plan"),
        step("sum", "deferred_convergence", "work"),
        step("tell", "standard", "sum"),
    ];
    template(&steps.join(","))
}

#[test]
fn a_plan_that_is_kept_keeps_its_workers_and_those_that_run_again_have_their_places() {
    use StepState::{Complete, Error};

    let template = batch();
    let mut older: Vec<Stood> = [0, 2, 3].map(|ordinal| stood(ordinal, Complete)).into();
    older.extend([4, 5, 6, 7].map(|ordinal| worker(ordinal, 1, Complete)));
    // One worker alone, by its place.
    assert_eq!(
        born(&template, "5", &older, &[]),
        expected(&[
            ("plan", true, 0),
            ("sum", false, 1),
            ("tell", false, 1),
            ("work at 4", true, 0),
            ("work at 5", false, 0),
            ("work at 6", true, 0),
            ("work at 7", true, 0)
        ])
    );
    // With those that had failed: no more than two begin at once.
    for failed in [3, 5, 6] {
        older[failed].state = Error;
    }
    older[1].state = StepState::Pending;
    older[2].state = StepState::Pending;
    assert_eq!(
        born(&template, "sum", &older, &[])[1..],
        expected(&[
            ("sum", false, 3),
            ("tell", false, 1),
            ("work at 4", false, 0),
            ("work at 5", true, 0),
            ("work at 6", false, 0),
            ("work at 7", false, 1)
        ])
    );
    assert_eq!(born(&template, "plan", &older, &[]), expected(&[("plan", false, 0)]));
}

#[test]
fn a_failure_that_counts_as_done_has_another_chance_where_what_went_on_without_it_begins_anew() {
    let template = batch();
    let mut older: Vec<Stood> = [0, 2, 3].map(|ordinal| stood(ordinal, StepState::Complete)).into();
    older.push(worker(4, 1, StepState::Complete));
    older.push(Stood { passed_over: true, ..worker(5, 1, StepState::Error) });
    let of_the_failed = |from| born(&template, from, &older, &[]).pop().unwrap();
    assert_eq!(of_the_failed("tell"), ("work at 5".to_owned(), true, 0));
    assert_eq!(of_the_failed("sum"), ("work at 5".to_owned(), false, 0));
    assert_eq!(of_the_failed("5"), ("work at 5".to_owned(), false, 0));
    assert_eq!(born(&template, "tell", &older, &[])[1], ("sum".to_owned(), true, 0));
}

/// The steps of the template that come after one, by any way.
fn all_after(template: &Template, ordinal: Ordinal) -> BTreeSet<Ordinal> {
    let mut found = BTreeSet::new();
    let mut open = vec![ordinal];
    while let Some(step) = open.pop().and_then(|it| template.step(it)) {
        open.extend(step.dependants.iter().filter(|it| found.insert(**it)));
    }
    found
}

/// The steps of a run, those that are not done in a state that `seeds` say; some that are done by hand, and
/// some workers done though they failed.
fn older(run: &Run<'_>, seeds: &[u8]) -> Vec<Stood> {
    use StepState::{Complete, Error, InProgress, Pending, ResolvedManually};

    let step = |(ordinal, row): (&Ordinal, &Row)| {
        let seed = seeds[usize::try_from(ordinal.0).unwrap() % seeds.len()];
        let kind = run.template.step(row.declared).unwrap().kind;
        let (state, passed_over) = match (row.done, seed % 3, kind) {
            (true, 0, Kind::BatchWorker) => (Error, true),
            (true, 1, Kind::Standard) => (ResolvedManually, false),
            (true, ..) => (Complete, false),
            (false, 0, _) => (Error, false),
            (false, 1, _) if row.unmet == 0 => (InProgress, false),
            (false, ..) => (Pending, false),
        };
        let declared = (row.declared != *ordinal).then_some(row.declared);
        Stood { ordinal: *ordinal, declared, state, passed_over }
    };
    run.rows.iter().map(step).collect()
}

proptest! {
    #[test]
    fn a_task_that_runs_again_keeps_what_does_not_follow_and_comes_to_its_end(
        template in templates(),
        seeds in prop::collection::vec(any::<u8>(), 32),
        other_seeds in prop::collection::vec(any::<u8>(), 32),
        order in prop::collection::vec(any::<Index>(), 8),
        turns in 0usize..60,
        from in any::<Index>(),
    ) {
        let (before, later) = (says(&template, &seeds), says(&template, &other_seeds));
        let run = Run::start(&template).completed_for(turns, &before, &order);
        let older = older(&run, &other_seeds);
        let from = older[from.index(older.len())];
        let births = births(&template, from.ordinal, &older, &run.chosen);

        // Of the older's steps, and the one itself is among them and begins anew.
        let by_place: BTreeMap<Ordinal, &Stood> =
            older.iter().map(|step| (step.ordinal, step)).collect();
        let first = births.iter().find(|birth| birth.ordinal == from.ordinal);
        prop_assert_eq!(first.map(|birth| birth.kept), Some(None));
        let follows = all_after(&template, from.declared());
        for birth in &births {
            let step = by_place[&birth.ordinal];
            let declared = step.declared();
            let anew = birth.ordinal == from.ordinal
                || (from.declared.is_none() && declared == from.ordinal)
                || follows.contains(&declared);
            prop_assert_eq!(birth.declared, declared);
            if birth.kept.is_some() {
                prop_assert!(!anew && birth.kept == Some(step.state), "{:?}", birth);
                prop_assert!(step.state.satisfies_dependants() || step.passed_over);
            } else if !step.passed_over {
                prop_assert!(anew || !step.state.satisfies_dependants(), "{:?}", birth);
            }
        }
        // What is not born comes after a decision or plan that begins anew.
        let anew = births.iter().filter(|it| it.kept.is_none()).map(|it| it.declared);
        let expanding = anew.filter(|it| template.step(*it).unwrap().kind.expands());
        let waiting: BTreeSet<Ordinal> =
            expanding.flat_map(|it| all_after(&template, it)).collect();
        for step in &older {
            let is_born = births.iter().any(|birth| birth.ordinal == step.ordinal);
            prop_assert!(is_born || waiting.contains(&step.declared()), "{:?} is lost", step);
        }
        // No more workers than may run at once.
        for (ordinal, step) in template.ordinals().filter(|(_, step)| step.kind == Kind::BatchWorker) {
            let open = births.iter().filter(|it| it.declared == ordinal && it.kept.is_none());
            let begin = open.clone().filter(|it| it.unmet == 0).count();
            prop_assert_eq!(begin, open.count().min(2), "{}", step.name);
        }

        // It comes to its end, whatever is decided this time.
        let rows = births.iter().map(|birth| {
            let (declared, unmet) = (birth.declared, birth.unmet);
            (birth.ordinal, Row { declared, unmet, done: birth.kept.is_some() })
        });
        let kept: BTreeSet<Ordinal> =
            births.iter().filter(|it| it.kept.is_some()).map(|it| it.ordinal).collect();
        let chosen = run.chosen.clone().into_iter().filter(|(it, _)| kept.contains(it)).collect();
        let again = Run { template: &template, rows: rows.collect(), chosen };
        let again = again.completed(&later, &order);
        for (ordinal, row) in &again.rows {
            prop_assert!(row.done, "{:?} waits for ever", ordinal);
        }
        let names: BTreeSet<&str> =
            kept.iter().filter_map(|it| Some(template.step(*it)?.name.as_str())).collect();
        let said = |step: &crate::template::Step| {
            if names.contains(step.name.as_str()) { before(step) } else { later(step) }
        };
        prop_assert_eq!(again.existing(), in_the_end(&template, &said));
    }
}
