//! The squares of a range, summed up in batches.

use serde::{Deserialize, Serialize};
use tasker_worker::{Batches, HandlerError, Registry, StepContext};

pub(crate) fn register(registry: &mut Registry) {
    registry
        .register_fn("plan_ranges", |step| async move { plan(&step) })
        .register_fn("sum_squares", |step| async move { sum_squares(&step) })
        .register_fn("add_up", |step| async move { add_up(&step) });
}

/// What a sum is submitted with.
#[derive(Deserialize)]
struct Context {
    /// The last number, at most a million.
    n: u64,
}

#[derive(Deserialize)]
struct Plan {
    numbers_in_a_batch: u64,
}

/// A batch's part of the numbers, first and last.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Range(u64, u64);

fn plan(step: &StepContext) -> Result<Batches, HandlerError> {
    let (n, size) = (step.input::<Context>()?.n, step.initialization::<Plan>()?.numbers_in_a_batch);
    if n > 1_000_000 || size == 0 {
        return Err(HandlerError::permanent("too_many", format!("{n} numbers by {size}")));
    }
    Ok(Batches::of(ranges(n, size)))
}

fn ranges(n: u64, size: u64) -> impl Iterator<Item = Range> {
    let from = (0..n.div_ceil(size)).map(move |nth| nth * size + 1);
    from.map(move |from| Range(from, n.min(from + size - 1)))
}

fn sum_squares(step: &StepContext) -> Result<u64, HandlerError> {
    if step.is_no_op() {
        return Ok(0);
    }
    let Range(first, last) = step.cursor()?;
    Ok((first..=last).map(|number| number * number).sum())
}

fn add_up(step: &StepContext) -> Result<u64, HandlerError> {
    Ok(step.dependencies::<u64>()?.into_values().sum())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tasker_worker::{
        json as payload,
        v1::{Batch, Delivery},
    };

    use super::*;
    use crate::tests::step;

    fn worker(batch: Batch) -> StepContext {
        StepContext::new(Delivery { batch: Some(batch), ..Delivery::default() })
    }

    #[test]
    fn ranges_cover_every_number_once() {
        let of_ten: Vec<_> = ranges(10, 4).collect();
        assert_eq!(of_ten, [Range(1, 4), Range(5, 8), Range(9, 10)]);
        assert_eq!(ranges(0, 4).count(), 0);
    }

    #[test]
    fn a_batch_is_summed_up_and_all_of_them_are() {
        let cursor = Some(payload::payload(&Range(5, 6)).unwrap());
        assert_eq!(sum_squares(&worker(Batch { cursor, ..Batch::default() })).unwrap(), 61);
        assert_eq!(sum_squares(&worker(Batch { no_op: true, ..Batch::default() })).unwrap(), 0);
        let sums = [("squares_1", json!(61)), ("squares_2", json!(100))];
        assert_eq!(add_up(&step(&json!({}), &sums)).unwrap(), 161);
    }
}
