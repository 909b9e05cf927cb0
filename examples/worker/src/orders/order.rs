//! Creates the order, once it is paid and its goods are set aside.

use serde::{Deserialize, Serialize};
use tasker_worker::{Handler, HandlerError, StepContext, async_trait};

use super::{
    Submission,
    cart::{Cart, Line},
    id,
    payment::Payment,
    stock::{Pick, Reservation},
};

pub(crate) struct CreateOrder;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) order_id: String,
    pub(crate) number: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) total_cents: u64,
    pub(crate) paid_with: String,
    pub(crate) payment_id: String,
    pub(crate) reservation_id: String,
    /// One parcel for each warehouse.
    pub(crate) parcels: usize,
}

#[async_trait]
impl Handler for CreateOrder {
    type Output = Order;

    async fn run(&self, step: &StepContext) -> Result<Order, HandlerError> {
        let cart: Cart = step.dependency("validate_cart")?;
        let payment: Payment = step.dependency("take_payment")?;
        let reservation: Reservation = step.dependency("reserve_stock")?;
        if payment.amount_cents != cart.total_cents {
            let (paid, due) = (payment.amount_cents, cart.total_cents);
            return Err(HandlerError::permanent("wrong_amount", format!("{paid} paid, {due} due")));
        }
        Ok(Order {
            order_id: id("ord", step),
            number: step.input::<Submission>()?.number,
            lines: cart.lines,
            total_cents: cart.total_cents,
            paid_with: payment.card,
            payment_id: payment.payment_id,
            reservation_id: reservation.reservation_id,
            parcels: parcels(&reservation.picks),
        })
    }
}

fn parcels(picks: &[Pick]) -> usize {
    let mut warehouses: Vec<_> = picks.iter().map(|pick| &pick.warehouse).collect();
    warehouses.sort_unstable();
    warehouses.dedup();
    warehouses.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        orders::tests::{cart, run, submission},
        tests::delivery,
    };

    #[tokio::test]
    async fn an_order_that_was_paid_another_amount_is_not_created() {
        let order = submission("tok_visa", &[("GAS-230", 1, 695)]);
        let payment = json!({"payment_id": "p", "amount_cents": 1, "card": ""});
        let stock = json!({"reservation_id": "r", "picks": []});
        let before = [
            ("validate_cart", cart(&order).await),
            ("take_payment", payment),
            ("reserve_stock", stock),
        ];
        let error = run("create_order", delivery(&order, &before)).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), ("wrong_amount", false));
    }
}
