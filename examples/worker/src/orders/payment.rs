//! Charges a card.

use serde::{Deserialize, Serialize};
use tasker_worker::{Handler, HandlerError, StepContext, async_trait};

use super::{Card, Submission, cart::Cart, id};

pub(crate) struct TakePayment;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub(crate) payment_id: String,
    pub(crate) amount_cents: u64,
    /// For people, for example `visa ····4242`.
    pub(crate) card: String,
}

#[async_trait]
impl Handler for TakePayment {
    type Output = Payment;

    async fn run(&self, step: &StepContext) -> Result<Payment, HandlerError> {
        let card = step.input::<Submission>()?.card;
        let cart: Cart = step.dependency("validate_cart")?;
        let network = charge(&card, cart.total_cents, step.attempt())?;
        Ok(Payment {
            payment_id: id("pay", step),
            amount_cents: cart.total_cents,
            card: format!("{network} ····{}", card.last4),
        })
    }
}

/// The payment provider, played by its test cards. Returns the card's network.
fn charge(card: &Card, amount_cents: u64, attempt: i32) -> Result<&'static str, HandlerError> {
    let declined =
        |kind, why: &str| Err(HandlerError::permanent(kind, format!("····{}: {why}", card.last4)));
    match card.token.as_str() {
        "tok_visa" => Ok("visa"),
        "tok_mastercard" => Ok("mastercard"),
        "tok_amex" => Ok("amex"),
        "tok_declined" => declined("card_declined", "the bank declines this card"),
        "tok_insufficient_funds" => {
            declined("insufficient_funds", &format!("{amount_cents} cents are not there"))
        }
        // Gone twice, then there: told by the attempt, so that every run goes alike.
        "tok_network_error" if attempt <= 2 => {
            Err(HandlerError::retryable("network_error", "the card network does not answer"))
        }
        "tok_network_error" => Ok("visa"),
        unknown => declined("unknown_card", &format!("{unknown} is not a card")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tasker_worker::{HandlerError, v1::Delivery};

    use crate::{
        orders::tests::{cart, run, submission},
        tests::delivery,
    };

    async fn pay(card: &str, attempt: i32) -> Result<Value, HandlerError> {
        let order = submission(card, &[("GAS-230", 1, 695)]);
        let delivery = delivery(&order, &[("validate_cart", cart(&order).await)]);
        run("take_payment", Delivery { attempt, ..delivery }).await
    }

    #[tokio::test]
    async fn a_good_card_is_charged_the_total_under_the_same_id_in_every_attempt() {
        let (first, second) =
            (pay("tok_visa", 1).await.unwrap(), pay("tok_visa", 2).await.unwrap());
        assert_eq!(first["amount_cents"], 1317);
        assert_eq!(first, second);
    }

    #[tokio::test]
    async fn a_bad_card_fails_for_good() {
        for (card, kind) in [
            ("tok_declined", "card_declined"),
            ("tok_insufficient_funds", "insufficient_funds"),
            ("tok_who_knows", "unknown_card"),
        ] {
            let error = pay(card, 1).await.unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (kind, false));
        }
    }

    #[tokio::test]
    async fn a_network_that_is_away_is_worth_another_attempt() {
        for attempt in 1..=2 {
            let error = pay("tok_network_error", attempt).await.unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), ("network_error", true));
        }
        assert!(pay("tok_network_error", 3).await.is_ok());
    }
}
