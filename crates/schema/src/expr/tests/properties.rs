//! Any text is read or refused, a program reads back, and conditions agree with a model of a few lines.

use proptest::prelude::*;

use super::super::ast::Comparison;
use super::super::number::Operation;
use super::*;

fn expr(kind: ExprKind) -> Expr {
    Expr { span: Span::default(), depth: 1, kind }
}

fn boxed(kind: Expr) -> Box<Expr> {
    Box::new(kind)
}

/// Any tree, whether it makes sense or not.
fn any_expr() -> impl Strategy<Value = Expr> {
    let name = "[a-eg-mo-z_][a-z0-9_]{0,3}1?".prop_map(|name| format!("{name}_"));
    let leaf = prop_oneof![
        Just(ExprKind::Null),
        any::<bool>().prop_map(ExprKind::Bool),
        "[0-9]{1,3}(\\.[0-9]{1,2})?(e-?[0-9]{1,2})?|0x[0-9A-Fa-f]{1,4}u?".prop_map(ExprKind::Number),
        any::<String>().prop_map(ExprKind::Text),
        name.clone().prop_map(ExprKind::Name),
    ]
    .prop_map(expr);
    leaf.prop_recursive(5, 40, 3, move |inner| {
        let some = |range| prop::collection::vec(inner.clone(), range);
        let operation = prop_oneof![
            Just(Operation::Add),
            Just(Operation::Subtract),
            Just(Operation::Multiply),
            Just(Operation::Divide),
            Just(Operation::Remainder)
        ];
        let comparison = prop_oneof![
            Just(Comparison::Equal),
            Just(Comparison::NotEqual),
            Just(Comparison::Less),
            Just(Comparison::LessOrEqual),
            Just(Comparison::Greater),
            Just(Comparison::GreaterOrEqual)
        ];
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            some(0..3).prop_map(ExprKind::List),
            some(2..4).prop_map(ExprKind::And),
            some(2..4).prop_map(ExprKind::Or),
            inner.clone().prop_map(|e| ExprKind::Not(boxed(e))),
            inner.clone().prop_map(|e| ExprKind::Negate(boxed(e))),
            (inner.clone(), name.clone()).prop_map(|(e, name)| ExprKind::Member(boxed(e), name)),
            pair.clone().prop_map(|(a, b)| ExprKind::Index(boxed(a), boxed(b))),
            pair.clone().prop_map(|(a, b)| ExprKind::In(boxed(a), boxed(b))),
            (operation, pair.clone()).prop_map(|(o, (a, b))| ExprKind::Arithmetic(o, boxed(a), boxed(b))),
            (comparison, pair.clone()).prop_map(|(c, (a, b))| ExprKind::Compare(c, boxed(a), boxed(b))),
            (pair.clone(), inner.clone()).prop_map(|((a, b), c)| ExprKind::If(Box::new([a, b, c]))),
            pair.prop_map(|(a, b)| {
                ExprKind::Call { function: Function::Contains, method: true, arguments: vec![a, b] }
            }),
            inner.prop_map(|e| ExprKind::Call {
                function: Function::Size,
                method: false,
                arguments: vec![e]
            }),
        ]
        .prop_map(expr)
    })
}

/// What the model computes with: a number, a truth, or null.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Small {
    Null,
    Number(i64),
    Truth(bool),
}

/// A condition as text, and what it is for `a`, `b` (numbers or NULL) by the rules in the reference.
#[derive(Debug, Clone)]
enum Model {
    Truth(bool),
    Compare(&'static str, Term, Term),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
    If(Box<[Self; 3]>),
    In(Term, Vec<Term>),
}

#[derive(Debug, Clone, Copy)]
enum Term {
    A,
    B,
    Null,
    Number(i64),
    Sum(i64),
}

impl Term {
    fn text(self) -> String {
        match self {
            Self::A => "after.id".to_owned(),
            Self::B => "before.total".to_owned(),
            Self::Null => "null".to_owned(),
            Self::Number(number) => number.to_string(),
            Self::Sum(number) => format!("(after.id + {number})"),
        }
    }

    fn value(self, a: Option<i64>, b: Option<i64>) -> Small {
        match self {
            Self::A => a.map_or(Small::Null, Small::Number),
            Self::B => b.map_or(Small::Null, Small::Number),
            Self::Null => Small::Null,
            Self::Number(number) => Small::Number(number),
            Self::Sum(number) => a.map_or(Small::Null, |a| Small::Number(a + number)),
        }
    }
}

impl Model {
    fn text(&self) -> String {
        let joined = |items: &[Self], by: &str| {
            items.iter().map(|item| format!("({})", item.text())).collect::<Vec<_>>().join(by)
        };
        match self {
            Self::Truth(value) => value.to_string(),
            Self::Compare(symbol, a, b) => format!("{} {symbol} {}", a.text(), b.text()),
            Self::Not(inner) => format!("!({})", inner.text()),
            Self::And(items) => joined(items, " && "),
            Self::Or(items) => joined(items, " || "),
            Self::If(parts) => {
                format!("({}) ? ({}) : ({})", parts[0].text(), parts[1].text(), parts[2].text())
            }
            Self::In(item, items) => {
                let items: Vec<String> = items.iter().map(|item| item.text()).collect();
                format!("{} in [{}]", item.text(), items.join(", "))
            }
        }
    }

    fn value(&self, a: Option<i64>, b: Option<i64>) -> bool {
        match self {
            Self::Truth(value) => Small::Truth(*value) == Small::Truth(true),
            Self::Compare(symbol, x, y) => match (*symbol, x.value(a, b), y.value(a, b)) {
                ("==", x, y) => x == y,
                ("!=", x, y) => x != y,
                (symbol, Small::Number(x), Small::Number(y)) => match symbol {
                    "<" => x < y,
                    "<=" => x <= y,
                    ">" => x > y,
                    _ => x >= y,
                },
                _ => false,
            },
            Self::Not(inner) => !inner.value(a, b),
            Self::And(items) => items.iter().all(|item| item.value(a, b)),
            Self::Or(items) => items.iter().any(|item| item.value(a, b)),
            Self::If(parts) => parts[if parts[0].value(a, b) { 1 } else { 2 }].value(a, b),
            Self::In(item, items) => items.iter().any(|other| other.value(a, b) == item.value(a, b)),
        }
    }
}

fn any_term() -> impl Strategy<Value = Term> {
    prop_oneof![
        3 => Just(Term::A),
        3 => Just(Term::B),
        1 => Just(Term::Null),
        2 => (-3_i64..3).prop_map(Term::Number),
        1 => (-3_i64..3).prop_map(Term::Sum),
    ]
}

fn any_model() -> impl Strategy<Value = Model> {
    let symbol = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        1 => any::<bool>().prop_map(Model::Truth),
        6 => (symbol, any_term(), any_term()).prop_map(|(symbol, a, b)| {
            // Beside a null that is written out the check allows equality only.
            let null = matches!(a, Term::Null) || matches!(b, Term::Null);
            Model::Compare(if null && symbol.len() == 1 { "==" } else if null { "!=" } else { symbol }, a, b)
        }),
        2 => (any_term(), prop::collection::vec(any_term(), 0..4)).prop_map(|(item, items)| Model::In(item, items)),
    ];
    leaf.prop_recursive(4, 30, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|model| Model::Not(Box::new(model))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Model::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Model::Or),
            [inner.clone(), inner.clone(), inner].prop_map(|parts| Model::If(Box::new(parts))),
        ]
    })
}

fn leaked(number: i64) -> Cell<'static> {
    Cell::Text(number.to_string().into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        if let Err(error) = Program::parse(&text) {
            prop_assert!(text.get(error.span.start..error.span.end).is_some(), "{error:?}");
            let _ = error.excerpt(&text);
        }
    }

    #[test]
    fn near_programs_are_read_or_refused(text in "(after|before|op|null|true|in|'a'|r'|\"|'''|\\\\|[0-9.eux]|size|has|\\.matches|[ \\[\\](){}!=<>&|+*/%?:,.-]|é){0,40}") {
        let table = orders();
        match Program::parse(&text) {
            Ok(program) => {
                prop_assert_eq!(&Program::parse(&program.to_string()).unwrap(), &program);
                let change = Change::update();
                for purpose in [Purpose::Condition, Purpose::Value] {
                    match program.bind(&table, purpose) {
                        Ok(bound) => {
                            let _ = (bound.evaluate(&change.input()), bound.cell(&change.input()));
                        }
                        Err(error) => prop_assert!(text.get(error.span.start..error.span.end).is_some()),
                    }
                }
            }
            Err(error) => prop_assert!(text.get(error.span.start..error.span.end).is_some()),
        }
    }

    #[test]
    fn a_tree_that_is_written_reads_back(root in any_expr()) {
        let text = root.to_string();
        let program = Program::parse(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(&program.root, &root, "{}", text);
        prop_assert_eq!(program.to_string(), text);
    }

    #[test]
    fn conditions_agree_with_the_model(
        model in any_model(),
        a in prop::option::of(-3_i64..3),
        b in prop::option::of(-3_i64..3),
    ) {
        let mut change = Change::update();
        change.after.as_mut().unwrap()[0] = a.map(leaked);
        change.before.as_mut().unwrap()[1] = Some(b.map_or(Cell::Null, leaked));
        prop_assert_eq!(change.passes(&model.text()), Ok(model.value(a, b)), "{}", model.text());
    }

    #[test]
    fn times_are_read_as_they_are_written(micros in -60_000_000_000_000_000_i64..250_000_000_000_000_000) {
        let time = Timestamp::from_micros(micros);
        prop_assert_eq!(Timestamp::parse(&time.canonical()), Some(time), "{}", time.canonical());
        prop_assert_eq!(Timestamp::parse(&time.to_string()), Some(time), "{}", time);
    }
}
