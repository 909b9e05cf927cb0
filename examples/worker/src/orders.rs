//! The orders of a shop, from the cart to the confirmation.
//!
//! The payment provider and the warehouses are played by tables that never change, so every worker
//! gives the same answer every time; ids are made of the step's idempotency key, as a real provider
//! would find the first answer by it.

mod cart;
mod catalogue;
mod confirmation;
mod order;
mod payment;
mod stock;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tasker_worker::{Registry, StepContext};

pub(crate) fn register(registry: &mut Registry) {
    registry
        .register("validate_cart", cart::ValidateCart)
        .register("take_payment", payment::TakePayment)
        .register("reserve_stock", stock::ReserveStock)
        .register("create_order", order::CreateOrder)
        .register("confirm_order", confirmation::ConfirmOrder);
}

/// What an order task is submitted with.
#[derive(Debug, Deserialize)]
pub(crate) struct Submission {
    /// The shop's number for it.
    pub(crate) number: String,
    pub(crate) customer: Customer,
    pub(crate) items: Vec<Item>,
    pub(crate) card: Card,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Customer {
    pub(crate) name: String,
    pub(crate) email: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Item {
    pub(crate) sku: String,
    pub(crate) quantity: u32,
    /// As the customer saw it.
    pub(crate) unit_price_cents: u64,
}

/// Never the card itself: a token of the payment provider.
#[derive(Debug, Deserialize)]
pub(crate) struct Card {
    pub(crate) token: String,
    pub(crate) last4: String,
}

/// An id that is the same in every attempt of a step.
pub(crate) fn id(prefix: &str, step: &StepContext) -> String {
    let digest = Sha256::digest(step.idempotency_key().as_bytes());
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}_{hex}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tasker_worker::{HandlerError, json as payload, v1::Delivery};

    use crate::{registry, tests::delivery};

    pub(crate) fn submission(card: &str, items: &[(&str, u32, u64)]) -> Value {
        let item = |(sku, quantity, price): &(&str, u32, u64)| json!({"sku": sku, "quantity": quantity, "unit_price_cents": price});
        json!({
            "number": "W-1",
            "customer": {"name": "Ada", "email": "ada@mail.example"},
            "items": items.iter().map(item).collect::<Vec<_>>(),
            "card": {"token": card, "last4": "4242"},
        })
    }

    /// Runs a handler as a worker would.
    pub(crate) async fn run(callable: &str, delivery: Delivery) -> Result<Value, HandlerError> {
        let handler = registry().handler(callable).unwrap();
        let result = handler.run(&tasker_worker::StepContext::new(delivery)).await?;
        Ok(payload::parse(result.payload()).unwrap())
    }

    /// The result of `validate_cart` for a submission.
    pub(crate) async fn cart(submission: &Value) -> Value {
        let rates = json!({
            "tax_basis_points": 1900, "shipping_cents": 490, "free_shipping_from_cents": 10000,
        });
        let initialization = Some(payload::payload(&rates).unwrap());
        run("validate_cart", Delivery { initialization, ..delivery(submission, &[]) })
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn an_order_goes_from_cart_to_confirmation() {
        let order = submission("tok_visa", &[("TENT-2P", 5, 24_900)]);
        let cart = cart(&order).await;
        let priced = [("validate_cart", cart.clone())];
        let payment = run("take_payment", delivery(&order, &priced)).await.unwrap();
        let stock = run("reserve_stock", delivery(&order, &priced)).await.unwrap();
        let before = [("validate_cart", cart), ("take_payment", payment), ("reserve_stock", stock)];
        let created = run("create_order", delivery(&order, &before)).await.unwrap();
        assert_eq!(created["total_cents"], json!(148_155));
        let shop = json!({"shop": "Shop", "reply_to": "shop@shop.example"});
        let initialization = Some(payload::payload(&shop).unwrap());
        let last = delivery(&order, &[("create_order", created)]);
        let confirmed = run("confirm_order", Delivery { initialization, ..last }).await.unwrap();
        assert_eq!(confirmed["to"], json!("ada@mail.example"));
        assert_eq!(confirmed["total_cents"], json!(148_155));
        let body = confirmed["body"].as_str().unwrap();
        assert!(body.contains("5 × Tent for two") && body.contains("1481.55"), "{body}");
    }
}
