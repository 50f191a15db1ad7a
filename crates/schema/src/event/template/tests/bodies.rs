use super::*;
use crate::event::template::{Escaping, MAX_OUTPUT_BYTES, RenderError};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

#[test]
fn json_values_are_written_as_where_they_stand_needs_it() {
    for (text, expected) in [
        // Within a string: content. Outside: a value.
        (
            r#"{"text": "Order {{ after.id }}: {{ after.total }}"}"#,
            r#"{"text": "Order 42: 12345678901234567890.1234567890"}"#,
        ),
        (r#"{"id": {{ after.id }}}"#, r#"{"id": 42}"#),
        (r#"{"total": {{ after.total }}}"#, r#"{"total": "12345678901234567890.1234567890"}"#),
        (r#"{"total": {{ after.total | raw }}}"#, r#"{"total": 12345678901234567890.1234567890}"#),
        (r#"{"ratio": {{ after.ratio }}, "paid": {{ after.paid }}}"#, r#"{"ratio": 0.5, "paid": true}"#),
        (
            r#"["{{ after.name }}", {{ after.name }}]"#,
            r#"["Ann \"A\" O'Neil <a&b>", "Ann \"A\" O'Neil <a&b>"]"#,
        ),
        (r#"["{{ after.note }}", {{ after.note }}]"#, r#"["", null]"#),
        (r#"[{{ after.at }}, "{{ after.at }}"]"#, r#"["2026-01-02T03:04:05.5Z", "2026-01-02T03:04:05.5Z"]"#),
        (r#"{{ after.photo }}"#, r#""AP8=""#),
        // Documents: as they are, and taken apart.
        (r#"{{ after.info }}"#, r#"{"a": {"b": [1, "x", null]}, "big": 12345678901234567890123}"#),
        (
            r#"[{{ after.info.a.b[0] }}, {{ after.info.a.b[1] }}, {{ after.info["a"]["b"] }}]"#,
            r#"[1, "x", [1, "x", null]]"#,
        ),
        (r#"{{ after.info.big }}"#, r#""12345678901234567890123""#),
        (r#""{{ after.info.a }}""#, r#""{\"b\": [1, \"x\", null]}""#),
        (r#"{{ after.tags }}"#, r#"["red","a b"]"#),
        (r#""{{ after.tags | join(', ') }}""#, r#""red, a b""#),
        // Rows and events as a whole.
        (r#"{{ key }}"#, r#"{"id":42}"#),
        (r#"[{{ changed }}, {{ before }}]"#, r#"[["total","name"], null]"#),
        (r#"{{ {"a": after.id, "b": [after.paid, none]} }}"#, r#"{"a":42,"b":[true,null]}"#),
        (r#""{{ after.info.a | json }}""#, r#""{\"b\": [1, \"x\", null]}""#),
        (r#"{{ {"a": 1} | json }}"#, r#"{"a":1}"#),
        // Quotes that a loop or a condition writes count too.
        (
            r#"[{% for tag in after.tags %}"{{ tag }}"{% if not loop.last %},{% endif %}{% endfor %}]"#,
            r#"["red","a b"]"#,
        ),
        (
            r#"{% if after.paid %}"{% endif %}{{ after.name }}{% if after.paid %}"{% endif %}"#,
            r#""Ann \"A\" O'Neil <a&b>""#,
        ),
        (r#""\\{{ after.id }}""#, r#""\\42""#),
        (r#""\u0041{{ after.id }}""#, r#""\u004142""#),
        // What an event says of itself.
        (
            r#"[{{ op }},{{ type }},{{ id }},{{ table }},{{ schema }},{{ database }}]"#,
            r#"["update","row.update","shop:1","orders","public","shopdb"]"#,
        ),
        (
            r#"[{{ stream }},{{ source }},{{ endpoint }},{{ position }},{{ commit_time }},{{ replay }}]"#,
            r#"["shop","postgres:7","crm","00000001-00000000000000000000002a-0000000001","2026-01-02T03:04:05.678901Z",false]"#,
        ),
        (r#"[{% for e in events %}{{ e.after.id }}{% endfor %}]"#, "[42]"),
        (r#"{{ events[0].op }}"#, r#""update""#),
        (r#"{{ 9007199254740991 }}"#, "9007199254740991"),
        (r#"{{ 9007199254740993 }}"#, r#""9007199254740993""#),
        (r#"{{ 1 / 3 }}"#, "0.3333333333333333"),
    ] {
        assert_eq!(body(JSON, text), expected, "{text}");
    }
}

#[test]
fn numbers_are_compared_and_calculated_with() {
    for (text, expected) in [
        ("{% if after.total > 1000 %}big{% endif %}", "big"),
        ("{% if after.total < 1000 %}small{% else %}big{% endif %}", "big"),
        ("{% if 0.25 < after.ratio <= 0.5 %}half{% endif %}", "half"),
        ("{% if after.id == 42 and after.id != 43 %}yes{% endif %}", "yes"),
        ("{{ after.ratio * 2 }} {{ after.ratio + after.id }} {{ -after.ratio }}", "1.0 42.5 -0.5"),
        (
            "{{ (after.ratio + 1) | round }} {{ [after.ratio, 2] | sum }} {{ [after.ratio, 2] | max }}",
            "2.0 2.5 2",
        ),
        ("{% if after.ratio is number and after.ratio in [0.5] %}yes{% endif %}", "yes"),
        ("{% if after.ratio %}not zero{% endif %}", "not zero"),
        ("{% if after.info.big > 5 %}big{% endif %}", "big"),
        (
            "{{ after.total ~ '/' ~ after.note ~ '/' ~ after.info.a.b }}",
            "12345678901234567890.1234567890//[1, \"x\", null]",
        ),
        (
            "{{ after.note | default('none', true) }} {{ after.total | default(0) }}",
            "none 12345678901234567890.1234567890",
        ),
        ("{{ 'yes' if 'total' in changed else 'no' }} {{ 'red' in after.tags }}", "yes true"),
        ("{% if after.info.a.b[0] + 1 == 2 %}two{% endif %}", "two"),
        ("{% set n = after.ratio %}{{ n }}", "0.5"),
    ] {
        assert_eq!(body(TEXT, text), expected, "{text}");
    }
}

#[test]
fn filters() {
    for (text, expected) in [
        ("{{ 'aB' | upper }}{{ 'aB' | lower }}{{ 'ab c' | title }}{{ 'ab' | capitalize }}", "ABabAb CAb"),
        (
            "{{ after.id | string | length }} {{ after.total | string | replace('.', ',') }}",
            "2 12345678901234567890,1234567890",
        ),
        ("{{ after.at | date('%d.%m.%Y %H:%M:%S %%') }} {{ 'x' | date('%Y') }}", "02.01.2026 03:04:05 % x"),
        ("{{ '2026-02-03' | date('%Y/%m/%d %H') }}", "2026/02/03 00"),
        ("{{ 'añb' | truncate(2) }} {{ 'a' | truncate(2) }}", "añ a"),
        (
            "{{ 'a b/é' | urlencode }} {{ 'abc' | base64 }} {{ after.name | trim | length }}",
            "a%20b%2F%C3%A9 YWJj 20",
        ),
        (
            "{{ [3, 1, 2] | sort | join('-') }} {{ after.tags | first }} {{ after.tags | reverse | first }}",
            "1-2-3 red a b",
        ),
        ("{{ events | map(attribute='after.total') | join }}", "12345678901234567890.1234567890"),
    ] {
        assert_eq!(body(TEXT, text), expected, "{text}");
    }
}

#[test]
fn hostile_values_stay_values() {
    for value in HOSTILE {
        let json = named(
            JSON,
            r#"{"a": "<{{ after.name }}>", "b": {{ after.name }}, "c": "{{ after.name | upper | lower }}"}"#,
            value,
        )
        .unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["a"], format!("<{value}>"), "{json}");
        assert_eq!(parsed["b"], *value, "{json}");
        assert_eq!(parsed.as_object().map(serde_json::Map::len), Some(3), "{json}");

        let form = named("application/x-www-form-urlencoded", "a={{ after.name }}&b=1", value).unwrap();
        let pairs: Vec<_> = ::url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
        assert_eq!(pairs, [("a".to_owned(), (*value).to_owned()), ("b".into(), "1".into())], "{form}");

        let xml = named("application/xml", r#"<a b="{{ after.name }}">{{ after.name }}</a>"#, value);
        let forbidden = |char: char| matches!(char, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}');
        if value.contains(forbidden) {
            assert_eq!(xml, Err(RenderError::XmlCharacter), "{value:?}");
        } else {
            let xml = xml.unwrap();
            let parsed = roxmltree::Document::parse(&xml).unwrap();
            let root = parsed.root_element();
            assert_eq!(
                (root.attribute("b"), root.text().unwrap_or_default()),
                (Some(*value), *value),
                "{xml}"
            );
        }

        let html = named("text/html", r#"<p title='{{ after.name }}'>{{ after.name }}</p>"#, value).unwrap();
        assert_eq!(
            (html.matches('<').count(), html.matches('>').count(), html.matches('\'').count()),
            (2, 2, 2)
        );
        assert_eq!(named(TEXT, "<{{ after.name }}>", value).unwrap(), format!("<{value}>"));
    }
    let long = "\"\\".repeat(1 << 20);
    let json = named(JSON, r#"{"a": "{{ after.name }}"}"#, &long).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["a"], long);
}

#[test]
fn json_in_other_content_types_is_escaped_for_them() {
    assert_eq!(
        body("text/xml", "<i>{{ after.info.a }}</i>"),
        "<i>{&quot;b&quot;: [1, &quot;x&quot;, null]}</i>"
    );
    assert_eq!(body("application/xml", "<a>{{ '<b/>' | raw }}{{ '<b/>' }}</a>"), "<a><b/>&lt;b/&gt;</a>");
    assert_eq!(
        body("application/x-www-form-urlencoded", "a={{ after.info.a.b | json }}"),
        "a=%5B1%2C+%22x%22%2C+null%5D"
    );
}

#[test]
fn bodies_that_are_no_xml_are_not_sent() {
    let world = World::new();
    let row = world.row(&[("id", Some("1")), ("name", Some("<b>&"))]);
    let rendered = |text: &str| template("application/soap+xml", text).render(&world.event(row.clone()));
    for (text, line, column) in [
        ("<a>\n  {{ after.name | raw }}</a>", 2, 6),
        ("<a>{{ after.id }}</b>", 1, 5),
        ("<a b='1' b='2'/>", 1, 10),
        ("<s:Envelope>{{ after.id }}</s:Envelope>", 1, 2),
        ("<a/><b/>", 1, 5),
    ] {
        assert_eq!(rendered(text), Err(RenderError::NotXml { line, column }), "{text}");
    }
    for text in [
        "<?xml version=\"1.0\"?>\n<!DOCTYPE a>\n<a x=\"{{ after.name }}\">{{ after.name }}</a>\n",
        "<s:E xmlns:s='urn:s'><!-- x --><s:B>{{ after.id }}</s:B></s:E>",
    ] {
        assert!(rendered(text).is_ok(), "{text}");
    }
}

#[test]
fn lines_of_json() {
    let text = "{% for e in events %}{\"id\": {{ e.after.id }}}\n{% endfor %}";
    let world = World::new();
    let events = [world.event(world.row(SAMPLE)), world.event(world.row(&[("id", Some("43"))]))];
    let lines = template("application/x-ndjson", text);
    assert_eq!(lines.render_batch(&events).unwrap(), "{\"id\": 42}\n{\"id\": 43}\n");
    let broken = template("application/x-ndjson", "{}\n{{ after.id }}}\n").render(&events[0]);
    assert_eq!(broken, Err(RenderError::NotJson { line: 2, column: 3 }));
    let one = template(JSON, "[{% for e in events %}{{ e.key.id }},{% endfor %} {{ stream }}]");
    assert_eq!(one.render_batch(&events).unwrap(), "[42,43, \"shop\"]");
    let whole = template(JSON, "{{ events }}").render_batch(&events).unwrap();
    let whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
    assert_eq!((&whole[1]["after"]["id"], &whole[0]["op"]), (&43.into(), &"update".into()));
}

#[test]
fn what_cannot_be_rendered_is_told_without_values() {
    for (content_type, text, message) in [
        (
            JSON,
            r#"{"a": {{ after.name | raw }}}"#,
            "! the rendered body is not JSON at its line 1, column 7; see what it looks like with `rowbridge endpoint test`",
        ),
        (
            JSON,
            "{\"a\": \"\n\"}",
            "! the rendered body is not JSON at its line 1, column 7; see what it looks like with `rowbridge endpoint test`",
        ),
        (
            JSON,
            r#""\{{ after.name }}""#,
            "! a value stands right after a backslash of a JSON string, which would change its meaning; remove the backslash",
        ),
        (
            JSON,
            r#""\u00{{ after.id }}""#,
            "! a value stands right after a backslash of a JSON string, which would change its meaning; remove the backslash",
        ),
        (
            TEXT,
            "a\n {{ after.info.x }}",
            "! after.info.x has no value in this event at line 2, column 5 of the template; write `| default(...)` or ask for it by {% if ... is defined %}",
        ),
        (
            TEXT,
            "{{ before.id }}",
            "! before.id has no value in this event at line 1, column 4 of the template; write `| default(...)` or ask for it by {% if ... is defined %}",
        ),
        (
            TEXT,
            "{{ after.name + 1 }}",
            "! an operation or a filter does not take this value at line 1, column 4 of the template",
        ),
        (
            TEXT,
            "{{ after.name | int }}",
            "! an operation or a filter does not take this value at line 1, column 17 of the template",
        ),
        (
            TEXT,
            "{% for x in range(100000) %}{% for y in range(100000) %}{% endfor %}{% endfor %}",
            "! the template does more work than an event is worth; have it loop less",
        ),
        (
            TEXT,
            "{{ 'x' * 99999999 }}",
            "! the template does more work than an event is worth; have it loop less",
        ),
    ] {
        assert_eq!(body(content_type, text), message, "{text}");
    }
}

#[test]
fn output_is_bounded() {
    let long = "x".repeat(1 << 20);
    let text = "{% for i in range(17) %}{{ after.name }}{% endfor %}";
    assert_eq!(named(TEXT, text, &long), Err(RenderError::TooLarge { limit_bytes: MAX_OUTPUT_BYTES }));
    assert_eq!(
        named(TEXT, "{% for i in range(15) %}{{ after.name }}{% endfor %}", &long).unwrap().len(),
        15 << 20
    );
}

#[test]
fn deep_documents_are_written_but_not_taken_apart() {
    let world = World::new();
    for depth in [64, 65, 5000] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let event = world.event(world.row(&[("info", Some(&deep))]));
        assert_eq!(template(TEXT, "{{ after.info }}").render(&event).unwrap(), deep);
        let first = template(TEXT, "{{ after.info[0] is defined }}").render(&event).unwrap();
        assert_eq!(first, (depth == 64).to_string());
        let same = template(TEXT, "{{ after.info == after.info }}").render(&event);
        assert_eq!(same.unwrap(), "true");
    }
}

#[test]
fn content_types() {
    for (text, escaping) in [
        ("application/json", Escaping::Json),
        ("Application/JSON; charset=UTF-8", Escaping::Json),
        ("application/vnd.api+json", Escaping::Json),
        ("application/cloudevents+json; charset=\"utf-8\"", Escaping::Json),
        ("application/x-ndjson", Escaping::JsonLines),
        ("application/soap+xml", Escaping::Xml),
        ("text/xml", Escaping::Xml),
        ("text/html", Escaping::Html),
        ("application/x-www-form-urlencoded", Escaping::Form),
        ("text/plain", Escaping::None),
        ("application/x-yaml", Escaping::None),
    ] {
        assert_eq!(ContentType::parse(text).unwrap().escaping(), escaping, "{text}");
    }
    for text in [
        "",
        "json",
        "a/",
        "/b",
        "text/plain\r\nX: 1",
        "text/plain; x",
        "text/\u{e9}",
        "text/plain; charset=latin1",
    ] {
        assert!(ContentType::parse(text).is_err(), "{text}");
    }
}
