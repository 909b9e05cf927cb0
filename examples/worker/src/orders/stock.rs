//! Sets goods aside, from as few warehouses as they lie in.

use serde::{Deserialize, Serialize};
use tasker_worker::{Handler, HandlerError, StepContext, async_trait};

use super::{
    cart::{Cart, Line},
    catalogue::product,
    id,
};

pub(crate) struct ReserveStock;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reservation {
    pub(crate) reservation_id: String,
    pub(crate) picks: Vec<Pick>,
}

/// So many of one product from one warehouse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pick {
    pub(crate) warehouse: String,
    pub(crate) sku: String,
    pub(crate) quantity: u32,
}

#[async_trait]
impl Handler for ReserveStock {
    type Output = Reservation;

    async fn run(&self, step: &StepContext) -> Result<Reservation, HandlerError> {
        let cart: Cart = step.dependency("validate_cart")?;
        let picks = cart.lines.iter().map(pick).collect::<Result<Vec<_>, _>>()?;
        Ok(Reservation { reservation_id: id("res", step), picks: picks.concat() })
    }
}

fn pick(line: &Line) -> Result<Vec<Pick>, HandlerError> {
    let stock = product(&line.sku).map_or(&[][..], |product| &product.stock);
    // All from one warehouse, if one has them all; else from one after the other.
    if let Some(one) = stock.iter().find(|stock| stock.quantity >= line.quantity) {
        return Ok(vec![picked(line, &one.warehouse, line.quantity)]);
    }
    let (mut picks, mut missing) = (Vec::new(), line.quantity);
    for stock in stock {
        let quantity = missing.min(stock.quantity);
        picks.push(picked(line, &stock.warehouse, quantity));
        missing -= quantity;
    }
    match missing {
        0 => Ok(picks.into_iter().filter(|pick| pick.quantity > 0).collect()),
        _ => {
            let message = format!("{missing} of {} {} are missing", line.quantity, line.sku);
            Err(HandlerError::permanent("out_of_stock", message))
        }
    }
}

fn picked(line: &Line, warehouse: &str, quantity: u32) -> Pick {
    Pick { warehouse: warehouse.to_owned(), sku: line.sku.clone(), quantity }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick_of(sku: &str, quantity: u32) -> Result<Vec<(String, u32)>, HandlerError> {
        let line = Line { sku: sku.to_owned(), name: String::new(), quantity, amount_cents: 0 };
        let picks = pick(&line)?;
        Ok(picks.into_iter().map(|pick| (pick.warehouse, pick.quantity)).collect())
    }

    #[test]
    fn goods_come_from_one_warehouse_if_it_has_them_all() {
        assert_eq!(pick_of("TENT-2P", 2).unwrap(), [("leipzig".to_owned(), 2)]);
        assert_eq!(pick_of("TENT-2P", 4).unwrap(), [("lyon".to_owned(), 4)]);
    }

    #[test]
    fn goods_come_from_several_warehouses_if_none_has_them_all() {
        let picks = [("leipzig".to_owned(), 2), ("lyon".to_owned(), 3)];
        assert_eq!(pick_of("TENT-2P", 5).unwrap(), picks);
    }

    #[test]
    fn more_than_there_is_fails_for_good() {
        let error = pick_of("TENT-2P", 7).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), ("out_of_stock", false));
    }
}
