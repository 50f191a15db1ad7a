//! The statement that makes a missing table.

use rowbridge_schema::TableDef;
use rowbridge_schema::config::DeletePolicy;
use rowbridge_schema::sql::ident;

use crate::plan::MappedTable;

/// Types as they are declared at the source, so that a value that was stored under them stays the same; NOT NULL,
/// collations, generated columns and the key. No foreign keys, checks or other indexes.
pub(super) fn create_sql(def: &TableDef, mapped: &MappedTable) -> String {
    let without_rowid = has_option(def, "WITHOUT ROWID");
    let mut parts = Vec::with_capacity(def.columns.len() + 1);
    let mut inline_key = false;
    for (index, (column, name)) in def.columns.iter().zip(&mapped.columns).enumerate() {
        // A generated column is not written, but computed here as it is at the source.
        let name = match (name, &column.generated) {
            (Some(name), _) => name,
            (None, Some(_)) => &column.name,
            (None, None) => continue,
        };
        let mut part = ident(name);
        if !column.type_name.is_empty() {
            part.push(' ');
            part.push_str(&type_sql(&column.type_name));
        }
        // Only this spelling makes the key the rowid, as it does at the source.
        if !without_rowid && mapped.key == [index as u16] && column.type_name.eq_ignore_ascii_case("INTEGER")
        {
            part.push_str(" PRIMARY KEY");
            inline_key = true;
        }
        if column.not_null {
            part.push_str(" NOT NULL");
        }
        if let Some(collation) = &column.collation {
            part.push_str(&format!(" COLLATE {}", ident(collation)));
        }
        if let Some(expression) = &column.generated {
            part.push_str(&format!(" GENERATED ALWAYS AS ({expression}) VIRTUAL"));
        }
        parts.push(part);
    }
    if let DeletePolicy::Soft(column) = &mapped.delete {
        parts.push(format!("{} TEXT", ident(column)));
    }
    if !inline_key && !mapped.key.is_empty() {
        let key: Vec<_> = mapped.key.iter().filter_map(|&index| mapped.column(index)).map(ident).collect();
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    let options: Vec<_> =
        ["WITHOUT ROWID", "STRICT"].into_iter().filter(|option| has_option(def, option)).collect();
    let sql = format!(
        "CREATE TABLE main.{} ({}) {}",
        ident(&mapped.target.name),
        parts.join(", "),
        options.join(", ")
    );
    sql.trim_end().to_owned()
}

fn has_option(def: &TableDef, option: &str) -> bool {
    def.options.iter().any(|found| found.eq_ignore_ascii_case(option))
}

/// A declared type as SQL. It comes from the wire: whatever is not plainly a type name is quoted, which SQLite takes as
/// one word of the type.
pub(super) fn type_sql(declared: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ' ');
    let (words, arguments) = match declared.split_once('(') {
        Some((words, rest)) => (words, rest.strip_suffix(')')),
        None => (declared, Some("")),
    };
    let numbers = |text: &str| text.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | ' ' | '+' | '-'));
    let name = words.chars().all(plain) && words.trim_start().starts_with(|c: char| c.is_ascii_alphabetic());
    let keyword = words.split_ascii_whitespace().any(|word| {
        const ENDS: &[&str] = &[
            "PRIMARY",
            "NOT",
            "NULL",
            "UNIQUE",
            "CHECK",
            "DEFAULT",
            "COLLATE",
            "REFERENCES",
            "CONSTRAINT",
            "AS",
            "GENERATED",
            "FOREIGN",
        ];
        ENDS.iter().any(|end| word.eq_ignore_ascii_case(end))
    });
    match arguments {
        Some(arguments) if name && !keyword && numbers(arguments) => declared.to_owned(),
        _ => ident(declared),
    }
}

#[cfg(test)]
mod tests {
    use super::type_sql;

    #[test]
    fn only_plain_type_names_go_unquoted() {
        for plain in ["INTEGER", "VARCHAR(20)", "DECIMAL(10, 2)", "UNSIGNED BIG INT", "double precision"] {
            assert_eq!(type_sql(plain), plain);
        }
        assert_eq!(type_sql("INTEGER PRIMARY KEY"), "\"INTEGER PRIMARY KEY\"");
        assert_eq!(type_sql("INT); DROP TABLE t; --"), "\"INT); DROP TABLE t; --\"");
        assert_eq!(type_sql("a\"b"), "\"a\"\"b\"");
        assert_eq!(type_sql("T(x)"), "\"T(x)\"");
    }
}
