//! What a column may have been called before its source renamed it.

use rowbridge_schema::config::DeletePolicy;

use crate::plan::MappedTable;

/// The target's column that a missing one may have been called before: the only one that the source does not have, where
/// the source has only one that the target lacks. `own` are the target's columns that can be written, and whether each has
/// the type of the missing one.
pub(super) fn renamed_from<'t>(
    mapped: &MappedTable,
    own: impl Iterator<Item = (&'t str, bool)>,
    same: impl Fn(&str, &str) -> bool,
) -> Option<&'t str> {
    let soft = match &mapped.delete {
        DeletePolicy::Soft(name) => Some(name.as_str()),
        DeletePolicy::Hard | DeletePolicy::Ignore => None,
    };
    let target: Vec<(&str, bool)> = own.collect();
    let sent = || mapped.columns.iter().flatten();
    let missing = sent().filter(|name| !target.iter().any(|(column, _)| same(column, name))).count();
    let mut alone = target.into_iter().filter(|(column, _)| {
        !soft.is_some_and(|name| same(column, name)) && !sent().any(|name| same(column, name))
    });
    let (first, fits) = alone.next()?;
    (fits && missing == 1 && alone.next().is_none()).then_some(first)
}
