//! Why steps do not run, as people read it.

use std::{fmt::Write as _, io};

use tasker_client::v1::{StepExplanation, StepReason, StepReasonKind};

use crate::{names, print};

/// One step: all that stands in its way, and what to do about it.
pub(crate) fn step(explanation: &StepExplanation) -> io::Result<()> {
    print::line(names::printable(&text(explanation)).trim_end())
}

pub(crate) const HEADER: [&str; 4] = ["STEP", "STATE", "REASON", "WHY"];

/// One step of several: the nearest of what stands in its way.
pub(crate) fn row(explanation: &StepExplanation) -> [String; 4] {
    let nearest = explanation.reasons.first();
    [
        explanation.step_name.clone(),
        names::step_state(explanation.state()),
        nearest.map(|reason| names::reason(reason.kind())).unwrap_or_default(),
        nearest.map(|reason| reason.description.clone()).unwrap_or_default(),
    ]
}

fn text(explanation: &StepExplanation) -> String {
    let StepExplanation { task_id, step_name, reasons, .. } = explanation;
    let state = names::step_state(explanation.state());
    let mut text = format!("{step_name} of task {task_id} is {state}.\n");
    let several = reasons.len() > 1;
    if several {
        text += "It goes on when all of this is gone:\n";
    }
    for (number, reason) in (1..).zip(reasons) {
        let (first, indent) =
            if several { (format!("\n{number}. "), "   ") } else { ("\n".to_owned(), "") };
        text += &first;
        text += &reason.description;
        text.push('\n');
        for line in beside(reason) {
            writeln!(text, "{indent}{line}").expect("a string takes all");
        }
        for line in [reason.remedy.clone(), command(explanation, reason)] {
            if !line.is_empty() {
                writeln!(text, "{indent}→ {line}").expect("a string takes all");
            }
        }
    }
    text
}

/// What its sentence does not say.
fn beside(reason: &StepReason) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(since) = names::time(reason.since_time.as_ref()) {
        lines.push(format!("since {since}"));
    }
    if let Some(until) = names::time(reason.until_time.as_ref()) {
        let at_the_latest =
            if reason.kind() == StepReasonKind::Running { " at the latest" } else { "" };
        lines.push(format!("until {until}{at_the_latest}"));
    }
    lines
}

/// What to type, where there is something.
fn command(explanation: &StepExplanation, reason: &StepReason) -> String {
    let task = &explanation.task_id;
    match reason.kind() {
        StepReasonKind::TaskPaused => format!("tasker-ctl task resume {task}"),
        StepReasonKind::TemplatePaused => {
            let template = reason.pause.as_ref().and_then(|pause| pause.template.as_ref());
            template.map_or_else(String::new, |template| {
                let at = if template.version.is_empty() { "" } else { "@" };
                let named =
                    format!("{}/{}{at}{}", template.namespace, template.name, template.version);
                format!("tasker-ctl template resume {named}")
            })
        }
        StepReasonKind::Dependencies => match reason.dependencies.as_slice() {
            [only] => format!("tasker-ctl step explain {task} {}", only.step_name),
            _ => format!("tasker-ctl task explain {task}"),
        },
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use tasker_client::v1::{Pause, StepState, TemplateRef, UnmetDependency};

    use super::*;

    fn explanation(reasons: Vec<StepReason>) -> StepExplanation {
        StepExplanation {
            task_id: "0190".to_owned(),
            step_name: "charge".to_owned(),
            state: StepState::Pending.into(),
            reasons,
        }
    }

    fn reason(kind: StepReasonKind, description: &str, remedy: &str) -> StepReason {
        StepReason {
            kind: kind.into(),
            description: description.to_owned(),
            remedy: remedy.to_owned(),
            ..StepReason::default()
        }
    }

    #[test]
    fn one_reason_is_told_with_what_to_type() {
        let reserve = UnmetDependency { step_name: "reserve".to_owned(), ..Default::default() };
        let waits = StepReason {
            dependencies: vec![reserve],
            ..reason(StepReasonKind::Dependencies, "It waits for reserve.", "")
        };
        assert_eq!(
            text(&explanation(vec![waits])),
            "charge of task 0190 is pending.\n\
             \n\
             It waits for reserve.\n\
             → tasker-ctl step explain 0190 reserve\n"
        );
    }

    #[test]
    fn several_reasons_are_numbered_the_nearest_first() {
        let template = TemplateRef {
            namespace: "orders".to_owned(),
            name: "process".to_owned(),
            version: String::new(),
        };
        let pause = Pause { template: Some(template), ..Pause::default() };
        let since_time = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 });
        let paused = StepReason {
            pause: Some(pause),
            since_time,
            ..reason(StepReasonKind::TemplatePaused, "Bob paused it.", "Resume the template.")
        };
        let nobody = reason(StepReasonKind::NoWorker, "No worker has it.", "Start a worker.");
        assert_eq!(
            text(&explanation(vec![paused, nobody])),
            "charge of task 0190 is pending.\n\
             It goes on when all of this is gone:\n\
             \n\
             1. Bob paused it.\n\
             \x20  since 2023-11-14T22:13:20Z\n\
             \x20  → Resume the template.\n\
             \x20  → tasker-ctl template resume orders/process\n\
             \n\
             2. No worker has it.\n\
             \x20  → Start a worker.\n"
        );
    }
}
