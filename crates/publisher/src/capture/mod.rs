//! Reading committed changes out of a source database's log.

pub mod postgres;
