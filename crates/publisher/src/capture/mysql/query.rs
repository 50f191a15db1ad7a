//! Statements in the log: ends of transactions, changes of shapes, and changes of rows that came as text.
//!
//! Only words and names are read, no grammar: whether a statement names a captured table is all that is needed, and a name
//! too many does no harm.

use rowbridge_schema::TableName;

use super::bytes::{Broken, Bytes};
use super::rows;

/// A QUERY event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    /// The session's database.
    pub database: String,
    pub text: String,
}

/// Reads a QUERY event (2), a compressed one (165) or the statement of a LOAD DATA (18).
pub(super) fn parse(event: u8, data: &[u8]) -> Result<Query, Broken> {
    let mut bytes = Bytes(data);
    bytes.take(8)?;
    let database = usize::from(bytes.u8()?);
    bytes.u16()?;
    let status = usize::from(bytes.u16()?);
    if event == 18 {
        bytes.take(13)?;
    }
    bytes.take(status)?;
    let database = bytes.take(database)?;
    bytes.take(1)?;
    let inflated;
    let text = if event == 165 {
        inflated = rows::inflate(bytes.0)?;
        &inflated
    } else {
        bytes.0
    };
    let lossy = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok(Query { database: lossy(database), text: lossy(text) })
}

/// What a statement means for the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    Begin,
    Commit,
    Rollback,
    /// Only what non-transactional tables got stays.
    RollbackTo,
    /// The transaction's id, as the server writes it.
    XaStart(String),
    XaCommit {
        id: String,
        one_phase: bool,
    },
    XaRollback(String),
    /// Rows changed by a statement; the first word.
    Rows(String),
    Truncate,
    /// Shapes or names of tables may have changed.
    Schema,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Name(String),
    Mark(char),
}

/// Words, names and marks; texts and comments are left out, comments that the server executes are read.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches('\u{feff}');
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = rest.trim_start();
        } else if let Some(comment) = rest.strip_prefix("/*") {
            let executed = comment.strip_prefix("M!").or_else(|| comment.strip_prefix('!'));
            rest = match executed {
                Some(inside) => inside.trim_start_matches(|c: char| c.is_ascii_digit()),
                None => comment.find("*/").map_or("", |end| &comment[end + 2..]),
            };
        } else if rest.starts_with('#') || rest.starts_with("-- ") || rest.starts_with("--\n") {
            rest = rest.find('\n').map_or("", |end| &rest[end + 1..]);
        } else if matches!(first, '\'' | '"' | '`') {
            let (inside, after) = quoted(rest, first);
            // ANSI_QUOTES may make a text a name.
            if first != '\'' {
                tokens.push(Token::Name(inside));
            }
            rest = after;
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        } else {
            tokens.push(Token::Mark(first));
            rest = &rest[first.len_utf8()..];
        }
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || c == '@' || !c.is_ascii()
}

/// What stands in quotes, and what follows.
fn quoted(text: &str, quote: char) -> (String, &str) {
    let mut inside = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote != '`' {
            chars.next();
        } else if c == quote {
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                chars.next();
                inside.push(quote);
            } else {
                return (inside, &text[at + 1..]);
            }
        } else {
            inside.push(c);
        }
    }
    (inside, "")
}

/// A statement with the names in it.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub statement: Statement,
    tokens: Vec<Token>,
    database: String,
}

/// Reads a statement.
pub(super) fn read(query: &Query) -> Read {
    let statement = quick(&query.text);
    if let Some(statement) = statement {
        return Read { statement, tokens: vec![], database: String::new() };
    }
    let tokens = tokens(&query.text);
    let word = |at: usize| match tokens.get(at) {
        Some(Token::Word(word)) => word.to_ascii_uppercase(),
        _ => String::new(),
    };
    let second = word(1);
    let statement = match word(0).as_str() {
        "BEGIN" => Statement::Begin,
        "START" if second == "TRANSACTION" => Statement::Begin,
        "COMMIT" => Statement::Commit,
        "ROLLBACK" if second == "TO" || word(2) == "TO" => Statement::RollbackTo,
        "ROLLBACK" => Statement::Rollback,
        "XA" => xa(&query.text, &second),
        first @ ("INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" | "WITH" | "MERGE" | "CALL" | "DO"
        | "SELECT") => Statement::Rows(first.to_owned()),
        "TRUNCATE" => Statement::Truncate,
        "CREATE" | "ALTER" | "DROP" | "RENAME" | "IMPORT" => Statement::Schema,
        _ => Statement::Other,
    };
    Read { statement, tokens, database: query.database.clone() }
}

/// What stands in nearly every transaction.
fn quick(text: &str) -> Option<Statement> {
    Some(match text {
        "BEGIN" => Statement::Begin,
        "COMMIT" => Statement::Commit,
        "ROLLBACK" => Statement::Rollback,
        _ => return None,
    })
}

/// `XA VERB X'gtrid',X'bqual',format [ONE PHASE]`
fn xa(text: &str, verb: &str) -> Statement {
    let rest = text.trim_start().get(2..).unwrap_or("").trim_start();
    let rest = rest.get(verb.len()..).unwrap_or("").trim();
    let (id, one_phase) = match rest.to_ascii_uppercase().strip_suffix("ONE PHASE") {
        Some(id) => (id.trim().to_owned(), true),
        None => (rest.to_ascii_uppercase(), false),
    };
    match verb {
        "START" | "BEGIN" => Statement::XaStart(id),
        "COMMIT" => Statement::XaCommit { id, one_phase },
        "ROLLBACK" => Statement::XaRollback(id),
        _ => Statement::Other,
    }
}

impl Read {
    /// Whether one of these words is in the statement, outside names and texts.
    pub(super) fn has_word(&self, words: &[&str]) -> bool {
        self.tokens.iter().any(|token| {
            matches!(token, Token::Word(word) if words.iter().any(|wanted| word.eq_ignore_ascii_case(wanted)))
        })
    }

    /// Whether it makes or drops an index, which leaves all rows as they are.
    pub(super) fn is_about_an_index(&self) -> bool {
        let before = [
            "CREATE", "OR", "REPLACE", "ONLINE", "OFFLINE", "UNIQUE", "FULLTEXT", "SPATIAL", "VECTOR", "DROP",
        ];
        let is = |token: &Token, wanted: &[&str]| match token {
            Token::Word(word) => wanted.iter().any(|wanted| word.eq_ignore_ascii_case(wanted)),
            _ => false,
        };
        self.tokens.iter().find(|token| !is(token, &before)).is_some_and(|token| is(token, &["INDEX"]))
    }

    /// Everything in it that may be a table's name, within the session's database if it names none.
    pub(super) fn names(&self) -> Vec<TableName> {
        let text = |at: usize| match self.tokens.get(at) {
            Some(Token::Word(text) | Token::Name(text)) => Some(text),
            _ => None,
        };
        let dot = |at: usize| self.tokens.get(at) == Some(&Token::Mark('.'));
        let mut names = Vec::new();
        for at in 0..self.tokens.len() {
            let Some(first) = text(at) else { continue };
            match text(at + 2).filter(|_| dot(at + 1)) {
                Some(second) => names.push(TableName::new(first.clone(), second.clone())),
                None if at > 0 && dot(at - 1) => {}
                None => names.push(TableName::new(self.database.clone(), first.clone())),
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Read {
        read(&Query { database: "shop".into(), text: text.into() })
    }

    fn has(text: &str, name: &str) -> bool {
        of(text).names().iter().any(|found| found.to_string() == name)
    }

    #[test]
    fn statements_are_told_apart() {
        assert_eq!(of("BEGIN").statement, Statement::Begin);
        assert_eq!(of(" /* x */ commit").statement, Statement::Commit);
        assert_eq!(of("ROLLBACK TO `s`").statement, Statement::RollbackTo);
        assert_eq!(of("SAVEPOINT `s`").statement, Statement::Other);
        assert_eq!(of("/*!50000 truncate table t */").statement, Statement::Truncate);
        assert_eq!(of("-- x\nRename table a to b").statement, Statement::Schema);
        assert_eq!(of("insert into t values (1)").statement, Statement::Rows("INSERT".into()));
        assert_eq!(of("XA START X'61',X'',1").statement, Statement::XaStart("X'61',X'',1".into()));
        let id = "X'61',X'',1".to_owned();
        assert_eq!(
            of("XA COMMIT X'61',X'',1").statement,
            Statement::XaCommit { id: id.clone(), one_phase: false }
        );
        assert_eq!(
            of("xa commit X'61',X'',1 one phase").statement,
            Statement::XaCommit { id, one_phase: true }
        );
        assert_eq!(of("XA END X'61',X'',1").statement, Statement::Other);
    }

    #[test]
    fn names_are_found_and_texts_are_not() {
        assert!(has("UPDATE a.b, `c``d` SET x = 'e.f'", "a.b"));
        assert!(has("UPDATE a.b, `c``d` SET x = 'e.f'", "shop.c`d"));
        assert!(!has("UPDATE t SET x = 'it''s e' -- u\n", "shop.e"));
        assert!(has("INSERT INTO/* x */`other` . `t` VALUES (1)", "other.t"));
        assert!(!has("/* t */ UPDATE u SET x = 1", "shop.t"));
        assert!(has("DROP TABLE IF EXISTS `t` /* generated by server */", "shop.t"));
        assert!(of("ALTER TABLE t TRUNCATE PARTITION p").has_word(&["partition"]));
        assert!(!of("ALTER TABLE t ADD `partition` INT").has_word(&["partition"]));
    }

    #[test]
    fn statements_about_an_index_are_known() {
        for text in
            ["DROP INDEX i ON t", "create or replace unique index i on t (a)", "DROP INDEX IF EXISTS i ON t"]
        {
            assert!(of(text).is_about_an_index(), "{text}");
        }
        for text in [
            "DROP TABLE `index`",
            "ALTER TABLE t DROP INDEX i, RENAME u",
            "CREATE OR REPLACE TABLE t (INDEX (a))",
        ] {
            assert!(!of(text).is_about_an_index(), "{text}");
        }
    }

    #[test]
    fn events_are_read_to_their_end() {
        let mut data = vec![0; 8];
        data.extend([4, 0, 0, 2, 0, 9, 9]);
        data.extend(*b"shop\0BEGIN");
        let query = parse(2, &data).unwrap();
        assert_eq!((query.database.as_str(), query.text.as_str()), ("shop", "BEGIN"));
        for cut in 0..20 {
            assert!(parse(2, &data[..cut.min(19)]).is_err());
        }
    }
}
