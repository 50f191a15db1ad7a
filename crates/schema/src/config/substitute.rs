//! `${NAME}` and `${file:/path}` inside string values; `$${` is a literal `${`. What is filled in is not looked at
//! again, so a secret may contain anything.

use std::io;
use std::path::Path;

/// Why something cannot be filled in. Names the variable or the file, never what they hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubstituteError {
    /// The variable is not set, or is not UTF-8.
    #[error("the environment variable {name} is not set (set it, or write $${{ for a literal ${{)")]
    Variable {
        /// Its name.
        name: String,
    },
    /// The file cannot be read.
    #[error("the file {path} cannot be read: {kind}")]
    File {
        /// As written.
        path: String,
        /// Why.
        kind: io::ErrorKind,
    },
    /// `${` and no `}`.
    #[error("a ${{ has no }} (write $${{ for a literal ${{)")]
    Unclosed,
    /// Something else in the braces.
    #[error(
        "${{...}} holds the name of an environment variable or file:/path (write $${{ for a literal ${{)"
    )]
    Name,
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) text: String,
    /// Whether it was filled in.
    pub(super) filled_in: bool,
}

/// Where values come from.
#[derive(Clone, Copy)]
pub(super) struct Sources<'a> {
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) read_file: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// Splits a text and fills in what it asks for; all errors at once.
pub(super) fn substitute(text: &str, sources: Sources<'_>) -> Result<Vec<Piece>, Vec<SubstituteError>> {
    let mut pieces = Vec::new();
    let mut errors = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            literal.push_str(&rest[..at]);
            literal.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        literal.push_str(&rest[..at]);
        let Some((name, after)) = rest[at + 2..].split_once('}') else {
            errors.push(SubstituteError::Unclosed);
            break;
        };
        rest = after;
        match look_up(name, sources) {
            Ok(value) => {
                pieces.push(Piece { text: std::mem::take(&mut literal), filled_in: false });
                pieces.push(Piece { text: value, filled_in: true });
            }
            Err(error) => errors.push(error),
        }
    }
    literal.push_str(rest);
    pieces.push(Piece { text: literal, filled_in: false });
    pieces.retain(|piece| piece.filled_in || !piece.text.is_empty());
    if errors.is_empty() { Ok(pieces) } else { Err(errors) }
}

fn look_up(name: &str, sources: Sources<'_>) -> Result<String, SubstituteError> {
    if let Some(path) = name.strip_prefix("file:") {
        if path.is_empty() || path.contains('\0') {
            return Err(SubstituteError::Name);
        }
        return match (sources.read_file)(Path::new(path)) {
            // Editors and `echo` end a file with a line break that is no part of the secret.
            Ok(mut text) => {
                let end = text
                    .strip_suffix("\r\n")
                    .or_else(|| text.strip_suffix('\n'))
                    .map_or(text.len(), str::len);
                text.truncate(end);
                Ok(text)
            }
            Err(error) => Err(SubstituteError::File { path: path.to_owned(), kind: error.kind() }),
        };
    }
    let mut chars = name.chars();
    let first_fits = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !first_fits || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(SubstituteError::Name);
    }
    (sources.env)(name).ok_or_else(|| SubstituteError::Variable { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill_in(text: &str) -> Result<String, Vec<SubstituteError>> {
        let env = |name: &str| match name {
            "USER_NAME" => Some("bridge".to_owned()),
            "TRICKY" => Some("a${USER_NAME}$$".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let read_file = |path: &Path| match path.to_str() {
            Some("/run/secret") => Ok("hunter2\n".to_owned()),
            Some("/run/windows") => Ok("hunter2\r\n".to_owned()),
            Some("/run/two") => Ok("a\nb\n\n".to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let pieces = substitute(text, Sources { env: &env, read_file: &read_file })?;
        Ok(pieces.into_iter().map(|piece| piece.text).collect())
    }

    #[test]
    fn variables_files_and_escapes() {
        for (text, expected) in [
            ("", ""),
            ("plain $ {text} $", "plain $ {text} $"),
            ("${USER_NAME}", "bridge"),
            ("<${USER_NAME}|${EMPTY}|${USER_NAME}>", "<bridge||bridge>"),
            ("${file:/run/secret}", "hunter2"),
            ("${file:/run/windows}!", "hunter2!"),
            ("${file:/run/two}", "a\nb\n"),
            ("$${USER_NAME}", "${USER_NAME}"),
            ("$${a} ${USER_NAME}", "${a} bridge"),
            ("${TRICKY}", "a${USER_NAME}$$"),
        ] {
            assert_eq!(fill_in(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn all_errors_at_once() {
        assert_eq!(
            fill_in("${NOT_SET} ${file:/nowhere} ${1} ${} ${file:} ${USER_NAME"),
            Err(vec![
                SubstituteError::Variable { name: "NOT_SET".to_owned() },
                SubstituteError::File { path: "/nowhere".to_owned(), kind: io::ErrorKind::NotFound },
                SubstituteError::Name,
                SubstituteError::Name,
                SubstituteError::Name,
                SubstituteError::Unclosed,
            ])
        );
    }
}
