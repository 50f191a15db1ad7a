use proptest::prelude::*;

use super::*;
use crate::event::EventOp;
use crate::table::{Column, Dialect, TableDef, TableName};
use crate::types::Kind;

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn orders() -> TableDef {
    let mut doubled = Column::new("doubled", "numeric(10,2)");
    doubled.generated = Some("total * 2".into());
    TableDef {
        dialect: Dialect::Postgres,
        name: TableName::new("public", "orders"),
        columns: vec![
            Column::new("id", "bigint"),
            Column::new("region", "text"),
            Column::new("total", "numeric(10,2)"),
            doubled,
            Column::new("email", "text"),
        ],
        key: vec![1, 0],
        types: vec![],
        options: vec![],
    }
}

fn cells(email: Cell<'static>) -> Vec<Option<Cell<'static>>> {
    vec![Some(Cell::text("42")), Some(Cell::text("eu")), Some(Cell::text("10.50")), None, Some(email)]
}

fn rule(action: Action) -> ColumnRule {
    ColumnRule { action, rename: None }
}

fn config(columns: Vec<(&str, ColumnRule)>) -> ShapeConfig {
    let columns = columns.into_iter().map(|(name, rule)| (name.to_owned(), rule)).collect();
    ShapeConfig { columns, ..ShapeConfig::default() }
}

fn hash(key: &str) -> Action {
    Action::Hash { key: Secret::new(key) }
}

/// `name=value` of every field.
fn shown(fields: &[Field<'_>]) -> Vec<String> {
    fields.iter().map(|field| format!("{}={}", field.name, field.cell.as_str().unwrap_or("NULL"))).collect()
}

#[test]
fn without_rules_cells_are_borrowed() {
    let shape = Shape::compile(&ShapeConfig::default(), &orders()).unwrap();
    let row = cells(Cell::text("ann@example.com"));
    let fields = shape.apply(&row, None).unwrap();
    assert_eq!(shown(&fields), ["id=42", "region=eu", "total=10.50", "email=ann@example.com"]);
    for field in &fields {
        let Cell::Text(Cow::Borrowed(text)) = &field.cell else { panic!("{} is copied", field.name) };
        let original = row.iter().flatten().filter_map(Cell::as_str).any(|cell| std::ptr::eq(cell, *text));
        assert!(original, "{} is not the row's own text", field.name);
    }
    assert_eq!(shown(&shape.key(&row)), ["region=eu", "id=42"]);
    assert!(shape.lost_key().is_empty());
}

#[test]
fn columns_are_kept_dropped_renamed_masked_hashed_and_cut() {
    let row = cells(Cell::text("añn@example.com"));
    let see = |config: &ShapeConfig| {
        let shape = Shape::compile(config, &orders()).unwrap();
        shown(&shape.apply(&row, None).unwrap()).join(" ")
    };
    let kept = ShapeConfig {
        keep: Some(vec!["total".into(), "id".into()]),
        columns: vec![("id".into(), ColumnRule { rename: Some("order_id".into()), action: Action::Pass })],
        ..ShapeConfig::default()
    };
    assert_eq!(see(&kept), "order_id=42 total=10.50");
    for (action, email) in [
        (Action::Mask, "***"),
        (Action::MaskAllBut { last: 4 }, "***.com"),
        (Action::MaskAllBut { last: 0 }, "***"),
        (Action::MaskAllBut { last: 15 }, "***"),
        (Action::MaskAllBut { last: 14 }, "***ñn@example.com"),
        (Action::MaskAllBut { last: usize::MAX }, "***"),
        (Action::Truncate { chars: 3 }, "añn"),
        (Action::Truncate { chars: 0 }, ""),
        (Action::Truncate { chars: 99 }, "añn@example.com"),
    ] {
        let seen = see(&config(vec![("email", rule(action.clone()))]));
        assert_eq!(seen, format!("id=42 region=eu total=10.50 email={email}"), "{action:?}");
    }
    assert_eq!(see(&config(vec![("email", rule(Action::Drop))])), "id=42 region=eu total=10.50");
}

#[test]
fn hashes_are_hmac_sha_256() {
    // RFC 4231, test case 2: key "Jefe", but keys that short are refused; so the vector is checked on the rule itself.
    let compiled = Compiled::new(&hash("Jefe")).unwrap();
    assert_eq!(
        compiled.apply("what do ya want for nothing?"),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    let shape = Shape::compile(&config(vec![("email", rule(hash(KEY)))]), &orders()).unwrap();
    let of = |email: Cell<'static>| {
        let row = cells(email);
        let fields = shape.apply(&row, None).unwrap();
        assert_eq!(fields[3].column.name, "text");
        fields[3].cell.clone().into_owned()
    };
    assert_eq!(of(Cell::Null), Cell::Null);
    assert_eq!(of(Cell::text("a")), of(Cell::Classed(crate::cell::Class::Text, "a".into())));
    assert_ne!(of(Cell::text("a")), of(Cell::text("b")));
    assert!(!format!("{shape:?}").contains(KEY));
}

#[test]
fn changed_and_key_use_the_names_that_are_seen() {
    let renamed = |action| ColumnRule { rename: Some("contact".into()), action };
    let rules = vec![("email", renamed(Action::Mask)), ("region", rule(Action::Drop))];
    let shape = Shape::compile(&config(rules), &orders()).unwrap();
    let (old, mut new) = (cells(Cell::text("a@example.com")), cells(Cell::text("b@example.com")));
    new[1] = Some(Cell::text("us"));
    new[2] = None;
    assert_eq!(shape.changed(&old, &new), ["contact"]);
    assert_eq!(shape.changed(&new, &new), Vec::<&str>::new());
    assert_eq!(shown(&shape.key(&new)), ["id=42"]);
    assert_eq!(shape.lost_key(), ["region"]);
    assert_eq!((shape.name(4), shape.name(1), shape.name(3)), (Some("contact"), None, None));
    assert_eq!(shape.fields().map(|(name, _)| name).collect::<Vec<_>>(), ["id", "total", "contact"]);
    assert!(shape.fields().last().is_some_and(|(_, column)| matches!(column.kind, Kind::Text { .. })));
}

#[test]
fn computed_columns_see_the_table() {
    let config = ShapeConfig {
        keep: Some(vec!["id".into()]),
        computed: vec![ComputedColumn {
            name: "gross".into(),
            program: Program::parse("after.total * 2").unwrap(),
        }],
        ..ShapeConfig::default()
    };
    let table = orders();
    let shape = Shape::compile(&config, &table).unwrap();
    let row = cells(Cell::Null);
    let input = Input {
        op: EventOp::Insert,
        before: None,
        after: Some(&row),
        message: None,
        table: &table.name,
        stream: "shop",
        endpoint: "crm",
        position: "00000001-00000000000000000000002a-0000000001".parse().unwrap(),
        committed_at: 0,
    };
    assert_eq!(shown(&shape.apply(&row, Some(&input)).unwrap()), ["id=42", "gross=21.00"]);
    assert_eq!(shown(&shape.apply(&row, None).unwrap()), ["id=42"]);
}

#[test]
fn what_does_not_fit_is_told() {
    let renamed = |name: &str| ColumnRule { rename: Some(name.to_owned()), action: Action::Pass };
    let keep = |names: &[&str]| ShapeConfig {
        keep: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        ..ShapeConfig::default()
    };
    let computed = |name: &str, text: &str| ShapeConfig {
        computed: vec![ComputedColumn { name: name.into(), program: Program::parse(text).unwrap() }],
        ..ShapeConfig::default()
    };
    let mut not_kept = keep(&["id"]);
    not_kept.columns.push(("email".into(), rule(Action::Mask)));
    for (config, message) in [
        (keep(&["totl"]), "public.orders has no column totl (did you mean total?)"),
        (config(vec![("zzz", rule(Action::Drop))]), "public.orders has no column zzz"),
        (
            keep(&["doubled"]),
            "doubled of public.orders is a generated column, which is not sent; compute it instead",
        ),
        (not_kept, "email has a rule, but keep does not list it; add it to keep, or remove the rule"),
        (keep(&["id", "id"]), "id is configured twice; write one rule"),
        (
            config(vec![("id", rule(Action::Drop)), ("id", rule(Action::Drop))]),
            "id is configured twice; write one rule",
        ),
        (
            config(vec![("id", renamed("total"))]),
            "two columns of public.orders would be called total; rename or drop one of them",
        ),
        (
            computed("id", "1 + 1"),
            "two columns of public.orders would be called id; rename or drop one of them",
        ),
        (config(vec![("id", renamed(""))]), "the new name of id is empty; write a name, or drop the column"),
        (
            config(vec![("id", rule(hash("short")))]),
            "the key that id is hashed with has 5 bytes, it needs at least 16; make one with `openssl rand -hex 32`",
        ),
        (keep(&[]), "no column of public.orders is left; keep at least one"),
        (computed("x", "after.totl * 2"), "the computed column x does not fit public.orders"),
    ] {
        assert_eq!(Shape::compile(&config, &orders()).unwrap_err().to_string(), message);
    }
    // What takes the place of another column's name is fine once that one is gone.
    let swapped = config(vec![("id", renamed("total")), ("total", rule(Action::Drop))]);
    assert!(Shape::compile(&swapped, &orders()).is_ok());
}

proptest! {
    #[test]
    fn a_mask_shows_no_more_than_it_may(text in any::<String>(), last in 0_usize..6) {
        let masked = Compiled::MaskAllBut(last).apply(&text).into_owned();
        let shown = masked.strip_prefix("***").unwrap();
        prop_assert!(shown.chars().count() <= last);
        prop_assert!(shown.is_empty() || (text.ends_with(shown) && shown.len() < text.len()));
    }

    #[test]
    fn a_cut_keeps_characters_whole(text in any::<String>(), chars in 0_usize..6) {
        let expected: String = text.chars().take(chars).collect();
        prop_assert_eq!(Compiled::Truncate(chars).apply(&text), expected);
    }
}
