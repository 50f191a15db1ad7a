//! A configuration against a table's definition.

use std::collections::{HashMap, HashSet};

use super::rule::Compiled;
use super::{Action, ColumnRule, Made, Shape, ShapeConfig, ShapeError, Shaped};
use crate::expr::Purpose;
use crate::suggest::nearest;
use crate::table::TableDef;
use crate::types::ColumnType;

impl Shape {
    /// Checks the configuration against a table and prepares it.
    ///
    /// # Errors
    /// Names that the table does not have or that would be there twice, short keys, expressions that do not fit.
    pub fn compile(config: &ShapeConfig, def: &TableDef) -> Result<Self, ShapeError> {
        let kept = match &config.keep {
            None => None,
            Some(names) => Some(indexes(def, names)?),
        };
        let rules = rules(config, def, kept.as_ref())?;
        let mut columns = Vec::new();
        for (at, column) in def.columns.iter().enumerate() {
            if column.generated.is_some() || kept.as_ref().is_some_and(|kept| !kept.contains(&at)) {
                continue;
            }
            let rule = rules.get(&at).copied();
            let Some(compiled) = rule.map_or(Some(Compiled::Pass), |rule| Compiled::new(&rule.action)) else {
                continue;
            };
            columns.push(Shaped {
                at,
                name: rule.and_then(|rule| rule.rename.as_ref()).unwrap_or(&column.name).clone(),
                column: ColumnType::of(def, column),
                rule: compiled,
            });
        }
        let computed = computed(config, def)?;
        if columns.is_empty() && computed.is_empty() {
            return Err(ShapeError::Nothing { table: def.name.clone() });
        }
        let mut names = HashSet::new();
        let all = columns.iter().map(|shaped| &shaped.name).chain(computed.iter().map(|made| &made.name));
        for name in all {
            if !names.insert(name) {
                return Err(ShapeError::SameName { table: def.name.clone(), name: name.clone() });
            }
        }
        let (mut key, mut lost_key) = (Vec::new(), Vec::new());
        for at in def.key.iter().map(|at| usize::from(*at)) {
            match columns.binary_search_by_key(&at, |shaped| shaped.at) {
                Ok(place) => key.push(place),
                Err(_) => lost_key.extend(def.columns.get(at).map(|column| column.name.clone())),
            }
        }
        Ok(Self { columns, computed, key, lost_key })
    }
}

fn index(def: &TableDef, name: &str) -> Result<usize, ShapeError> {
    let at = def.columns.iter().position(|column| column.name == name).ok_or_else(|| {
        let names = def.columns.iter().filter(|column| column.generated.is_none());
        ShapeError::UnknownColumn {
            table: def.name.clone(),
            column: name.to_owned(),
            nearest: nearest(name, names.map(|column| column.name.as_str())).map(str::to_owned),
        }
    })?;
    if def.columns[at].generated.is_some() {
        return Err(ShapeError::Generated { table: def.name.clone(), column: name.to_owned() });
    }
    Ok(at)
}

fn indexes(def: &TableDef, names: &[String]) -> Result<HashSet<usize>, ShapeError> {
    let mut kept = HashSet::new();
    for name in names {
        if !kept.insert(index(def, name)?) {
            return Err(ShapeError::Twice { column: name.clone() });
        }
    }
    Ok(kept)
}

fn rules<'a>(
    config: &'a ShapeConfig,
    def: &TableDef,
    kept: Option<&HashSet<usize>>,
) -> Result<HashMap<usize, &'a ColumnRule>, ShapeError> {
    let mut rules = HashMap::new();
    for (name, rule) in &config.columns {
        let at = index(def, name)?;
        let column = || name.clone();
        if let Action::Hash { key } = &rule.action
            && key.expose().len() < ShapeConfig::HASH_KEY_BYTES
        {
            return Err(ShapeError::ShortKey { column: column(), bytes: key.expose().len() });
        }
        if rule.rename.as_ref().is_some_and(String::is_empty) {
            return Err(ShapeError::EmptyName { column: column() });
        }
        if kept.is_some_and(|kept| !kept.contains(&at)) && !matches!(rule.action, Action::Drop) {
            return Err(ShapeError::NotKept { column: column() });
        }
        if rules.insert(at, rule).is_some() {
            return Err(ShapeError::Twice { column: column() });
        }
    }
    Ok(rules)
}

fn computed(config: &ShapeConfig, def: &TableDef) -> Result<Vec<Made>, ShapeError> {
    let made = config.computed.iter().map(|column| {
        if column.name.is_empty() {
            return Err(ShapeError::EmptyName { column: column.program.text().to_owned() });
        }
        let bound = column.program.bind(def, Purpose::Value).map_err(|source| ShapeError::Computed {
            table: def.name.clone(),
            column: column.name.clone(),
            source,
        })?;
        Ok(Made { name: column.name.clone(), bound })
    });
    made.collect()
}
