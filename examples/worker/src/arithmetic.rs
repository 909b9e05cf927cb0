//! Squares, exactly, however long they get.

use num_bigint::BigInt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::Number;
use tasker_worker::{HandlerError, Registry, StepContext};

pub(crate) fn register(registry: &mut Registry) {
    registry
        .register_fn("square", |step| async move { square(&step) })
        .register_fn("multiply_and_square", |step| async move { multiply_and_square(&step) });
}

/// What an arithmetic task is submitted with.
#[derive(Deserialize)]
struct Context {
    /// Even.
    n: Integer,
}

/// A whole number of any length, which JSON writes as a plain number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Integer(BigInt);

/// Squares the result of the step before, or `n` if it is the first.
fn square(step: &StepContext) -> Result<Integer, HandlerError> {
    let mut inputs = step.dependencies()?.into_values();
    let input = match (inputs.next(), inputs.next()) {
        (None, _) => even(step.input::<Context>()?.n)?,
        (Some(input), None) => input,
        (Some(_), Some(_)) => {
            return Err(HandlerError::permanent(
                "too_many_inputs",
                "there is one number to square",
            ));
        }
    };
    Ok(squared(&input.0))
}

/// Squares the product of the results of all steps before.
fn multiply_and_square(step: &StepContext) -> Result<Integer, HandlerError> {
    let inputs = step.dependencies::<Integer>()?;
    if inputs.is_empty() {
        return Err(HandlerError::permanent("no_inputs", "there is nothing to multiply"));
    }
    Ok(squared(&inputs.into_values().map(|input| input.0).product()))
}

fn squared(number: &BigInt) -> Integer {
    Integer(number * number)
}

fn even(number: Integer) -> Result<Integer, HandlerError> {
    if number.0.bit(0) {
        return Err(HandlerError::permanent("not_even", format!("n is {}", number.0)));
    }
    Ok(number)
}

impl Serialize for Integer {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.to_string().parse::<Number>().map_err(ser::Error::custom)?.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = Number::deserialize(from)?;
        let whole = || de::Error::custom(format!("{number} is not a whole number"));
        number.as_str().parse().map(Self).map_err(|_| whole())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tests::step;

    #[test]
    fn a_first_step_squares_n_and_a_later_one_what_came_before() {
        let first = step(&json!({"n": 6}), &[]);
        assert_eq!(square(&first).unwrap(), Integer(36.into()));
        let later = step(&json!({"n": 6}), &[("before", json!(36))]);
        assert_eq!(square(&later).unwrap(), Integer(1296.into()));
    }

    #[test]
    fn a_tree_of_six_ends_exactly() {
        let leaf = json!(1_679_616);
        let leaves = ["a", "b", "c", "d"].map(|name| (name, leaf.clone()));
        let end = multiply_and_square(&step(&json!({"n": 6}), &leaves)).unwrap();
        assert_eq!(
            serde_json::to_string(&end).unwrap(),
            "63340286662973277706162286946811886609896461828096"
        );
    }

    #[test]
    fn what_is_not_an_even_whole_number_fails_for_good() {
        for (n, kind) in [(json!(7), "not_even"), (json!(1.5), "INVALID_INPUT")] {
            let error = square(&step(&json!({"n": n}), &[])).unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (kind, false));
        }
    }
}
