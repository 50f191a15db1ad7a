//! The functions: how each is called.

/// A function of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    Matches,
    LowerAscii,
    UpperAscii,
    Trim,
    Has,
    Int,
    Double,
    String,
    Timestamp,
    Duration,
    Changed,
    Json,
}

/// How a function is called.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) function: Function,
    pub(super) name: &'static str,
    /// As a message shows it.
    pub(super) form: &'static str,
    /// `f(x)`
    pub(super) global: bool,
    /// `x.f()`
    pub(super) method: bool,
    /// With the value that it is called on.
    pub(super) arguments: usize,
}

const fn global(function: Function, name: &'static str, form: &'static str) -> Signature {
    Signature { function, name, form, global: true, method: false, arguments: 1 }
}

const fn method(function: Function, name: &'static str, form: &'static str, arguments: usize) -> Signature {
    Signature { function, name, form, global: false, method: true, arguments }
}

pub(super) const SIGNATURES: &[Signature] = &[
    Signature { method: true, ..global(Function::Size, "size", "size(x)") },
    method(Function::Contains, "contains", "x.contains('part')", 2),
    method(Function::StartsWith, "startsWith", "x.startsWith('begin')", 2),
    method(Function::EndsWith, "endsWith", "x.endsWith('end')", 2),
    Signature { global: true, ..method(Function::Matches, "matches", "x.matches('pattern')", 2) },
    method(Function::LowerAscii, "lowerAscii", "x.lowerAscii()", 1),
    method(Function::UpperAscii, "upperAscii", "x.upperAscii()", 1),
    method(Function::Trim, "trim", "x.trim()", 1),
    global(Function::Has, "has", "has(after.column)"),
    global(Function::Int, "int", "int(x)"),
    global(Function::Double, "double", "double(x)"),
    global(Function::String, "string", "string(x)"),
    global(Function::Timestamp, "timestamp", "timestamp('2024-01-31T23:59:59Z')"),
    global(Function::Duration, "duration", "duration('1h30m')"),
    global(Function::Changed, "changed", "changed('column')"),
    global(Function::Json, "json", "json(after.column)"),
];

/// What other languages and CEL's own macros call what is written otherwise here.
const OTHERS: &[(&str, &str)] = &[
    ("lower", "`x.lowerAscii()`"),
    ("tolower", "`x.lowerAscii()`"),
    ("tolowercase", "`x.lowerAscii()`"),
    ("upper", "`x.upperAscii()`"),
    ("toupper", "`x.upperAscii()`"),
    ("touppercase", "`x.upperAscii()`"),
    ("length", "`size(x)`"),
    ("len", "`size(x)`"),
    ("count", "`size(x)`"),
    ("now", "`commit_time`"),
    ("coalesce", "`x != null ? x : y`"),
    ("ifnull", "`x != null ? x : y`"),
    ("nvl", "`x != null ? x : y`"),
    ("isnull", "`x == null`"),
    ("like", "`x.contains('part')`, `x.startsWith('begin')` or `x.matches('pattern')`"),
    ("regexp", "`x.matches('pattern')`"),
    ("includes", "`x.contains('part')`"),
    ("indexof", "`x.contains('part')`"),
    ("any", "`x in [..]`"),
    ("all", "`x in [..]`"),
    ("exists", "`x in [..]`"),
    ("exists_one", "`x in [..]`"),
    ("filter", "`x in [..]`"),
    ("map", "`x in [..]`"),
    ("cast", "`int(x)` or `string(x)`"),
    ("float", "`double(x)`"),
    ("number", "`double(x)`"),
    ("numeric", "`double(x)`"),
    ("decimal", "`double(x)`"),
    ("uint", "`int(x)`"),
    ("str", "`string(x)`"),
    ("text", "`string(x)`"),
    ("date", "`timestamp(x)`"),
    ("datetime", "`timestamp(x)`"),
    ("interval", "`duration('1h30m')`"),
    ("not", "`!(..)`"),
    ("dyn", "the value itself"),
];

impl Signature {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        SIGNATURES.iter().find(|signature| signature.name == name)
    }
}

impl Function {
    pub(super) fn signature(self) -> &'static Signature {
        let found = SIGNATURES.iter().find(|signature| signature.function == self);
        found.expect("each function has a signature")
    }
}

/// What to write instead of a function of another language.
pub(super) fn instead(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    OTHERS.iter().find(|(other, _)| *other == lower).map(|&(_, write)| write)
}
