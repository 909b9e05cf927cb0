//! Why a step does not run, in words: from what the database says stands in its way.

use std::collections::HashMap;

use tasker_api::{time, v1};
use tasker_domain::{Ordinal, StepState, TaskId, TaskState, Template};
use tasker_store::{Obstacle, Pause, Readiness, TemplateName};
use v1::StepReasonKind as Kind;

use crate::limits::Hold;

/// What is known of a task whose steps are explained.
pub struct Explainer<'a> {
    pub task: TaskId,
    pub state: TaskState,
    pub template: &'a Template,
    /// Those that hold it.
    pub pauses: &'a [Pause],
    pub steps: &'a [Readiness],
    /// The limits that hold steps.
    pub limits: &'a HashMap<Ordinal, Vec<Hold>>,
}

impl Explainer<'_> {
    /// Explains one of the steps.
    pub fn explain(&self, step: &Readiness) -> v1::StepExplanation {
        let mut reasons: Vec<v1::StepReason> = Vec::new();
        for obstacle in &step.obstacles {
            reasons.extend(self.reasons(step, *obstacle));
        }
        if reasons.is_empty() {
            let declared = self.template.step(step.declared);
            reasons.push(standing(step, declared.is_some_and(|it| it.kind.expands())));
        }
        v1::StepExplanation {
            task_id: self.task.to_string(),
            step_name: step.name.clone(),
            state: v1::StepState::from(step.state).into(),
            reasons,
        }
    }

    fn reasons(&self, step: &Readiness, obstacle: Obstacle) -> Vec<v1::StepReason> {
        match obstacle {
            Obstacle::TaskEnded => {
                let what = format!("Its task has ended: it is {}.", self.state);
                vec![reason(Kind::TaskEnded, what, "")]
            }
            Obstacle::Dependencies => vec![self.dependencies(step)],
            Obstacle::BackOff => {
                let what = format!(
                    "Attempt {} of {} has failed, and its back-off is not over.",
                    step.attempt, step.max_attempts
                );
                let until_time = step.until.map(time::timestamp);
                vec![v1::StepReason { until_time, ..reason(Kind::BackOff, what, "") }]
            }
            Obstacle::TaskPaused => self.paused(true),
            Obstacle::TemplatePaused => self.paused(false),
            Obstacle::Limit => {
                let holds = self.limits.get(&step.ordinal).into_iter().flatten();
                holds.map(|hold| limited(step, hold)).collect()
            }
            Obstacle::NoWorker => {
                let handler = self.handler(step);
                let declared = self.template.step(step.declared);
                let namespace =
                    declared.map_or(&self.template.namespace, |declared| &declared.queue);
                let what = format!(
                    "No connected worker of the namespace {namespace} has the handler {handler}."
                );
                let remedy = format!(
                    "Start a worker that serves the namespace {namespace} and has the handler {handler}."
                );
                vec![v1::StepReason { handler, ..reason(Kind::NoWorker, what, remedy) }]
            }
            Obstacle::Queue => vec![self.queued(step)],
            Obstacle::Enqueuing => vec![being_enqueued()],
        }
    }

    fn dependencies(&self, step: &Readiness) -> v1::StepReason {
        let declared =
            self.template.step(step.declared).map_or(&[][..], |declared| &declared.dependencies);
        // Of the worker of a batch, all runs; of a step that was not chosen, none.
        let all: Vec<&Readiness> =
            self.steps.iter().filter(|parent| declared.contains(&parent.declared)).collect();
        let unmet: Vec<&Readiness> =
            all.iter().copied().filter(|parent| !satisfies(parent)).collect();
        if unmet.is_empty() {
            let what = "It waits for its turn: as many workers of its batch as may run at once do.";
            return reason(Kind::Dependencies, what, "");
        }
        let list: Vec<String> =
            unmet.iter().map(|parent| format!("{} ({})", parent.name, parent.state)).collect();
        let what = format!(
            "It waits for {} of its {} dependencies: {}.",
            unmet.len(),
            all.len(),
            list.join(", ")
        );
        let stuck: Vec<&str> = unmet
            .iter()
            .filter(|parent| matches!(parent.state, StepState::Error | StepState::Cancelled))
            .map(|parent| parent.name.as_str())
            .collect();
        let remedy = if stuck.is_empty() {
            String::new()
        } else {
            format!("Repair what will not complete by itself: {}.", stuck.join(", "))
        };
        let unmet = unmet.into_iter().map(|parent| v1::UnmetDependency {
            step_name: parent.name.clone(),
            state: v1::StepState::from(parent.state).into(),
        });
        v1::StepReason { dependencies: unmet.collect(), ..reason(Kind::Dependencies, what, remedy) }
    }

    fn paused(&self, the_task: bool) -> Vec<v1::StepReason> {
        let of_it = self.pauses.iter().filter(|pause| pause.template.is_none() == the_task);
        let explained = of_it.map(|pause| {
            let (kind, whose, remedy) = match &pause.template {
                None => (Kind::TaskPaused, "Its task".to_owned(), "Resume the task."),
                Some(TemplateName { namespace, name, .. }) => {
                    let whose = format!("Its template {namespace}/{name}");
                    (Kind::TemplatePaused, whose, "Resume the template.")
                }
            };
            let why = if pause.by.reason.is_empty() {
                String::new()
            } else {
                format!(": {}", pause.by.reason)
            };
            let what = format!("{whose} was paused by {}{why}.", pause.by.operator);
            let told = v1::Pause {
                operator: pause.by.operator.clone(),
                reason: pause.by.reason.clone(),
                time: Some(time::timestamp(pause.paused_at)),
                template: pause.template.clone().map(
                    |TemplateName { namespace, name, version }| v1::TemplateRef {
                        namespace,
                        name,
                        version,
                    },
                ),
            };
            let since_time = told.time;
            v1::StepReason { pause: Some(told), since_time, ..reason(kind, what, remedy) }
        });
        explained.collect()
    }

    fn queued(&self, step: &Readiness) -> v1::StepReason {
        if let Some(until) = step.until {
            let what = "It has yielded, and waits for the time to go on that it asked for.";
            let (since_time, until_time) =
                (step.since.map(time::timestamp), Some(time::timestamp(until)));
            let handler = self.handler(step);
            let waits = reason(Kind::Queued, what, "");
            return v1::StepReason { handler, since_time, until_time, ..waits };
        }
        let queue_position = step.queue_position.unwrap_or_default();
        let before = match queue_position {
            1 => "it goes next".to_owned(),
            2 => "1 step goes before it".to_owned(),
            place => format!("{} steps go before it", place - 1),
        };
        let have = match step.workers {
            1 => "1 connected worker has".to_owned(),
            workers => format!("{workers} connected workers have"),
        };
        let handler = self.handler(step);
        let what =
            format!("It waits for a worker with room: {have} the handler {handler}, and {before}.");
        let remedy = "More workers, or workers with more concurrency, would let it begin sooner.";
        let since_time = step.since.map(time::timestamp);
        v1::StepReason { handler, queue_position, since_time, ..reason(Kind::Queued, what, remedy) }
    }

    fn handler(&self, step: &Readiness) -> String {
        let declared = self.template.step(step.declared);
        declared.map(|declared| declared.callable.clone()).unwrap_or_default()
    }
}

fn satisfies(parent: &Readiness) -> bool {
    matches!(parent.state, StepState::Complete | StepState::ResolvedManually) || parent.passed_over
}

/// A limit that holds a step.
fn limited(step: &Readiness, hold: &Hold) -> v1::StepReason {
    let limit = hold.usage.clone();
    let of = if limit.value.is_empty() { String::new() } else { format!(" for {:?}", limit.value) };
    let what = format!("The limit {}{of} holds it", limit.name);
    let full = hold.is_full();
    let (what, remedy) = if full {
        let holders: Vec<String> = limit
            .holders
            .iter()
            .take(3)
            .map(|holder| format!("{} of task {}", holder.step_name, holder.task_id))
            .collect();
        let more = limit.holders.len().saturating_sub(holders.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (running, most) = (limit.running, limit.max_concurrent);
        (
            format!("{what}: {running} of {most} steps run, {}{more}.", holders.join(", ")),
            "It begins when one of them ends, by its rank.",
        )
    } else if hold.rate_is_used_up() {
        let (begun, most) = (limit.begun, limit.rate_count);
        (format!("{what}: {begun} of {most} steps have begun in its time."), "")
    } else {
        (format!("{what}, and has room: it begins as soon as a worker has, too."), "")
    };
    let since_time = step.since.map(time::timestamp);
    let until_time = hold.until.filter(|_| !full).map(time::timestamp);
    let held = reason(Kind::Limit, what, remedy);
    v1::StepReason { limit: Some(limit), since_time, until_time, ..held }
}

/// How a step stands that nothing is in the way of. `expands`: its result says what comes into being.
fn standing(step: &Readiness, expands: bool) -> v1::StepReason {
    let attempt = format!("{} of {}", step.attempt, step.max_attempts);
    match step.state {
        StepState::Complete => reason(Kind::Done, "It is complete.", ""),
        StepState::ResolvedManually => reason(Kind::Done, "An operator has resolved it.", ""),
        StepState::Error => reason(
            Kind::Failed,
            format!("It has failed for good, in attempt {attempt}."),
            if expands {
                "Have it tried again when what it failed of is repaired, or complete it with what comes \
                into being by it."
            } else {
                "Have it tried again, or resolve it, when what it failed of is repaired."
            },
        ),
        StepState::Cancelled => reason(Kind::Cancelled, "It was cancelled with its task.", ""),
        StepState::InProgress => {
            let worker_id = step.worker_id.clone().unwrap_or_default();
            let at = if worker_id.is_empty() {
                // Its session is gone: the lease is about to end.
                "a worker that is lost".to_owned()
            } else {
                format!("worker {worker_id}")
            };
            v1::StepReason {
                worker_id,
                since_time: step.since.map(time::timestamp),
                until_time: step.until.map(time::timestamp),
                ..reason(Kind::Running, format!("Attempt {attempt} runs at {at}."), "")
            }
        }
        StepState::EnqueuedForOrchestration | StepState::EnqueuedAsErrorForOrchestration => reason(
            Kind::BeingJudged,
            format!("The result of attempt {attempt} has come, and waits to be judged."),
            "If that lasts, see whether result-processor is healthy.",
        ),
        // What held it was gone a moment ago.
        StepState::Pending | StepState::Enqueued | StepState::WaitingForRetry => being_enqueued(),
    }
}

fn being_enqueued() -> v1::StepReason {
    let what = "It is ready, and on its way to a worker.";
    let remedy = "If that lasts, see whether step-enqueuer is healthy.";
    reason(Kind::BeingEnqueued, what, remedy)
}

fn reason(kind: Kind, description: impl Into<String>, remedy: impl Into<String>) -> v1::StepReason {
    v1::StepReason {
        kind: kind.into(),
        description: description.into(),
        remedy: remedy.into(),
        ..v1::StepReason::default()
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use tasker_store::ByHand;

    use super::*;

    fn template() -> Template {
        Template::parse(
            "{namespace: n, name: t, version: 1.0.0, steps: [
                {name: a, handler: {callable: run_a}}, {name: b, handler: {callable: run_b}},
                {name: c, handler: {callable: run_c}, dependencies: [a, b]}]}",
        )
        .unwrap()
    }

    fn step(ordinal: i32, name: &str, state: StepState) -> Readiness {
        Readiness {
            ordinal: Ordinal(ordinal),
            declared: Ordinal(ordinal),
            name: name.to_owned(),
            state,
            attempt: 1,
            max_attempts: 3,
            obstacles: Vec::new(),
            since: None,
            until: None,
            worker_id: None,
            queue_position: None,
            workers: 1,
            passed_over: false,
        }
    }

    fn explained(steps: &[Readiness], pauses: &[Pause], nth: usize) -> Vec<v1::StepReason> {
        let template = template();
        let state = TaskState::StepsInProcess;
        let limits = HashMap::new();
        let task = TaskId::new();
        let explainer =
            Explainer { task, state, template: &template, pauses, steps, limits: &limits };
        explainer.explain(&steps[nth]).reasons
    }

    #[test]
    fn a_step_names_the_dependencies_it_waits_for_and_which_need_a_repair() {
        let mut steps = [
            step(0, "a", StepState::Error),
            step(1, "b", StepState::InProgress),
            step(2, "c", StepState::Pending),
        ];
        steps[2].obstacles = vec![Obstacle::Dependencies];
        let reasons = explained(&steps, &[], 2);
        assert_eq!(reasons.len(), 1);
        let what = "It waits for 2 of its 2 dependencies: a (error), b (in_progress).";
        assert_eq!(reasons[0].description, what);
        assert_eq!(reasons[0].remedy, "Repair what will not complete by itself: a.");
        steps[0].passed_over = true;
        let reasons = explained(&steps, &[], 2);
        let what = "It waits for 1 of its 2 dependencies: b (in_progress).";
        assert_eq!((reasons[0].description.as_str(), reasons[0].remedy.as_str()), (what, ""));
    }

    #[test]
    fn everything_in_the_way_is_named_the_nearest_first() {
        let mut steps = [step(0, "a", StepState::Pending)];
        steps[0].obstacles =
            vec![Obstacle::TaskPaused, Obstacle::TemplatePaused, Obstacle::NoWorker];
        let of_template = TemplateName {
            namespace: "n".to_owned(),
            name: "t".to_owned(),
            version: String::new(),
        };
        let pause = |template, operator: &str, reason: &str| Pause {
            template,
            by: ByHand { operator: operator.to_owned(), reason: reason.to_owned() },
            paused_at: Utc::now(),
        };
        let pauses = [pause(None, "alice", "wrong amount"), pause(Some(of_template), "bob", "")];
        let reasons = explained(&steps, &pauses, 0);
        let sentences: Vec<&str> =
            reasons.iter().map(|reason| reason.description.as_str()).collect();
        assert_eq!(
            sentences,
            [
                "Its task was paused by alice: wrong amount.",
                "Its template n/t was paused by bob.",
                "No connected worker of the namespace n has the handler run_a.",
            ]
        );
    }

    #[test]
    fn a_decision_that_has_failed_is_not_to_be_resolved() {
        let failed = step(0, "a", StepState::Error);
        assert!(standing(&failed, false).remedy.contains("resolve it"));
        assert!(!standing(&failed, true).remedy.contains("resolve"));
        assert!(standing(&failed, true).remedy.contains("complete it with"));
    }

    #[test]
    fn every_state_without_an_obstacle_is_explained() {
        for state in StepState::ALL {
            let reasons = explained(&[step(0, "a", state)], &[], 0);
            assert_eq!(reasons.len(), 1, "{state}");
            assert_ne!(reasons[0].kind(), Kind::Unspecified, "{state}");
            assert!(reasons[0].description.ends_with('.'), "{state}");
        }
    }
}
