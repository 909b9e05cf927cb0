//! Writes the letter that confirms an order.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use tasker_worker::{Handler, HandlerError, StepContext, async_trait};

use super::{Submission, order::Order};

pub(crate) struct ConfirmOrder;

/// What the template sets.
#[derive(Deserialize)]
struct Sender {
    shop: String,
    reply_to: String,
}

/// Ready for a mail server.
#[derive(Debug, Serialize)]
pub(crate) struct Confirmation {
    order_id: String,
    total_cents: u64,
    to: String,
    reply_to: String,
    subject: String,
    body: String,
}

#[async_trait]
impl Handler for ConfirmOrder {
    type Output = Confirmation;

    async fn run(&self, step: &StepContext) -> Result<Confirmation, HandlerError> {
        let (order, sender): (Order, Sender) =
            (step.dependency("create_order")?, step.initialization()?);
        let customer = step.input::<Submission>()?.customer;
        Ok(Confirmation {
            subject: format!("{}: your order {}", sender.shop, order.number),
            body: body(&customer.name, &order),
            to: customer.email,
            reply_to: sender.reply_to,
            total_cents: order.total_cents,
            order_id: order.order_id,
        })
    }
}

fn body(name: &str, order: &Order) -> String {
    let mut body = format!("Dear {name},\n\nthank you for your order.\n\n");
    for line in &order.lines {
        writeln!(body, "{} × {}: {}", line.quantity, line.name, euros(line.amount_cents))
            .expect("text takes all that is written to it");
    }
    let (total, card) = (euros(order.total_cents), &order.paid_with);
    let parcels = if order.parcels == 1 { "one parcel" } else { "several parcels" };
    body + &format!("\nTotal with tax: {total}, paid with {card}.\nIt comes in {parcels}.\n")
}

fn euros(cents: u64) -> String {
    format!("{}.{:02} EUR", cents / 100, cents % 100)
}
