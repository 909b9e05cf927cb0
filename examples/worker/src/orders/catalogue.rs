//! What the shop sells, at what price, and where it lies.

use std::{collections::HashMap, sync::LazyLock};

use serde::Deserialize;

static CATALOGUE: LazyLock<HashMap<String, Product>> = LazyLock::new(|| {
    let products: Vec<Product> = serde_json::from_str(include_str!("../../../data/catalogue.json"))
        .expect("the catalogue is checked by a test");
    products.into_iter().map(|product| (product.sku.clone(), product)).collect()
});

#[derive(Debug, Deserialize)]
pub(crate) struct Product {
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) price_cents: u64,
    /// The warehouse to take from first comes first.
    pub(crate) stock: Vec<Stock>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Stock {
    pub(crate) warehouse: String,
    pub(crate) quantity: u32,
}

pub(crate) fn product(sku: &str) -> Option<&'static Product> {
    CATALOGUE.get(sku)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_can_be_read_and_every_product_lies_somewhere() {
        assert!(CATALOGUE.values().all(|product| !product.stock.is_empty()));
    }
}
