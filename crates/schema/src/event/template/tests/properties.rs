use proptest::prelude::*;

use super::*;
use crate::event::template::{EndpointUrl, HeaderTemplate, RenderError};

/// Texts with more of what matters to those who read bodies and URLs.
fn value() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec![
        "\"",
        "\\",
        "/",
        "..",
        ".",
        "?",
        "#",
        "&",
        "=",
        "%",
        "%2e",
        "<",
        ">",
        "]]>",
        "\r\n",
        "\0",
        "{{",
        "}}",
        "{%",
        "\u{2028}",
        "\u{10ffff}",
        "\u{1f600}",
        ";",
        "@",
        ":",
        " ",
        "+",
        "'",
    ]);
    prop::collection::vec(prop_oneof![special.prop_map(str::to_owned), any::<String>()], 0..8)
        .prop_map(|parts| parts.concat())
}

/// Tags and what stands around them, put together anyhow.
fn source() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        " after",
        ".id",
        " if ",
        " for x in ",
        "events",
        " endif",
        " endfor",
        "|",
        " upper",
        "(",
        ")",
        "[",
        "]",
        "'",
        "\"",
        "1",
        "e9",
        " + ",
        " not ",
        " is ",
        "defined",
        "\n",
        "\\",
        "-",
        "~",
        ",",
        " set x = ",
        "raw",
        "endraw",
        " else",
        "é",
        "\u{10ffff}",
        ":",
        "*",
        "**",
        "//",
        " recursive",
        " with ",
        "loop",
    ]);
    prop::collection::vec(prop_oneof![4 => piece.prop_map(str::to_owned), 1 => any::<String>()], 0..24)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_value_is_the_same_in_json(name in value(), note in value()) {
        let world = World::new();
        let event = world.event(world.row(&[("name", Some(&name)), ("note", Some(&note))]));
        let text = r#"{"{{ after.note }}": ["x{{ after.name }}y", {{ after.name }}{% for e in events %}, "{{ e.after.name }}"{% endfor %}], "w": {{ after }}}"#;
        let rendered = template("application/json", text).render(&event).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&rendered).unwrap();
        prop_assume!(note != "w");
        prop_assert_eq!(&parsed[&note], &serde_json::json!([format!("x{name}y"), name, name]));
        prop_assert_eq!(&parsed["w"], &serde_json::json!({ "name": name, "note": note }));
    }

    #[test]
    fn any_number_keeps_its_digits(total in "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,12})?", id in any::<i64>()) {
        let world = World::new();
        let id = id.to_string();
        let event = world.event(world.row(&[("total", Some(&total)), ("id", Some(&id))]));
        prop_assert_eq!(template("text/plain", "{{ after.total }} {{ after.id }}").render(&event).unwrap(), format!("{total} {id}"));
        let json = template("application/json", "[{{ after.total }}, {{ after.id }}]").render(&event).unwrap();
        let bare = json.replace('"', "");
        prop_assert_eq!(&bare, &format!("[{total}, {id}]"));
        // What is bare survives a reader that has doubles only.
        let parsed: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        if let Some(double) = parsed[1].as_f64() {
            prop_assert_eq!(format!("{double:.0}"), id);
        }
    }

    #[test]
    fn no_value_leaves_its_place_in_a_url(name in value(), note in value()) {
        let world = World::new();
        let event = world.event(world.row(&[("name", Some(&name)), ("note", Some(&note))]));
        let url = EndpointUrl::parse("https://example.com:8443/a/{{ after.name }}/{{ after.note }}?q={{ after.name }}&r={{ after.note }}").unwrap();
        match url.render(&event) {
            Ok(url) => {
                prop_assert_eq!(url.origin().ascii_serialization(), "https://example.com:8443");
                prop_assert_eq!(url.fragment(), None);
                let parts: Vec<_> = url.path_segments().unwrap().map(|part| percent_encoding::percent_decode_str(part).decode_utf8().unwrap().into_owned()).collect();
                prop_assert_eq!(parts, [&*"a".to_owned(), &name, &note]);
                let pairs: Vec<_> = url.query_pairs().into_owned().collect();
                prop_assert_eq!(pairs, [("q".to_owned(), name), ("r".to_owned(), note)]);
            }
            Err(RenderError::EmptySegment) => prop_assert!(name.is_empty() || note.is_empty()),
            Err(RenderError::DotSegment) => prop_assert!([&name, &note].iter().any(|value| matches!(value.as_str(), "." | ".."))),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn no_value_ends_a_header(name in value()) {
        let world = World::new();
        let event = world.event(world.row(&[("name", Some(&name))]));
        if let Ok(value) = HeaderTemplate::parse("a {{ after.name }} b").unwrap().render(&event) {
            prop_assert_eq!(&value, &format!("a {name} b"));
            prop_assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }

    #[test]
    fn no_text_makes_parsing_or_rendering_panic(text in source()) {
        let world = World::new();
        let event = world.event(world.row(SAMPLE));
        for content_type in ["application/json", "text/xml", "text/plain"] {
            match BodyTemplate::parse(&text, ContentType::parse(content_type).unwrap()) {
                Ok(template) => {
                    let orders = orders();
                    let _ = template.check(&[crate::event::template::Visible::all(&orders)], false);
                    let _ = template.render(&event);
                }
                Err(error) => {
                    prop_assert!(error.place.offset <= text.len() && text.is_char_boundary(error.place.offset));
                    prop_assert!(!error.to_string().is_empty());
                }
            }
        }
        let _ = HeaderTemplate::parse(&text);
        let _ = EndpointUrl::parse(&format!("https://example.com/{text}"));
        let _ = EndpointUrl::parse(&text);
    }
}
