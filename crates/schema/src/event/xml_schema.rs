//! The XSD of the format `xml`. One schema fits all tables, since columns have their names in attributes.

/// The schema, XSD 1.0.
#[must_use]
pub fn xsd() -> &'static str {
    include_str!("event.xsd")
}
