//! Makes what a target lacks: databases, and tables with their columns and key. No foreign keys, checks, triggers or
//! further indexes: those belong to the operator, and loading without them is faster.

use std::collections::HashMap;

use mysql_async::{Error, Row};
use rowbridge_schema::config::DeletePolicy;
use rowbridge_schema::{TableDef, TableName};
use tracing::warn;

use super::binding::Misfit;
use super::collation;
use super::session::Session;
use super::statement::{ident, qualified, text};
use super::types::TypeName;
use crate::plan::MappedTable;

/// What makes a table.
pub(super) struct Statements {
    database: String,
    table: String,
    /// For servers that do not take the source's generation expressions.
    without_generated: Option<String>,
}

impl Statements {
    /// For a person to run.
    pub(super) fn whole(&self) -> String {
        format!("{}; {}", self.database, self.table)
    }

    /// Runs them.
    ///
    /// # Errors
    /// The statement that the server refuses.
    pub(super) async fn run(&self, session: &mut Session) -> Result<(), (String, Error)> {
        let failed = |sql: &String| {
            let sql = sql.clone();
            |error| (sql, error)
        };
        // CREATE DATABASE IF NOT EXISTS asks for the privilege even when there is nothing to make.
        if let Some(name) = self.database.strip_prefix(CREATE_DATABASE)
            && !database_exists(session, name).await.map_err(failed(&self.database))?
        {
            session.run(&self.database).await.map_err(failed(&self.database))?;
        }
        match (session.run(&self.table).await, &self.without_generated) {
            (Ok(()), _) => Ok(()),
            (Err(error @ Error::Server(_)), Some(plain)) => {
                warn!(error = %error, "the target does not take the generated columns: made without them");
                session.run(plain).await.map_err(failed(&self.table))
            }
            (Err(error), _) => Err((self.table.clone(), error)),
        }
    }
}

const CREATE_DATABASE: &str = "CREATE DATABASE IF NOT EXISTS ";

async fn database_exists(session: &mut Session, quoted: &str) -> Result<bool, Error> {
    let name = quoted.trim_matches('`').replace("``", "`");
    let found: Vec<u64> = session
        .query(&format!(
            "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}",
            text(&name)
        ))
        .await?;
    Ok(found.first().is_some_and(|count| *count > 0))
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// For each collation of a shape the one to make its columns with: the same, or the nearest that this server knows.
/// Missing where the server knows none of the charset.
///
/// # Errors
/// The connection.
pub(super) async fn collations(
    session: &mut Session,
    def: &TableDef,
) -> Result<HashMap<String, String>, Error> {
    let mut chosen = HashMap::new();
    for wanted in def.columns.iter().filter_map(|column| column.collation.as_deref()) {
        if chosen.contains_key(wanted) || !is_word(wanted) {
            continue;
        }
        let charset = wanted.split('_').next().unwrap_or_default();
        for candidate in collation::candidates(wanted) {
            // The catalogs of the servers list these names in different ways; using one tells.
            let sql = format!("SELECT CONVERT('' USING {charset}) COLLATE {candidate}");
            match session.query::<Row>(&sql).await {
                Ok(_) => {
                    if candidate != wanted {
                        warn!(collation = wanted, used = %candidate, "the target does not know a collation of the source");
                    }
                    chosen.insert(wanted.to_owned(), candidate);
                    break;
                }
                Err(Error::Server(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(chosen)
}

/// The statements that make the table.
///
/// # Errors
/// A text of the definition that is no type.
pub(super) fn statements(
    def: &TableDef,
    mapped: &MappedTable,
    target: &TableName,
    collations: &HashMap<String, String>,
) -> Result<Statements, Misfit> {
    // Generation expressions name columns as the source does.
    let renamed =
        def.columns.iter().zip(&mapped.columns).any(|(column, name)| {
            column.generated.is_none() && name.as_deref() != Some(column.name.as_str())
        });
    let mut list = Vec::new();
    let mut plain = Vec::new();
    for (index, (column, name)) in def.columns.iter().zip(&mapped.columns).enumerate() {
        let misfit = |reason: &str| Misfit { column: Some(column.name.clone()), reason: reason.to_owned() };
        // Types come as text from the publisher: only what is understood goes into a statement.
        let type_name =
            TypeName::parse(&column.type_name).filter(|name| name.family().is_some()).ok_or_else(|| {
                misfit(&format!("{} is no type that Rowbridge can make a column of", column.type_name))
            })?;
        let mut declared = type_name.sql();
        if let Some(wanted) = &column.collation {
            let used = collations.get(wanted).ok_or_else(|| {
                misfit(&format!("the target does not know the charset of collation {wanted}"))
            })?;
            let charset = wanted.split('_').next().unwrap_or_default();
            declared.push_str(&format!(" CHARACTER SET {charset} COLLATE {used}"));
        }
        if let Some(expression) = &column.generated {
            if !renamed && is_expression(expression) {
                list.push(format!("{} {declared} GENERATED ALWAYS AS ({expression})", ident(&column.name)));
            }
            continue;
        }
        let Some(name) = name else { continue };
        let in_key = def.key.iter().any(|&k| usize::from(k) == index);
        let not_null = column.not_null || in_key;
        // Without a word on it, the first TIMESTAMP of a table would be set by the server at every update.
        let nullness = match (not_null, type_name.base.as_str()) {
            (true, "timestamp") => " NOT NULL DEFAULT 0",
            (true, _) => " NOT NULL",
            (false, _) => " NULL",
        };
        let column = format!("{} {declared}{nullness}", ident(name));
        plain.push(column.clone());
        list.push(column);
    }
    if let DeletePolicy::Soft(column) = &mapped.delete {
        for list in [&mut list, &mut plain] {
            list.push(format!("{} datetime(6) NULL", ident(column)));
        }
    }
    let key: Vec<_> = def.key.iter().filter_map(|&k| mapped.column(k)).map(ident).collect();
    if !key.is_empty() {
        for list in [&mut list, &mut plain] {
            list.push(format!("PRIMARY KEY ({})", key.join(", ")));
        }
    }
    let table = |list: &[String]| {
        format!("CREATE TABLE IF NOT EXISTS {} ({}) ENGINE = InnoDB", qualified(target), list.join(", "))
    };
    let without_generated = (plain.len() < list.len()).then(|| table(&plain));
    Ok(Statements {
        database: format!("{CREATE_DATABASE}{}", ident(target.schema.as_deref().unwrap_or_default())),
        table: table(&list),
        without_generated,
    })
}

/// Whether a text from the publisher stays inside its parentheses: balanced, with no comment and no second statement.
fn is_expression(text: &str) -> bool {
    let mut depth = 0_i32;
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            // Where a backslash escapes depends on the mode of the session that wrote it.
            (_, '\\') => return false,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, ';' | '#') => return false,
            (None, _) => {}
        }
        if depth < 0 {
            return false;
        }
    }
    depth == 0 && quote.is_none() && !text.contains("--") && !text.contains("/*")
}

#[cfg(test)]
mod tests {
    use rowbridge_schema::{Column, Dialect};

    use super::*;
    use crate::plan::Mapping;

    fn column(name: &str, type_name: &str) -> Column {
        let collation = type_name.starts_with("varchar").then(|| "utf8mb4_0900_ai_ci".to_owned());
        Column { name: name.into(), type_name: type_name.into(), not_null: false, generated: None, collation }
    }

    fn made(columns: Vec<Column>) -> Result<Statements, Misfit> {
        let def = TableDef {
            dialect: Dialect::Mysql,
            name: TableName::new("shop", "t"),
            columns,
            key: vec![0],
            types: vec![],
            options: vec![],
        };
        let mapped = Mapping::new(&[], Dialect::Mysql).unwrap().table(&def).unwrap();
        let known = ("utf8mb4_0900_ai_ci".to_owned(), "utf8mb4_unicode_ci".to_owned());
        statements(&def, &mapped, &mapped.target, &HashMap::from([known]))
    }

    #[test]
    fn tables_are_made_as_the_source_has_them() {
        let mut generated = column("g", "int(11)");
        generated.generated = Some("`id` + 1".into());
        let made = made(vec![
            column("id", "int(11)"),
            column("v", "varchar(9)"),
            column("at", "timestamp"),
            generated,
        ])
        .unwrap();
        assert_eq!(
            made.table,
            "CREATE TABLE IF NOT EXISTS `shop`.`t` (`id` int(11) NOT NULL, `v` varchar(9) CHARACTER SET utf8mb4 COLLATE \
             utf8mb4_unicode_ci NULL, `at` timestamp NULL, `g` int(11) GENERATED ALWAYS AS (`id` + 1), PRIMARY KEY (`id`)) \
             ENGINE = InnoDB"
        );
        assert!(!made.without_generated.unwrap().contains("GENERATED"));
    }

    #[test]
    fn nothing_but_types_and_expressions_gets_into_a_statement() {
        let error = made(vec![column("id", "int); DROP TABLE t; --")]).err().unwrap();
        assert_eq!(error.column.as_deref(), Some("id"));
        for text in ["1) , (2", "1; SELECT 2", "'a", "1 -- x", "1 /* x", "'\\'"] {
            assert!(!is_expression(text), "{text}");
        }
        assert!(is_expression("concat(`a`,')',\"(\") + 1"));
    }
}
