//! Folding: of several changes to one key, only the outcome is written.
//!
//! Equal to the sequence as long as keys that the target takes for equal are equal here ([`Equality`]). What cannot be
//! folded without reading the target is [`Unfoldable`], and its table is applied change by change.

use std::borrow::Cow;
use std::collections::HashMap;

use rowbridge_schema::wire::Op;
use rowbridge_schema::{Cell, Position};

use super::{Event, occupants};

/// When a target takes two values of a key column for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Equality {
    /// Same text.
    Text,
    /// Floats: `-0` equals `0`.
    Float,
    /// Decimals: trailing zeros of the fraction do not count.
    Decimal,
    /// Padded text: trailing blanks do not count.
    Padded,
    /// Text under a collation whose rules are known for printable ASCII only: see [`Self::knows`].
    Ascii {
        /// Case does not count.
        any_case: bool,
        /// Trailing blanks do not count.
        padded: bool,
    },
}

impl Equality {
    /// A text that is the same exactly for equal values.
    #[must_use]
    pub fn normal(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Text => Cow::Borrowed(text),
            Self::Float if text == "-0" => Cow::Borrowed("0"),
            Self::Float => Cow::Borrowed(text),
            Self::Decimal if text.contains('.') => {
                Cow::Borrowed(text.trim_end_matches('0').trim_end_matches('.'))
            }
            Self::Decimal => Cow::Borrowed(text),
            Self::Padded => Cow::Borrowed(text.trim_end_matches(' ')),
            Self::Ascii { any_case, padded } => {
                let text = if padded { text.trim_end_matches(' ') } else { text };
                match any_case && text.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    true => Cow::Owned(text.to_ascii_lowercase()),
                    false => Cow::Borrowed(text),
                }
            }
        }
    }

    /// Whether [`Self::normal`] tells what this text equals. Changes whose keys hold other texts must not be folded.
    #[must_use]
    pub fn knows(self, text: &str) -> bool {
        !matches!(self, Self::Ascii { .. }) || text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    }
}

/// What folding must know of a table.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'s> {
    /// Key columns, at least one.
    pub key: &'s [u16],
    /// How the target compares each of them.
    pub equality: &'s [Equality],
    /// How many columns a complete row has.
    pub complete: usize,
    /// Two rows may share a key for a while, since the source may check it at a statement's or transaction's end.
    pub deferrable: bool,
}

/// A key as text that is the same exactly for equal keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyText<'d> {
    /// Of one column.
    One(Cow<'d, str>),
    /// Of several.
    Many(Vec<Cow<'d, str>>),
}

impl Shape<'_> {
    /// The comparable form of a key; `None` if a part is NULL.
    #[must_use]
    pub fn key_text<'d>(&self, key: &[&'d Cell<'d>]) -> Option<KeyText<'d>> {
        let mut parts = key
            .iter()
            .zip(self.equality)
            .map(|(cell, equality)| cell.as_str().map(|text| equality.normal(text)));
        if key.len() == 1 {
            return parts.next().flatten().map(KeyText::One);
        }
        parts.collect::<Option<_>>().map(KeyText::Many)
    }
}

/// The columns of a row that are to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row<'d> {
    /// As they were sent.
    Sent {
        /// Columns.
        columns: &'d [u16],
        /// A cell for each.
        cells: &'d [Cell<'d>],
    },
    /// Put together from several changes, by column.
    Merged(Vec<(u16, &'d Cell<'d>)>),
}

impl<'d> Row<'d> {
    /// Number of columns.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Sent { columns, .. } => columns.len(),
            Self::Merged(cells) => cells.len(),
        }
    }

    /// Whether there is no column.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Column and cell number `index`.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<(u16, &'d Cell<'d>)> {
        match self {
            Self::Sent { columns, cells } => Some((*columns.get(index)?, cells.get(index)?)),
            Self::Merged(cells) => cells.get(index).copied(),
        }
    }

    /// Columns with their cells.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &'d Cell<'d>)> + '_ {
        (0..self.len()).filter_map(|index| self.at(index))
    }

    /// The cell of a column.
    #[must_use]
    pub fn cell(&self, column: u16) -> Option<&'d Cell<'d>> {
        self.iter().find(|(c, _)| *c == column).map(|(_, cell)| cell)
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> Vec<u16> {
        self.iter().map(|(column, _)| column).collect()
    }

    /// This row overwritten with what `later` has.
    #[must_use]
    pub fn merged(&self, later: &Self) -> Self {
        let mut cells: Vec<_> = self.iter().filter(|(column, _)| later.cell(*column).is_none()).collect();
        cells.extend(later.iter());
        cells.sort_by_key(|(column, _)| *column);
        Self::Merged(cells)
    }
}

/// A row that goes.
#[derive(Debug, Clone)]
pub struct Deleted<'d> {
    /// Cells of the key.
    pub key: Vec<&'d Cell<'d>>,
    /// Commit time of the delete.
    pub at: i64,
    /// Position of the delete.
    pub position: Position,
}

/// Columns of a row that must exist (or may be missing).
#[derive(Debug, Clone)]
pub struct PartialRow<'d> {
    /// Cells of the key.
    pub key: Vec<&'d Cell<'d>>,
    /// What to write.
    pub row: Row<'d>,
    /// A missing row is no error.
    pub maybe_missing: bool,
    /// Position of the last change.
    pub position: Position,
}

/// A row that is there afterwards.
#[derive(Debug, Clone)]
pub struct Upsert<'d> {
    /// Its values.
    pub row: Row<'d>,
    /// Position of the last change.
    pub position: Position,
    /// It should not be there before: its first change is an insert, or it is a row of a snapshot.
    pub fresh: bool,
}

/// The outcome of a table's changes. Deletes first, then upserts and updates, whose keys are all different.
#[derive(Debug, Default)]
pub struct Folded<'d> {
    /// Rows that go.
    pub deletes: Vec<Deleted<'d>>,
    /// Rows that are there afterwards, with these values.
    pub upserts: Vec<Upsert<'d>>,
    /// Rows of which only some columns are known.
    pub updates: Vec<PartialRow<'d>>,
}

/// Why changes have to be applied one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfoldable {
    /// A key column was not sent or is NULL.
    Key,
    /// The key changed and the row is not known in full.
    PartialKeyChange,
    /// An update or an incomplete insert follows a delete.
    AfterDelete,
}

enum State<'d> {
    Deleted { key: Vec<&'d Cell<'d>>, at: i64 },
    Upsert(Row<'d>),
    Partial { key: Vec<&'d Cell<'d>>, row: Row<'d>, maybe_missing: bool },
}

struct Entry<'d> {
    state: State<'d>,
    position: Position,
    fresh: bool,
}

/// Folds the changes of one table, in source order.
///
/// # Errors
/// [`Unfoldable`]: apply these changes one by one.
pub fn fold<'d, 'e>(
    shape: Shape<'_>,
    events: impl Iterator<Item = &'e Event<'d>>,
) -> Result<Folded<'d>, Unfoldable>
where
    'd: 'e,
{
    let events: Vec<&'e Event<'d>> = events.collect();
    if shape.deferrable
        && events.iter().any(|event| event.op == Op::Update)
        && events.iter().all(|event| occupants::possible(shape, event))
    {
        return occupants::fold(shape, &events).ok_or(Unfoldable::Key);
    }
    let mut entries: Vec<Entry<'d>> = Vec::with_capacity(events.len());
    let mut index: HashMap<KeyText<'d>, usize> = HashMap::with_capacity(events.len());
    let mut set = |entries: &mut Vec<Entry<'d>>, key: KeyText<'d>, state: State<'d>, at: (Position, Op)| {
        let (position, op) = at;
        let slot = *index.entry(key).or_insert(entries.len());
        match entries.get_mut(slot) {
            Some(entry) => {
                entry.position = position;
                Some(std::mem::replace(&mut entry.state, state))
            }
            None => {
                entries.push(Entry { state, position, fresh: matches!(op, Op::Insert | Op::Read) });
                None
            }
        }
    };
    for event in events {
        let position = (event.position, event.op);
        let before = event.key_before(shape.key).ok_or(Unfoldable::Key)?;
        let before_text = shape.key_text(&before).ok_or(Unfoldable::Key)?;
        if event.op == Op::Delete {
            set(&mut entries, before_text, State::Deleted { key: before, at: event.at }, position);
            continue;
        }
        let after = event.key_after(shape.key).ok_or(Unfoldable::Key)?;
        let after_text = shape.key_text(&after).ok_or(Unfoldable::Key)?;
        let row = event.row();
        let complete = row.len() >= shape.complete;
        let moved = event.op == Op::Update && before_text != after_text;
        if moved {
            let deleted = State::Deleted { key: before, at: event.at };
            let old = set(&mut entries, before_text, deleted, position);
            let row = match old {
                _ if complete => row,
                Some(State::Upsert(old)) if old.len() >= shape.complete => old.merged(&row),
                _ => return Err(Unfoldable::PartialKeyChange),
            };
            set(&mut entries, after_text, State::Upsert(row), position);
            continue;
        }
        if complete {
            set(&mut entries, after_text, State::Upsert(row), position);
            continue;
        }
        let partial = event.op == Op::Update;
        let fresh = if partial {
            State::Partial { key: after, row: row.clone(), maybe_missing: event.maybe_missing }
        } else {
            State::Upsert(row.clone())
        };
        let Some(old) = set(&mut entries, after_text.clone(), fresh, position) else { continue };
        let state = match old {
            State::Upsert(old) => State::Upsert(old.merged(&row)),
            State::Partial { key, row: old, maybe_missing } if partial => State::Partial {
                key,
                row: old.merged(&row),
                maybe_missing: maybe_missing && event.maybe_missing,
            },
            State::Partial { row: old, .. } => State::Upsert(old.merged(&row)),
            // The row is known to be missing, and the change says that it may be.
            State::Deleted { key, at } if partial && event.maybe_missing => State::Deleted { key, at },
            State::Deleted { .. } => return Err(Unfoldable::AfterDelete),
        };
        set(&mut entries, after_text, state, position);
    }
    let mut folded = Folded::default();
    for Entry { state, position, fresh } in entries {
        match state {
            State::Deleted { key, at } => folded.deletes.push(Deleted { key, at, position }),
            State::Upsert(row) => folded.upserts.push(Upsert { row, position, fresh }),
            State::Partial { key, row, maybe_missing } => {
                folded.updates.push(PartialRow { key, row, maybe_missing, position });
            }
        }
    }
    Ok(folded)
}
