//! Content types, as far as they say how values are escaped.

/// How values are written into a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Escaping {
    /// JSON: string content within quotes, a JSON value outside of them. The body must be one JSON text.
    Json,
    /// The same, where each line is a JSON text.
    JsonLines,
    /// XML: entities. The body must be one well-formed document.
    Xml,
    /// HTML: entities.
    Html,
    /// `application/x-www-form-urlencoded`: percent-encoded, blanks as `+`.
    Form,
    /// As it is.
    None,
}

/// A body's content type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentType {
    text: String,
    escaping: Escaping,
}

/// Why a text is no content type for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentTypeError {
    /// Not of the form `type/subtype; name=value` (RFC 9110, section 8.3.1).
    #[error("not a content type; write one such as application/json")]
    Form,
    /// Bodies are written in UTF-8.
    #[error("bodies are sent in UTF-8; write charset=utf-8, or leave it out")]
    Charset,
}

impl ContentType {
    /// Reads `type/subtype`, with or without parameters.
    ///
    /// # Errors
    /// Not a content type, or one with another charset than UTF-8.
    pub fn parse(text: &str) -> Result<Self, ContentTypeError> {
        let text = text.trim();
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/').ok_or(ContentTypeError::Form)?;
        if !printable || !is_token(kind) || !is_token(subtype) {
            return Err(ContentTypeError::Form);
        }
        for parameter in parts {
            let (name, value) = parameter.split_once('=').ok_or(ContentTypeError::Form)?;
            if !is_token(name) || value.is_empty() {
                return Err(ContentTypeError::Form);
            }
            let value = value.trim_matches('"');
            if name.eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8") {
                return Err(ContentTypeError::Charset);
            }
        }
        Ok(Self { text: text.to_owned(), escaping: escaping(&essence) })
    }

    /// The header's value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How values are written.
    #[must_use]
    pub fn escaping(&self) -> Escaping {
        self.escaping
    }
}

fn escaping(essence: &str) -> Escaping {
    match essence {
        "application/json" | "text/json" => Escaping::Json,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/json-lines" => {
            Escaping::JsonLines
        }
        "application/xml" | "text/xml" => Escaping::Xml,
        "text/html" => Escaping::Html,
        "application/x-www-form-urlencoded" => Escaping::Form,
        _ if essence.ends_with("+json") => Escaping::Json,
        _ if essence.ends_with("+xml") => Escaping::Xml,
        _ => Escaping::None,
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
