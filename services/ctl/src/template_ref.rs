//! A template as it is typed: `NAMESPACE/NAME[@VERSION]`.

use tasker_client::v1::TemplateRef;

/// Reads it. What a namespace, a name and a version look like is for the mesh to say.
pub(crate) fn parse(text: &str) -> Result<TemplateRef, String> {
    let wrong = || "not like namespace/name or namespace/name@version".to_owned();
    let (template, version) = match text.split_once('@') {
        Some((_, "")) => return Err(wrong()),
        Some((template, version)) => (template, version),
        None => (text, ""),
    };
    match template.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(TemplateRef {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
        }),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_typed_with_or_without_its_version() {
        let read = |text| parse(text).map(|it| (it.namespace, it.name, it.version));
        let expected = |version: &str| {
            Ok(("orders".to_owned(), "process_order".to_owned(), version.to_owned()))
        };
        assert_eq!(read("orders/process_order"), expected(""));
        assert_eq!(read("orders/process_order@1.0.0-rc.1"), expected("1.0.0-rc.1"));
        for wrong in ["", "orders", "/a", "a/", "a/b@"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
