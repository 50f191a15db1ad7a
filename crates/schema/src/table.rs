//! A table's shape at a point in the stream: what a run of rows refers to.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Whose types and names a definition uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// PostgreSQL 14 and later.
    Postgres,
    /// SQLite 3.
    Sqlite,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        })
    }
}

/// A table's raw, unquoted name; `schema` is absent where the source has none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// Schema (PostgreSQL) or database (MySQL).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The table's own name.
    pub name: String,
}

impl TableName {
    /// A name in a schema.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: Some(schema.into()), name: name.into() }
    }

    /// A name without a schema.
    pub fn bare(name: impl Into<String>) -> Self {
        Self { schema: None, name: name.into() }
    }
}

/// Raw text `schema.table`, as patterns see it: no SQL quoting.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// One column, in the table's own order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Raw name, exact case.
    pub name: String,
    /// The source's own name of the type, with modifiers: `numeric(10,2)`, `public.mood`, `VARCHAR(20)`. For SQLite the
    /// declared type, which may be empty.
    #[serde(rename = "type")]
    pub type_name: String,
    /// NOT NULL at the source.
    #[serde(default, skip_serializing_if = "is_false")]
    pub not_null: bool,
    /// Generation expression in the source's SQL. Rows never carry a value of a generated column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<String>,
    /// Collation that the key's equality depends on, where it is not the default (SQLite: `NOCASE`, `RTRIM`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
}

impl Column {
    /// An ordinary column that may be NULL.
    pub fn new(name: impl Into<String>, type_name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            type_name: type_name.into(),
            not_null: false,
            generated: None,
            collation: None,
        }
    }
}

/// A user-defined type that columns of the table need, in creation order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TypeDefinition {
    /// An enum with its labels in order.
    Enum {
        /// Raw schema and name.
        name: TableName,
        /// Labels in sort order.
        labels: Vec<String>,
    },
    /// A domain over another type; constraints are not copied except NOT NULL being left out too.
    Domain {
        /// Raw schema and name.
        name: TableName,
        /// The base type with modifiers.
        base: String,
    },
    /// A composite type.
    Composite {
        /// Raw schema and name.
        name: TableName,
        /// Attribute names and their types with modifiers.
        fields: Vec<(String, String)>,
    },
    /// A range type over a subtype.
    Range {
        /// Raw schema and name.
        name: TableName,
        /// The subtype.
        subtype: String,
    },
}

/// A table's shape. Two definitions are the same exactly if their [`TableId`]s are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDef {
    /// Whose types these are.
    pub dialect: Dialect,
    /// The table at the source; a partition's leaf is already mapped to its root.
    #[serde(flatten)]
    pub name: TableName,
    /// All columns in table order, generated ones too.
    pub columns: Vec<Column>,
    /// Indexes into `columns` of the identifying key, in key order; empty for a table without key.
    pub key: Vec<u16>,
    /// User-defined types that the columns need, in creation order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<TypeDefinition>,
    /// SQLite: the table is `WITHOUT ROWID`; `STRICT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Fingerprint of a table's shape: 16 hexadecimal digits of the SHA-256 of its JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(pub [u8; 8]);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for TableId {
    type Err = TableIdError;

    fn from_str(text: &str) -> Result<Self, TableIdError> {
        if text.len() != 16 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(TableIdError);
        }
        u64::from_str_radix(text, 16).map(|value| Self(value.to_be_bytes())).map_err(|_| TableIdError)
    }
}

impl Serialize for TableId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TableId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A table id is 16 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a table id: expected 16 lower-case hexadecimal digits")]
pub struct TableIdError;

impl TableDef {
    /// The canonical JSON of the definition: what is journaled, sent and fingerprinted.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a definition holds only texts and numbers")
    }

    /// The fingerprint of the canonical JSON.
    #[must_use]
    pub fn id(&self) -> TableId {
        TableId::of_json(&self.to_json())
    }

    /// Indexes of the columns that rows may carry: all but the generated ones.
    #[must_use]
    pub fn sent_columns(&self) -> Vec<u16> {
        (0..self.columns.len() as u16).filter(|&i| self.columns[usize::from(i)].generated.is_none()).collect()
    }
}

impl TableId {
    /// The fingerprint of a definition's canonical JSON.
    #[must_use]
    pub fn of_json(json: &str) -> Self {
        let digest = Sha256::digest(json.as_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        Self(id)
    }
}
