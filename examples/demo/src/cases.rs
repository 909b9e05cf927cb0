//! What is submitted, and what is expected of it.

use std::{fs, path::Path};

use anyhow::Context as _;
use num_bigint::BigUint;
use serde::Deserialize;
use serde_json::{Value, json};

/// A task to submit.
pub(crate) struct Case {
    /// For people, for example `order W-1001`.
    pub(crate) name: String,
    pub(crate) namespace: &'static str,
    pub(crate) template: &'static str,
    pub(crate) context: Value,
    pub(crate) answer: Answer,
    /// The answer of a completed task, or `step: type` of the failure that blocks it.
    pub(crate) expected: String,
}

/// Where the answer of a completed task stands.
pub(crate) struct Answer {
    pub(crate) step: &'static str,
    /// Within the step's result, as a JSON pointer.
    pub(crate) pointer: &'static str,
    /// Said after the value; may be empty.
    pub(crate) unit: &'static str,
}

/// A line of the orders file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    order: Value,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expect {
    TotalCents(u64),
    Failure {
        step: String,
        #[serde(rename = "type")]
        kind: String,
    },
}

/// Reads orders, one JSON object a line.
pub(crate) fn orders(file: &Path) -> anyhow::Result<Vec<Case>> {
    let text = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            order(line).with_context(|| format!("{}, line {}", file.display(), number + 1))
        })
        .collect()
}

fn order(line: &str) -> anyhow::Result<Case> {
    let Line { order, expect } = serde_json::from_str(line)?;
    let number = order["number"].as_str().context("an order has a number")?;
    Ok(Case {
        name: format!("order {number}"),
        namespace: "orders",
        template: "process_order",
        answer: Answer { step: "confirm_order", pointer: "/total_cents", unit: " cents" },
        expected: match expect {
            Expect::TotalCents(cents) => format!("{cents} cents"),
            Expect::Failure { step, kind } => format!("{step}: {kind}"),
        },
        context: order,
    })
}

/// The four shapes of graphs, each step of which squares, and a sum in batches: every number is known
/// beforehand.
pub(crate) fn arithmetic() -> Vec<Case> {
    let case = |template, last, power: u32, n: u32| Case {
        name: format!("{template} of {n}"),
        namespace: "arithmetic",
        template,
        context: json!({ "n": n }),
        answer: Answer { step: last, pointer: "", unit: "" },
        expected: BigUint::from(n).pow(power).to_string(),
    };
    let sum = |n: u32| {
        let all = u64::from(n);
        let expected = (all * (all + 1) * (2 * all + 1) / 6).to_string();
        Case { expected, ..case("sum_of_squares", "total", 1, n) }
    };
    vec![
        case("linear", "square_4", 16, 6),
        case("diamond", "end", 16, 6),
        case("tree", "convergence", 64, 6),
        case("mixed", "finalize", 64, 6),
        // In ten batches, and in none.
        sum(9_999),
        sum(0),
    ]
}

/// Refunds, each with those who have to approve it.
pub(crate) fn refunds() -> Vec<Case> {
    let case = |cents: u64, approved_by: &str| Case {
        name: format!("refund of {cents} cents"),
        namespace: "refunds",
        template: "refund",
        context: json!({ "amount_cents": cents }),
        answer: Answer { step: "pay", pointer: "/approved_by", unit: "" },
        expected: approved_by.to_owned(),
    };
    vec![
        case(4_900, r#"["approve"]"#),
        case(49_000, r#"["manager_review"]"#),
        case(490_000, r#"["finance_review","manager_review"]"#),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_orders_can_be_read() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/orders.jsonl");
        let cases = orders(Path::new(file)).unwrap();
        assert_eq!(cases.len(), 12);
        assert_eq!(cases[3].expected, "take_payment: card_declined");
    }

    #[test]
    fn a_tree_of_six_is_known_to_the_last_digit() {
        let tree = arithmetic().into_iter().find(|case| case.name == "tree of 6").unwrap();
        assert_eq!(tree.expected, "63340286662973277706162286946811886609896461828096");
    }
}
