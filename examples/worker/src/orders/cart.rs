//! Checks a cart against the catalogue and says what it costs.

use serde::{Deserialize, Serialize};
use tasker_worker::{Handler, HandlerError, StepContext, async_trait};

use super::{Item, Submission, catalogue::product};

const MOST_OF_ONE: u32 = 100;
/// 100 %.
const WHOLE_BASIS_POINTS: u64 = 10_000;

pub(crate) struct ValidateCart;

/// What the template sets.
#[derive(Deserialize)]
struct Rates {
    tax_basis_points: u64,
    shipping_cents: u64,
    free_shipping_from_cents: u64,
}

/// A cart that can be paid: every amount in cents.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cart {
    pub(crate) lines: Vec<Line>,
    pub(crate) subtotal_cents: u64,
    pub(crate) tax_cents: u64,
    pub(crate) shipping_cents: u64,
    pub(crate) total_cents: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) quantity: u32,
    pub(crate) amount_cents: u64,
}

#[async_trait]
impl Handler for ValidateCart {
    type Output = Cart;

    async fn run(&self, step: &StepContext) -> Result<Cart, HandlerError> {
        let (order, rates): (Submission, Rates) = (step.input()?, step.initialization()?);
        if order.items.is_empty() {
            return Err(HandlerError::permanent("empty_cart", "there is nothing in the cart"));
        }
        let lines = order.items.iter().map(line).collect::<Result<Vec<_>, _>>()?;
        Ok(priced(lines, &rates))
    }
}

fn line(item: &Item) -> Result<Line, HandlerError> {
    let refuse = |kind, why: String| Err(HandlerError::permanent(kind, why));
    let Some(product) = product(&item.sku) else {
        return refuse("unknown_product", format!("{} is not sold here", item.sku));
    };
    if !(1..=MOST_OF_ONE).contains(&item.quantity) {
        return refuse("bad_quantity", format!("{} of {}", item.quantity, item.sku));
    }
    if item.unit_price_cents != product.price_cents {
        // The customer agreed to the price that was shown, and to no other.
        let (seen, now) = (item.unit_price_cents, product.price_cents);
        return refuse("price_changed", format!("{} cost {seen} and costs {now}", item.sku));
    }
    Ok(Line {
        sku: item.sku.clone(),
        name: product.name.clone(),
        quantity: item.quantity,
        amount_cents: u64::from(item.quantity) * product.price_cents,
    })
}

fn priced(lines: Vec<Line>, rates: &Rates) -> Cart {
    let subtotal_cents = lines.iter().map(|line| line.amount_cents).sum();
    // Half a cent goes up.
    let tax_cents =
        (subtotal_cents * rates.tax_basis_points + WHOLE_BASIS_POINTS / 2) / WHOLE_BASIS_POINTS;
    let free = subtotal_cents >= rates.free_shipping_from_cents;
    let shipping_cents = if free { 0 } else { rates.shipping_cents };
    let total_cents = subtotal_cents + tax_cents + shipping_cents;
    Cart { lines, subtotal_cents, tax_cents, shipping_cents, total_cents }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        orders::tests::{cart, run, submission},
        tests::delivery,
    };

    #[tokio::test]
    async fn tax_is_rounded_and_shipping_is_free_from_the_limit() {
        let small = cart(&submission("tok_visa", &[("GAS-230", 1, 695)])).await;
        assert_eq!((&small["tax_cents"], &small["total_cents"]), (&json!(132), &json!(1317)));
        let large = cart(&submission("tok_visa", &[("BOOT-TRAIL-42", 1, 12_990)])).await;
        assert_eq!((&large["shipping_cents"], &large["total_cents"]), (&json!(0), &json!(15_458)));
    }

    #[tokio::test]
    async fn a_cart_that_cannot_be_sold_fails_for_good() {
        for (items, kind) in [
            (&[][..], "empty_cart"),
            (&[("RAFT-6P", 1, 1000)], "unknown_product"),
            (&[("GAS-230", 0, 695)], "bad_quantity"),
            (&[("GAS-230", 101, 695)], "bad_quantity"),
            (&[("GAS-230", 1, 694)], "price_changed"),
        ] {
            let rates = json!({
                "tax_basis_points": 0, "shipping_cents": 0, "free_shipping_from_cents": 0,
            });
            let initialization = Some(tasker_worker::json::payload(&rates).unwrap());
            let order = delivery(&submission("tok_visa", items), &[]);
            let delivery = tasker_worker::v1::Delivery { initialization, ..order };
            let error = run("validate_cart", delivery).await.unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (kind, false));
        }
    }
}
