use super::*;
use crate::event::shape::{Action, ColumnRule, Shape, ShapeConfig};
use crate::event::template::{EndpointUrl, HeaderTemplate, Visible};

fn parse_error(text: &str) -> String {
    let error = BodyTemplate::parse(text, ContentType::parse("text/plain").unwrap()).unwrap_err();
    assert!(text.is_char_boundary(error.place.offset));
    error.to_string()
}

fn check(text: &str, tables: &[Visible<'_>], batch: bool) -> String {
    match template("text/plain", text).check(tables, batch) {
        Ok(()) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn wrong_templates_are_told_with_their_place() {
    for (text, message) in [
        ("a\n  {{ aftr.id }}", "there is no aftr (did you mean after?) at line 2, column 6 of the template"),
        (
            "{{ zzzzz }}",
            "there is no zzzzz; events have op, type, id, table, schema, database, stream, source, endpoint, position, commit_time, before, after, key, changed, replay at line 1, column 4 of the template",
        ),
        (
            "{% for e in events %}{{ e.tabel }}{% endfor %}",
            "there is no tabel (did you mean table?) at line 1, column 25 of the template",
        ),
        (
            "é {{ id | uper }}",
            "there is no filter uper (did you mean upper?) at line 1, column 11 of the template",
        ),
        (
            "{{ id | safe }}",
            "there is no filter safe; docs/templates.md lists them at line 1, column 9 of the template",
        ),
        (
            "{% if id is nmber %}{% endif %}",
            "there is no test nmber (did you mean number?) at line 1, column 13 of the template",
        ),
        (
            "{{ debug() }}",
            "there is no function debug; docs/templates.md lists them at line 1, column 4 of the template",
        ),
        (
            "{{ id.upper() }}",
            "a method cannot be used here; write a filter: {{ value | upper }} at line 1, column 4 of the template",
        ),
        (
            "{% filter upper %}x{% endfilter %}",
            "a filter block cannot be used here; write the filter behind each value at line 1, column 4 of the template",
        ),
        (
            "{% set x %}x{% endset %}",
            "a block that is set cannot be used here; write {% set name = expression %} at line 1, column 4 of the template",
        ),
        (
            "{% autoescape true %}{% endautoescape %}",
            "autoescape cannot be used here; values are escaped for the content type; write | raw for one that must not be at line 1, column 4 of the template",
        ),
        (
            "{% for x in [1] recursive %}{% endfor %}",
            "a recursive loop cannot be used here; write one loop within the other at line 1, column 4 of the template",
        ),
    ] {
        assert_eq!(parse_error(text), message, "{text}");
    }
    for (text, place) in [
        ("{{ id", "line 1, column"),
        ("a\nb {{ id | }}", "line 2, column"),
        ("{% if op %}", "line 1, column"),
        ("{% include 'x' %}", "line 1, column 4"),
        ("{% import 'x' as y %}", "line 1, column 4"),
        ("{% macro f() %}{% endmacro %}", "line 1, column 4"),
        ("{% extends 'x' %}", "line 1, column 4"),
    ] {
        let message = parse_error(text);
        assert!(message.contains(place), "{text}: {message}");
    }
    assert!(parse_error(&"x".repeat(33 * 1024)).starts_with("a template has at most 32768 bytes at line 1"));
    assert!(parse_error(&"{{ id }}".repeat(501)).starts_with("a template has at most 500 tags"));
    assert!(parse_error(&format!("{{{{ id{} }}}}", ".a".repeat(500))).starts_with("a template has at most"));
    assert!(parse_error("\u{10ffff}").starts_with("the character U+10FFFF cannot"));
}

/// A thread of a server has 2 MiB: what is nested as deep as it may be must fit, in all that walks through it.
#[test]
fn deepest_templates_fit_on_a_small_stack() {
    let (chain, world) = (140, World::new());
    let texts = [
        format!("{{{{ after{} | default('x') }}}}", ".a".repeat(chain)),
        format!("{{{{ id{} }}}}", " | upper".repeat(chain)),
        format!("{{{{ 1{} }}}}", " + after.id".repeat(chain / 2)),
        format!("{{{{ {}op }}}}", "not ".repeat(290)),
        format!("{{{{ {}1 }}}}", "-".repeat(140)),
        format!("{{{{ {}op{} }}}}", "(".repeat(140), ")".repeat(140)),
        format!("{{% if op == '' %}}{}{{% endif %}}", "{% elif op == 'x' %}".repeat(495)),
        format!("{}{}", "{% if op %}".repeat(140), "{% endif %}".repeat(140)),
        format!("{}x{}", "{% for a in [1] %}".repeat(140), "{% endfor %}".repeat(140)),
    ];
    let run = move || {
        for text in texts {
            match BodyTemplate::parse(&text, ContentType::parse("text/plain").unwrap()) {
                Ok(template) => {
                    let _ = template.check(&[], false);
                    let _ = template.render(&world.event(world.row(SAMPLE)));
                }
                Err(error) => assert!(error.to_string().contains("recursion"), "{error}: {}", &text[..40]),
            }
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn names_are_checked_against_tables() {
    let orders = orders();
    let tables = [Visible::all(&orders)];
    for (text, message) in [
        (
            "{{ after.totl }}",
            "no column totl in public.orders; nearest: total at line 1, column 4 of the template",
        ),
        (
            "{{ before['totl'] }}",
            "no column totl in public.orders; nearest: total at line 1, column 4 of the template",
        ),
        (
            "{% set row = after %}{{ row.xyzzyx }}",
            "no column xyzzyx in public.orders at line 1, column 25 of the template",
        ),
        (
            "{% for e in events %}{% if e.after.idd %}{% endif %}{% endfor %}",
            "no column idd in public.orders; nearest: id at line 1, column 29 of the template",
        ),
        (
            "{{ (events | first).after.idd }}",
            "no column idd in public.orders; nearest: id at line 1, column 20 of the template",
        ),
        (
            "{{ key.total }}",
            "total is no column of the key of public.orders; write after.total at line 1, column 4 of the template",
        ),
        (
            "{% if 'totl' in changed %}{% endif %}",
            "no column totl in public.orders; nearest: total at line 1, column 7 of the template",
        ),
        (
            "{{ after.totl | default(1) }}",
            "no column totl in public.orders; nearest: total at line 1, column 4 of the template",
        ),
        ("{{ after.total }} {{ key.id }} {{ after.info.anything.at.all }} {{ 'total' in changed }}", ""),
    ] {
        assert_eq!(check(text, &tables, false), message, "{text}");
        assert_eq!(check(text, &[], false), "", "{text}");
    }
}

#[test]
fn of_several_tables_a_condition_may_pick_one() {
    let mut customers = orders();
    customers.name = TableName::new("public", "customers");
    customers.columns.truncate(2);
    let orders = orders();
    let tables = [Visible::all(&orders), Visible::all(&customers)];
    assert_eq!(
        check("{% if table == 'orders' %}{{ after.total }}{% endif %}{{ after.name }}", &tables, false),
        ""
    );
    assert_eq!(check("{{ after.total | default('') }}{{ after.total if op else '' }}", &tables, false), "");
    assert_eq!(
        check("{{ after.total }}", &tables, false),
        "no column total in public.customers at line 1, column 4 of the template"
    );
    assert_eq!(
        check("{% if op %}{{ after.totl }}{% endif %}", &tables, false),
        "no column totl in public.orders; nearest: total at line 1, column 15 of the template"
    );
}

#[test]
fn shaped_columns_have_their_new_names() {
    let orders = orders();
    let config = ShapeConfig {
        columns: vec![
            ("total".into(), ColumnRule { rename: Some("amount".into()), action: Action::Pass }),
            ("name".into(), ColumnRule { rename: None, action: Action::Drop }),
        ],
        ..ShapeConfig::default()
    };
    let shape = Shape::compile(&config, &orders).unwrap();
    let tables = [Visible::shaped(&orders.name, &shape)];
    assert_eq!(check("{{ after.amount }}", &tables, false), "");
    assert_eq!(
        check("{{ after.total }}", &tables, false),
        "no column total in public.orders at line 1, column 4 of the template"
    );
    assert_eq!(
        check("{{ after.name }}", &tables, false),
        "no column name in public.orders at line 1, column 4 of the template"
    );
}

#[test]
fn batches_have_no_single_event() {
    let message = "after is not known for a batch; write {% for e in events %} and e.after at line 1, column 16 of the template";
    assert_eq!(check("{{ stream }}{{ after.id }}{{ op }}", &[], true), message);
    assert_eq!(check("{{ stream }}{% for e in events %}{{ e.after.id }}{% endfor %}", &[], true), "");
}

#[test]
fn paths_and_headers_are_checked_too() {
    let orders = orders();
    let tables = [Visible::all(&orders)];
    let url = EndpointUrl::parse("https://example.com/{{ after.totl }}").unwrap();
    assert!(url.path().check(&tables, false).unwrap_err().to_string().contains("nearest: total"));
    let header = HeaderTemplate::parse("Order {{ after.totl }}").unwrap();
    assert!(header.check(&tables, false).unwrap_err().to_string().contains("nearest: total"));
    assert!(header.check(&tables, true).is_err());
}

const PAGE: &str = include_str!("../../../../../../docs/templates.md");

#[test]
fn the_page_names_all_there_is() {
    use crate::event::template::filters::{FILTERS, FUNCTIONS, TESTS};
    use crate::event::template::scope::EVENT;
    for name in EVENT.iter().chain(FILTERS).chain(TESTS).chain(FUNCTIONS) {
        let named =
            [format!("`{name}`"), format!("`{name}(")].iter().any(|text| PAGE.contains(text.as_str()));
        assert!(named, "docs/templates.md does not name {name}");
    }
}

/// The examples are templates that render for events which have such columns.
#[test]
fn the_examples_of_the_page_render() {
    let examples = PAGE.split_once("## Examples").unwrap().1;
    let blocks: Vec<&str> =
        examples.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 6);
    let world = World::new();
    let text = ColumnType::parse(Dialect::Postgres, "text", None, &[]);
    let mut after = world.row(SAMPLE);
    after.retain(|field| field.name != "note");
    for name in ["status", "email", "phone", "balance", "note"] {
        after.push(Field { name, column: &text, cell: Cell::text("\"<1>\"") });
    }
    let mut event = world.event(after.clone());
    event.before = Some(after);
    event.changed = Some(vec!["status"]);
    let types = ["json", "json", "json", "x-www-form-urlencoded", "xml", "x-ndjson"];
    for (block, subtype) in blocks.into_iter().zip(types) {
        let template = template(&format!("application/{subtype}"), block);
        let body = template.render(&event).unwrap_or_else(|error| panic!("{block}: {error}"));
        match subtype {
            "xml" => assert!(roxmltree::Document::parse(&body).is_ok(), "{body}"),
            _ => assert!(body.contains("42") || body.contains("red"), "{body}"),
        }
    }
    assert!(
        crate::event::template::EndpointUrl::parse(
            "https://crm.example.com/v3/contacts/{{ after.id }}?source={{ stream }}"
        )
        .is_ok()
    );
}
