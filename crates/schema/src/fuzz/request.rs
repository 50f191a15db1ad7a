//! What an operator writes that runs on every event: filters and templates.

use std::str;

use super::world::World;
use crate::event::EventOp;
use crate::event::template::{
    BodyTemplate, ContentType, EndpointUrl, Escaping, HeaderTemplate, MAX_HEADER_BYTES, MAX_OUTPUT_BYTES,
    TemplateError, Visible,
};
use crate::expr::{Input, MAX_LENGTH, Program, Purpose};
use crate::position::Position;

/// A filter's text is read, shown and read again, bound as a filter and as a computed column, and evaluated.
pub fn filter(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let program = match Program::parse(text) {
        Ok(program) => program,
        Err(error) => {
            let (line, column) = error.line_column(text);
            assert!(line > 0 && column > 0, "places are counted from 1");
            assert!(!error.to_string().is_empty());
            let _ = error.excerpt(text);
            return;
        }
    };
    let shown = program.to_string();
    // What was written in one byte, such as a line end, may be shown in several.
    if shown.len() <= MAX_LENGTH {
        let again = Program::parse(&shown).unwrap_or_else(|error| panic!("{shown:?} is refused: {error}"));
        assert!(again == program, "{shown:?} is another program");
    }
    let _ = program.columns();
    let _ = program.names("before");
    let world = World::new();
    let cells = world.cells();
    let row = Some(&cells as &dyn crate::expr::Row);
    for op in [EventOp::Insert, EventOp::Update, EventOp::Delete] {
        let input = Input {
            op,
            before: if op == EventOp::Insert { None } else { row },
            after: if op == EventOp::Delete { None } else { row },
            message: None,
            table: &world.def.name,
            stream: "shop",
            endpoint: "crm",
            position: Position::new(1, 42, 1),
            committed_at: 1_767_323_045_678_901,
        };
        if let Ok(bound) = program.bind(&world.def, Purpose::Condition) {
            let _ = bound.matches(&input);
        }
        if let Ok(bound) = program.bind(&world.def, Purpose::Value) {
            let _ = bound.cell(&input);
        }
        if let Ok(bound) = program.bind_message() {
            let _ = bound.matches(&input);
        }
    }
}

/// The first line is a content type, `header` or `url`; what follows is the template. It is checked against a table and
/// rendered for an event and for two.
pub fn template(data: &[u8]) {
    let Some((kind, text)) = str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) else { return };
    let world = World::new();
    let event = world.event();
    let both = [world.event(), world.event()];
    let tables = [Visible::all(&world.def)];
    match kind {
        "header" => {
            let template = match HeaderTemplate::parse(text) {
                Ok(template) => template,
                Err(error) => return placed(&error, text),
            };
            let _ = template.check(&tables, true);
            for value in [template.render(&event), template.render_batch(&both)].into_iter().flatten() {
                assert!(value.len() <= MAX_HEADER_BYTES);
                assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{value:?} ends a header");
            }
        }
        "url" => {
            let Ok(template) = EndpointUrl::parse(text) else { return };
            // The configuration refuses all others.
            if !matches!(template.base().scheme(), "http" | "https") {
                return;
            }
            let _ = template.path().check(&tables, false);
            for url in [template.render(&event), template.render_batch(&both)].into_iter().flatten() {
                assert_eq!(url.origin(), template.base().origin(), "a value changed the host");
                assert_eq!(url.fragment(), None);
                assert_eq!(url.username(), template.base().username());
            }
        }
        _ => {
            let Ok(content_type) = ContentType::parse(kind) else { return };
            let escaping = content_type.escaping();
            let template = match BodyTemplate::parse(text, content_type) {
                Ok(template) => template,
                Err(error) => return placed(&error, text),
            };
            let _ = template.check(&tables, false);
            for body in [template.render(&event), template.render_batch(&both)].into_iter().flatten() {
                assert!(body.len() <= MAX_OUTPUT_BYTES);
                if escaping == Escaping::Json {
                    let read = serde_json::from_str::<serde::de::IgnoredAny>(&body);
                    read.unwrap_or_else(|error| panic!("{body:?} is no JSON: {error}"));
                }
            }
        }
    }
}

fn placed(error: &TemplateError, text: &str) {
    let offset = error.place.offset;
    assert!(offset <= text.len() && text.is_char_boundary(offset), "{offset} is no place in the text");
    assert!(!error.to_string().is_empty());
}
