//! `tables = ["public.*", "!public.audit_*"]`: which tables belong.

use crate::table::TableName;

/// Patterns over the raw text `schema.table`; `*` matches any characters, dots too; `!` excludes; later entries win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePatterns {
    entries: Vec<(bool, String)>,
}

/// A pattern that can match nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a table pattern is empty: write `schema.table`, `*` for any characters, `!` in front to exclude")]
pub struct PatternError;

impl TablePatterns {
    /// Reads patterns in their order.
    ///
    /// # Errors
    /// An empty pattern.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, PatternError> {
        let mut entries = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let (include, text) = match pattern.as_ref().strip_prefix('!') {
                Some(rest) => (false, rest),
                None => (true, pattern.as_ref()),
            };
            if text.is_empty() {
                return Err(PatternError);
            }
            entries.push((include, text.to_owned()));
        }
        Ok(Self { entries })
    }

    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self { entries: vec![(true, "*".to_owned())] }
    }

    /// Adds an entry at the end, which wins over those before it.
    pub fn push(&mut self, include: bool, pattern: &str) {
        self.entries.push((include, pattern.to_owned()));
    }

    /// Whether a table is included by its name as it is, not only by a pattern.
    #[must_use]
    pub fn names(&self, table: &str) -> bool {
        self.entries.iter().any(|(include, pattern)| *include && pattern == table)
    }

    /// The tables that it names, where no entry that includes is a pattern.
    #[must_use]
    pub fn named(&self) -> Option<Vec<&str>> {
        let names = self.entries.iter().filter(|(include, _)| *include).map(|(_, text)| text.as_str());
        names.map(|name| (!name.contains('*')).then_some(name)).collect()
    }

    /// Whether the table belongs: the last matching entry decides. What Rowbridge made for itself never does.
    #[must_use]
    pub fn matches(&self, table: &TableName) -> bool {
        if table.name.starts_with("rowbridge_") {
            return false;
        }
        let text = table.to_string();
        let mut belongs = false;
        for (include, pattern) in &self.entries {
            if *include != belongs && glob(pattern.as_bytes(), text.as_bytes()) {
                belongs = *include;
            }
        }
        belongs
    }

    /// Including patterns that match none of `tables`: worth a warning, as a typo looks just like this.
    pub fn unmatched<'a>(&'a self, tables: &'a [TableName]) -> impl Iterator<Item = &'a str> {
        self.entries
            .iter()
            .filter(|(include, pattern)| {
                *include && !tables.iter().any(|t| glob(pattern.as_bytes(), t.to_string().as_bytes()))
            })
            .map(|(_, pattern)| pattern.as_str())
    }
}

/// `*` matches any run of bytes. Linear in practice: only the last star is ever revisited.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            star = Some((star_p, star_t + 1));
            p = star_p + 1;
            t = star_t + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(patterns: &[&str], table: &str) -> bool {
        let (schema, name) = table.split_once('.').expect("test names have a schema");
        TablePatterns::new(patterns).unwrap().matches(&TableName::new(schema, name))
    }

    #[test]
    fn later_entries_win_and_stars_cross_dots() {
        assert!(matches(&["public.*", "!public.audit_*"], "public.orders"));
        assert!(!matches(&["public.*", "!public.audit_*"], "public.audit_log"));
        assert!(matches(&["public.*", "!public.audit_*", "public.audit_keep"], "public.audit_keep"));
        assert!(matches(&["*"], "any.thing.with.dots"));
        assert!(matches(&["*_log"], "a.b_log"));
        assert!(!matches(&["public.order"], "public.orders"));
        assert!(matches(&["a*b*c.*"], "a1b2c.t"));
        assert!(!matches(&["*"], "public.rowbridge_progress"));
        assert_eq!(TablePatterns::new(&["!"]), Err(PatternError));
        let named = TablePatterns::new(&["public.outbox", "!public.*_old"]).unwrap();
        assert_eq!(named.named().unwrap(), ["public.outbox"]);
        assert_eq!(TablePatterns::all().named(), None);
    }
}
