//! The table of all crossings.
