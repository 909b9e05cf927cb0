//! The example templates.

use std::{collections::BTreeMap, fs, path::Path};

use tasker_client::{Client, v1::Template};

/// The definition of an example template, such as `linear`.
///
/// # Panics
/// There is none.
#[must_use]
pub fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/templates");
    let file = folder.join(format!("{name}.yaml"));
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Registers example templates, and returns them by name.
///
/// # Panics
/// The mesh refuses one.
pub async fn register_examples(client: &Client, names: &[&str]) -> BTreeMap<String, Template> {
    let mut templates = BTreeMap::new();
    for name in names {
        let template = client.register_template(example(name)).await;
        let template = template.unwrap_or_else(|error| panic!("{name}: {error}"));
        templates.insert((*name).to_owned(), template);
    }
    templates
}
