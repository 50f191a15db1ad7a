//! Writes values where they stand, so that none is taken for a part of the template.

use minijinja::Value;
use percent_encoding::utf8_percent_encode;

use super::content::Escaping;
use super::error::{Problem, RenderError};
use super::filters::NOT_UNRESERVED;
use super::json;
use super::value::Written;

/// What a template writes, and how far it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Escaper {
    Json(JsonPlace),
    Xml,
    Html,
    Form,
    Text,
    Path,
    Query,
    Header,
}

/// Where in a JSON text its end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JsonPlace {
    /// Not in a string.
    Outside,
    /// In a string.
    String,
    /// In a string, after a backslash.
    Backslash,
    /// In a string, after `\u` and less than four digits: so many are missing.
    Unicode(u8),
}

impl JsonPlace {
    fn after(self, text: &str) -> Self {
        text.bytes().fold(self, |place, byte| match (place, byte) {
            (Self::Outside, b'"') => Self::String,
            (Self::Outside, _) => Self::Outside,
            (Self::String, b'"') => Self::Outside,
            (Self::String, b'\\') => Self::Backslash,
            (Self::Backslash, b'u') => Self::Unicode(4),
            (Self::Unicode(missing @ 2..), _) => Self::Unicode(missing - 1),
            (Self::String | Self::Backslash | Self::Unicode(_), _) => Self::String,
        })
    }
}

impl Escaper {
    pub(super) fn of(escaping: Escaping) -> Self {
        match escaping {
            Escaping::Json | Escaping::JsonLines => Self::Json(JsonPlace::Outside),
            Escaping::Xml => Self::Xml,
            Escaping::Html => Self::Html,
            Escaping::Form => Self::Form,
            Escaping::None => Self::Text,
        }
    }

    /// Appends a part of the template.
    pub(super) fn literal(&mut self, out: &mut String, text: &str) {
        match self {
            Self::Json(place) => *place = place.after(text),
            Self::Path if text.contains('?') => *self = Self::Query,
            _ => {}
        }
        out.push_str(text);
    }

    /// Appends a value.
    pub(super) fn value(&mut self, out: &mut String, value: &Value) -> Result<(), RenderError> {
        if let Self::Json(JsonPlace::Backslash | JsonPlace::Unicode(_)) = self {
            return Err(RenderError::AfterBackslash);
        }
        if let Some(Written::Raw(text)) = value.downcast_object_ref()
            && !matches!(self, Self::Path | Self::Query | Self::Header)
        {
            self.literal(out, text);
            return Ok(());
        }
        if let Self::Json(JsonPlace::Outside) = self {
            return json::write(out, value);
        }
        let text = json::plain(value)?;
        match self {
            Self::Json(_) => json::write_content(out, &text),
            Self::Xml => xml(out, &text)?,
            Self::Html => html(out, &text),
            Self::Form => out.extend(::url::form_urlencoded::byte_serialize(text.as_bytes())),
            Self::Text => out.push_str(&text),
            Self::Path if text.is_empty() => return Err(RenderError::EmptySegment),
            Self::Path | Self::Query => out.extend(utf8_percent_encode(&text, NOT_UNRESERVED)),
            Self::Header => {
                if text.chars().any(char::is_control) {
                    return Err(RenderError::HeaderControl);
                }
                if !text.is_ascii() {
                    return Err(RenderError::HeaderNotAscii);
                }
                out.push_str(&text);
            }
        }
        Ok(())
    }
}

/// Line ends and tabs are written as references too: an XML reader would otherwise make blanks of them in attributes,
/// and line feeds of carriage returns everywhere (XML 1.0, sections 2.11 and 3.3.3).
fn xml(out: &mut String, text: &str) -> Result<(), RenderError> {
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            // XML 1.0, section 2.2: no other control characters, and these two noncharacters.
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => return Err(RenderError::XmlCharacter),
            _ => out.push(char),
        }
    }
    Ok(())
}

fn html(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(char),
        }
    }
}

/// Bodies say what they like.
pub(super) fn any_literal(_: &str) -> Option<(usize, Problem)> {
    None
}

/// What can stand in a path or query: RFC 3986's characters less `#`, which would begin a fragment.
pub(super) fn url_literal(text: &str) -> Option<(usize, Problem)> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte);
    text.bytes().position(|byte| !fits(byte)).map(|at| (at, Problem::UrlCharacter))
}

/// What can stand in a header: printable ASCII.
pub(super) fn header_literal(text: &str) -> Option<(usize, Problem)> {
    text.bytes().position(|byte| !(b' '..=b'~').contains(&byte)).map(|at| (at, Problem::HeaderCharacter))
}
