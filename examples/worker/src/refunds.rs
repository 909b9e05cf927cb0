//! Refunds: an amount decides who has to approve it.

use serde::{Deserialize, Serialize};
use tasker_worker::{Decision, HandlerError, Registry, StepContext};

pub(crate) fn register(registry: &mut Registry) {
    registry
        .register_fn("decide_refund", |step| async move { decide(&step) })
        .register_fn("approve_refund", |step| async move { approve(&step) })
        .register_fn("pay_refund", |step| async move { pay(&step) });
}

/// What a refund is submitted with.
#[derive(Deserialize)]
struct Refund {
    amount_cents: u64,
}

/// Whom an amount takes.
#[derive(Deserialize)]
struct Rules {
    unseen_up_to_cents: u64,
    manager_alone_up_to_cents: u64,
}

#[derive(Debug, Serialize)]
struct Paid {
    amount_cents: u64,
    /// The steps that approved it.
    approved_by: Vec<String>,
}

/// Nobody is asked about nothing.
fn decide(step: &StepContext) -> Result<Decision, HandlerError> {
    let (amount, rules) = (step.input::<Refund>()?.amount_cents, step.initialization::<Rules>()?);
    Ok(if amount == 0 {
        Decision::no_branches()
    } else if amount <= rules.unseen_up_to_cents {
        Decision::create_steps(["approve"])
    } else if amount <= rules.manager_alone_up_to_cents {
        Decision::create_steps(["manager_review"])
    } else {
        Decision::create_steps(["manager_review", "finance_review"])
    })
}

/// In this example everybody approves.
fn approve(step: &StepContext) -> Result<u64, HandlerError> {
    Ok(step.input::<Refund>()?.amount_cents)
}

fn pay(step: &StepContext) -> Result<Paid, HandlerError> {
    let approvals = step.dependencies::<u64>()?;
    let amount_cents = step.input::<Refund>()?.amount_cents;
    Ok(Paid { amount_cents, approved_by: approvals.into_keys().collect() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tasker_worker::{
        IntoOutput as _, json as payload,
        v1::{Delivery, expansion::Outcome},
    };

    use super::*;
    use crate::tests::{delivery, step};

    #[test]
    fn the_larger_a_refund_the_more_have_to_approve_it() {
        let chosen = |amount: u64| {
            let rules = json!({"unseen_up_to_cents": 10, "manager_alone_up_to_cents": 20});
            let initialization = Some(payload::payload(&rules).unwrap());
            let context = delivery(&json!({"amount_cents": amount}), &[]);
            let step = StepContext::new(Delivery { initialization, ..context });
            let output = decide(&step).unwrap().into_output().unwrap();
            match output.expansion().unwrap().outcome.clone().unwrap() {
                Outcome::CreateSteps(steps) => steps.step_names.join(" "),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(chosen(0), "NoBranches(NoBranches)");
        assert_eq!(chosen(10), "approve");
        assert_eq!(chosen(20), "manager_review");
        assert_eq!(chosen(21), "manager_review finance_review");
    }

    #[test]
    fn a_refund_names_those_who_have_approved_it() {
        let reviews = [("manager_review", json!(21)), ("finance_review", json!(21))];
        let paid = pay(&step(&json!({"amount_cents": 21}), &reviews)).unwrap();
        assert_eq!(paid.approved_by, ["finance_review", "manager_review"]);
    }
}
