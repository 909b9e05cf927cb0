use std::collections::BTreeSet;

use proptest::{prelude::*, sample::Index};

use super::*;

pub(crate) const LIMITS: Limits = Limits { steps: 1_000, depth: 20 };

pub(crate) fn template(steps: &str) -> Template {
    let yaml = format!("{{namespace: n, name: t, version: 1.0.0, steps: [{steps}]}}");
    Template::parse(&yaml).unwrap_or_else(|found| panic!("{found:?}: {yaml}"))
}

pub(crate) fn step(name: &str, kind: &str, dependencies: &str) -> String {
    format!(
        "{{name: {name}, type: {kind}, handler: {{callable: c}}, dependencies: [{dependencies}]}}"
    )
}

fn names<'t>(template: &'t Template, births: &[Birth]) -> Vec<(&'t str, u32)> {
    let name = |birth: &Birth| (template.step(birth.declared).unwrap().name.as_str(), birth.unmet);
    births.iter().map(name).collect()
}

pub(crate) fn create(names: &[&str]) -> Expansion {
    Expansion::CreateSteps(names.iter().map(|&name| name.to_owned()).collect())
}

#[test]
fn a_step_is_plain_if_nothing_that_waits_for_it_comes_later() {
    let plain = |template: &Template| -> Vec<String> {
        let name = |ordinal: &Ordinal| template.step(*ordinal).unwrap().name.clone();
        plain_steps(template).iter().map(name).collect()
    };
    // What the decision brings comes together; but `second_review` waits for `check`, too.
    let expected = ["approve", "review", "second_review", "finish", "notify"];
    assert_eq!(plain(&approval()), expected);
    let batch = [
        step("other", "standard", ""),
        step("plan", "batchable", ""),
        step("work", "batch_worker", "plan"),
        step("both", "standard", "other, plan"),
        step("sum", "deferred_convergence", "work, other"),
        step("tell", "standard", "both, sum"),
    ];
    // `sum` comes without `work` where there is none, and does not know of `both` then.
    assert_eq!(plain(&template(&batch.join(","))), ["both", "tell"]);
    let chain =
        [step("a", "standard", ""), step("b", "standard", "a"), step("c", "standard", "a, b")];
    assert_eq!(plain(&template(&chain.join(","))), ["a", "b", "c"]);
}

/// A decision between two branches, one of them of two steps, that meet again.
fn approval() -> Template {
    let steps = [
        step("check", "standard", ""),
        step("decide", "decision", "check"),
        step("approve", "standard", "decide"),
        step("review", "standard", "decide"),
        step("second_review", "standard", "review, check"),
        step("finish", "deferred_convergence", "approve, second_review"),
        step("notify", "standard", "finish"),
    ];
    template(&steps.join(","))
}

fn present(ordinal: i32, satisfied: bool) -> Present {
    Present { ordinal: Ordinal(ordinal), declared: None, satisfied }
}

#[test]
fn a_task_is_born_with_what_no_decision_stands_before() {
    let template = approval();
    assert_eq!(names(&template, &first_steps(&template)), [("check", 0), ("decide", 1)]);
}

#[test]
fn a_decision_brings_what_it_chooses_and_all_that_follows_from_it() {
    let template = approval();
    let steps = [present(0, true), present(1, false)];
    let at_decision = || Existing::of(&template, &steps, &BTreeMap::new());
    let decide = Ordinal(1);

    let births = at_decision().expand(decide, Some(&create(&["review"])), &LIMITS).unwrap();
    let expected = [("review", 1), ("second_review", 1), ("finish", 1), ("notify", 1)];
    assert_eq!(names(&template, &births), expected);

    let both = create(&["approve", "review"]);
    let births = at_decision().expand(decide, Some(&both), &LIMITS).unwrap();
    assert!(names(&template, &births).contains(&("finish", 2)));

    // Nothing to converge: what waits for it never comes either.
    let births = at_decision().expand(decide, Some(&Expansion::NoBranches), &LIMITS).unwrap();
    assert_eq!(births, []);
}

#[test]
fn what_a_decision_cannot_create_is_refused_by_name() {
    let template = approval();
    let steps = [present(0, true), present(1, false)];
    let mut existing = Existing::of(&template, &steps, &BTreeMap::new());
    let mut refusal = |names: &[&str]| {
        existing.expand(Ordinal(1), Some(&create(names)), &LIMITS).unwrap_err().to_string()
    };
    assert_eq!(refusal(&["ghost"]), r#""ghost" cannot be created: the template has no such step"#);
    assert!(refusal(&["approve", "second_review"]).contains("does not depend on the decision"));
    assert!(
        refusal(&["review", "approve", "review"])
            .contains(r#""review" cannot be created: it is named twice"#)
    );
    assert!(refusal(&["check"]).contains("does not depend on the decision"));
    assert!(refusal(&["finish"]).contains("it comes by itself"));
}

#[test]
fn only_decisions_decide_and_only_batchable_steps_plan() {
    let template = template(
        &[
            step("decide", "decision", ""),
            step("plan", "batchable", "decide"),
            step("work", "batch_worker", "plan"),
        ]
        .join(","),
    );
    let steps = [present(0, false), present(1, false)];
    let mut existing = Existing::of(&template, &steps, &BTreeMap::new());
    let mut error = |ordinal, said: Option<&Expansion>| {
        existing.expand(Ordinal(ordinal), said, &LIMITS).unwrap_err().error_type()
    };
    assert_eq!(error(0, None), "OUTCOME_MISSING");
    assert_eq!(error(0, Some(&Expansion::NoBatches)), "OUTCOME_MISSING");
    assert_eq!(error(1, Some(&Expansion::NoBranches)), "OUTCOME_MISSING");
    assert_eq!(error(2, Some(&Expansion::NoBatches)), "OUTCOME_UNEXPECTED");
    assert_eq!(error(1, Some(&Expansion::CreateBatches(1_001))), "TOO_MANY_BATCHES");
    assert_eq!(existing.expand(Ordinal(2), None, &LIMITS), Ok(Vec::new()));
}

#[test]
fn a_step_below_two_decisions_comes_when_both_have_chosen_it() {
    let template = template(
        &[
            step("one", "decision", ""),
            step("other", "decision", ""),
            step("both", "standard", "one, other"),
        ]
        .join(","),
    );
    let choose = create(&["both"]);
    let steps = [present(0, false), present(1, false)];
    let mut existing = Existing::of(&template, &steps, &BTreeMap::new());
    assert_eq!(existing.expand(Ordinal(0), Some(&choose), &LIMITS), Ok(Vec::new()));
    let births = existing.expand(Ordinal(1), Some(&choose), &LIMITS).unwrap();
    assert_eq!(names(&template, &births), [("both", 2)]);

    // The same in two commits: the first choice is remembered.
    let steps = [present(0, true), present(1, false)];
    let chosen = [(Ordinal(0), vec!["both".to_owned()])].into();
    let mut later = Existing::of(&template, &steps, &chosen);
    let births = later.expand(Ordinal(1), Some(&choose), &LIMITS).unwrap();
    assert_eq!(names(&template, &births), [("both", 1)]);
    let mut without = Existing::of(&template, &steps, &BTreeMap::new());
    assert_eq!(without.expand(Ordinal(1), Some(&choose), &LIMITS), Ok(Vec::new()));
}

#[test]
fn a_batch_begins_with_as_many_workers_as_it_may_and_what_waits_for_it_waits_for_all() {
    let plan =
        "{name: plan, type: batchable, handler: {callable: c}, batch_config: {parallelism: 2}}";
    let template = template(
        &[
            plan.to_owned(),
            step("work", "batch_worker", "plan"),
            step("sum", "deferred_convergence", "work"),
        ]
        .join(","),
    );
    assert_eq!(names(&template, &first_steps(&template)), [("plan", 0)]);
    let mut existing = Existing::of(&template, &[present(0, false)], &BTreeMap::new());
    let mut other = existing.clone();
    let births = existing.expand(Ordinal(0), Some(&Expansion::CreateBatches(3)), &LIMITS).unwrap();
    let expected = [("work", 0), ("work", 0), ("work", 1), ("sum", 3)];
    assert_eq!(names(&template, &births), expected);
    let places: Vec<_> = births.iter().map(|birth| (birth.ordinal.0, birth.batch)).collect();
    assert_eq!(places, [(3, Some(1)), (4, Some(2)), (5, Some(3)), (2, None)]);

    let births = other.expand(Ordinal(0), Some(&Expansion::NoBatches), &LIMITS).unwrap();
    assert_eq!(names(&template, &births), [("work", 0), ("sum", 1)]);
}

#[test]
fn decisions_go_so_far_and_no_further() {
    let mut steps = vec![step("d0", "decision", "")];
    steps.extend((1..4).map(|n| step(&format!("d{n}"), "decision", &format!("d{}", n - 1))));
    steps.push(step("last", "standard", "d3"));
    let nested = template(&steps.join(","));
    let limits = Limits { steps: 1_000, depth: 3 };
    let steps: Vec<_> = (0..3).map(|ordinal| present(ordinal, ordinal < 2)).collect();
    let mut existing = Existing::of(&nested, &steps, &BTreeMap::new());
    let error = existing.expand(Ordinal(2), Some(&create(&["d3"])), &limits).unwrap_err();
    assert_eq!(error, Unexpandable::TooDeep("d3".to_owned(), 3));
    let deeper = Limits { depth: 4, ..limits };
    assert_eq!(existing.expand(Ordinal(2), Some(&create(&["d3"])), &deeper).unwrap().len(), 1);

    let wide: Vec<_> = (0..4).map(|n| step(&format!("s{n}"), "standard", "d")).collect();
    let wide = template(&format!("{},{}", step("d", "decision", ""), wide.join(",")));
    let mut existing = Existing::of(&wide, &[present(0, false)], &BTreeMap::new());
    let all = create(&["s0", "s1", "s2", "s3"]);
    let error = existing.expand(Ordinal(0), Some(&all), &Limits { steps: 3, depth: 3 });
    assert_eq!(error, Err(Unexpandable::TooManySteps(4, 3)));
}

#[test]
fn a_decision_below_another_is_counted_also_where_a_plan_brings_it() {
    let steps = [
        step("d", "decision", ""),
        step("plan", "batchable", "d"),
        step("work", "batch_worker", "plan"),
        step("join", "deferred_convergence", "work"),
        step("below", "decision", "join"),
        step("last", "standard", "below"),
    ];
    let template = template(&steps.join(","));
    let chosen = BTreeMap::from([(Ordinal(0), vec!["plan".to_owned()])]);
    let mut existing = Existing::of(&template, &[present(0, true), present(1, false)], &chosen);
    let batches = Some(Expansion::CreateBatches(2));
    let mut plan = |depth| {
        let limits = Limits { depth, ..LIMITS };
        existing.expand(Ordinal(1), batches.as_ref(), &limits).map(|births| births.len())
    };
    assert_eq!(plan(1), Err(Unexpandable::TooDeep("below".to_owned(), 1)));
    // The workers, what joins them, and the decision after that.
    assert_eq!(plan(2), Ok(4));
}

/// A run of a template in which every step succeeds.
pub(crate) struct Run<'t> {
    pub(crate) template: &'t Template,
    pub(crate) rows: BTreeMap<Ordinal, Row>,
    pub(crate) chosen: BTreeMap<Ordinal, Vec<String>>,
}

pub(crate) struct Row {
    pub(crate) declared: Ordinal,
    pub(crate) unmet: u32,
    pub(crate) done: bool,
}

impl<'t> Run<'t> {
    pub(crate) fn start(template: &'t Template) -> Self {
        let mut run = Self { template, rows: BTreeMap::new(), chosen: BTreeMap::new() };
        run.add(&first_steps(template));
        run
    }

    fn add(&mut self, births: &[Birth]) {
        for birth in births {
            let row = Row { declared: birth.declared, unmet: birth.unmet, done: false };
            let twice = self.rows.insert(birth.ordinal, row).is_some();
            assert!(!twice, "{birth:?} comes into being twice");
        }
    }

    /// Completes one step after another, whichever `order` says among those that are ready.
    pub(crate) fn completed(
        self,
        said: &impl Fn(&Step) -> Option<Expansion>,
        order: &[Index],
    ) -> Self {
        self.completed_for(usize::MAX, said, order)
    }

    /// The same for so many turns at most.
    pub(crate) fn completed_for(
        mut self,
        turns: usize,
        said: &impl Fn(&Step) -> Option<Expansion>,
        order: &[Index],
    ) -> Self {
        for turn in 0..turns {
            let ready = self.rows.iter().filter(|(_, row)| row.unmet == 0 && !row.done);
            let ready: Vec<Ordinal> = ready.map(|(ordinal, _)| *ordinal).collect();
            if ready.is_empty() {
                break;
            }
            let next = order[turn % order.len()].index(ready.len());
            self.complete(ready[next], said);
        }
        self
    }

    fn complete(&mut self, ordinal: Ordinal, said: &impl Fn(&Step) -> Option<Expansion>) {
        let present: Vec<Present> = self
            .rows
            .iter()
            .map(|(ordinal, row)| Present {
                ordinal: *ordinal,
                declared: (row.declared != *ordinal).then_some(row.declared),
                satisfied: row.done,
            })
            .collect();
        let mut existing = Existing::of(self.template, &present, &self.chosen);
        let declared = self.rows[&ordinal].declared;
        let step = self.template.step(declared).unwrap();
        let said = said(step);
        let births = existing.expand(ordinal, said.as_ref(), &LIMITS).unwrap();
        self.add(&births);
        if let Some(Expansion::CreateSteps(names)) = said {
            self.chosen.insert(ordinal, names);
        }
        self.rows.get_mut(&ordinal).unwrap().done = true;
        for child in &step.dependants {
            if let Some(row) = self.rows.get_mut(child) {
                row.unmet -= 1;
            }
        }
        // A worker leaves its place to the next of its batch.
        if step.kind == Kind::BatchWorker {
            let waits = |row: &&mut Row| row.declared == declared && row.unmet > 0;
            if let Some(row) = self.rows.values_mut().find(waits) {
                row.unmet -= 1;
            }
        }
    }

    pub(crate) fn existing(&self) -> BTreeSet<Ordinal> {
        self.rows.values().map(|row| row.declared).collect()
    }
}

/// What exists in the end, said anew: without time.
pub(crate) fn in_the_end(
    template: &Template,
    said: &impl Fn(&Step) -> Option<Expansion>,
) -> BTreeSet<Ordinal> {
    let mut here = BTreeSet::new();
    for (ordinal, step) in template.ordinals() {
        let comes_from = |parent: &Ordinal| {
            let before = template.step(*parent).unwrap();
            here.contains(parent)
                && match (before.kind, step.kind, said(before)) {
                    (Kind::Decision, Kind::DeferredConvergence, _) => true,
                    (Kind::Decision, _, Some(Expansion::CreateSteps(names))) => {
                        names.contains(&step.name)
                    }
                    (Kind::Decision, ..) => false,
                    _ => true,
                }
        };
        let comes = match step.kind {
            Kind::DeferredConvergence => step.dependencies.iter().any(comes_from),
            _ => step.dependencies.iter().all(comes_from),
        };
        if comes {
            here.insert(ordinal);
        }
    }
    here
}

/// Any template: what each step is, and which of those before it it depends on.
pub(crate) fn templates() -> impl Strategy<Value = Template> {
    let drawn = (0u8..10, prop::collection::vec(any::<Index>(), 0..4));
    prop::collection::vec(drawn, 1..24).prop_map(|drawn| {
        let mut names: Vec<String> = Vec::new();
        let mut workers: Vec<String> = Vec::new();
        let mut steps: Vec<(String, &str, Vec<String>)> = Vec::new();
        for (kind, parents) in drawn {
            let name = format!("s{}", steps.len());
            let of = |from: &[String]| -> Vec<String> {
                let picked = parents.iter().filter(|_| !from.is_empty());
                let picked: BTreeSet<_> = picked.map(|it| it.get(from).clone()).collect();
                picked.into_iter().collect()
            };
            let (kind, dependencies) = match kind {
                0..=3 => ("standard", of(&names)),
                4..=6 => ("decision", of(&names)),
                7 | 8 => {
                    let all: Vec<_> = names.iter().chain(&workers).cloned().collect();
                    ("deferred_convergence", of(&all))
                }
                _ => ("batchable", of(&names)),
            };
            let kind = if kind == "deferred_convergence" && dependencies.is_empty() { "standard" } else { kind };
            steps.push((name.clone(), kind, dependencies));
            if kind == "batchable" {
                let worker = format!("w{}", steps.len());
                steps.push((worker.clone(), "batch_worker", vec![name.clone()]));
                workers.push(worker);
            }
            names.push(name);
        }
        // A decision has something to decide about.
        let decisions: Vec<_> = steps.iter().filter(|(_, kind, _)| *kind == "decision").map(|it| it.0.clone()).collect();
        steps.extend(decisions.into_iter().map(|name| (format!("after_{name}"), "standard", vec![name])));
        let lines: Vec<_> = steps.iter().map(|(name, kind, dependencies)| {
            let config = if *kind == "batchable" { ", batch_config: {parallelism: 2}" } else { "" };
            let dependencies = dependencies.join(", ");
            format!("{{name: {name}, type: {kind}, handler: {{callable: c}}, dependencies: [{dependencies}]{config}}}")
        }).collect();
        template(&lines.join(","))
    })
}

/// What a step says depends on which it is, and not on when.
pub(crate) fn says<'t>(
    template: &'t Template,
    seeds: &'t [u8],
) -> impl Fn(&Step) -> Option<Expansion> + use<'t> {
    let seed = |step: &Step| {
        let [length, second] = [step.name.len() * 7, usize::from(step.name.as_bytes()[1])];
        usize::from(seeds[length % seeds.len()] ^ seeds[second % seeds.len()])
    };
    move |step| match step.kind {
        Kind::Decision => {
            let may = step.dependants.iter().map(|it| template.step(*it).unwrap());
            let may = may.filter(|it| !it.kind.comes_by_itself());
            let chosen = may.enumerate().filter(|(n, _)| (seed(step) >> (n % 8)) & 1 == 1);
            let names: Vec<_> = chosen.map(|(_, it)| it.name.clone()).collect();
            Some(if names.is_empty() {
                Expansion::NoBranches
            } else {
                Expansion::CreateSteps(names)
            })
        }
        Kind::Batchable(_) => Some(match seed(step) % 5 {
            0 => Expansion::NoBatches,
            count => Expansion::CreateBatches(count),
        }),
        _ => None,
    }
}

proptest! {
    #[test]
    fn every_step_that_is_to_come_comes_once_whatever_the_order_and_none_waits_for_ever(
        template in templates(),
        seeds in prop::collection::vec(any::<u8>(), 32),
        one in prop::collection::vec(any::<Index>(), 8),
        other in prop::collection::vec(any::<Index>(), 8),
    ) {
        let said = says(&template, &seeds);
        let run = Run::start(&template).completed(&said, &one);
        for (ordinal, row) in &run.rows {
            prop_assert!(row.done, "{ordinal:?} waits for ever");
        }
        prop_assert_eq!(run.existing(), in_the_end(&template, &said));
        let again = Run::start(&template).completed(&said, &other);
        prop_assert_eq!(run.existing(), again.existing());
    }
}
