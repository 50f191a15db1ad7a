//! Capture from MySQL and MariaDB as a replica of their binary log.

pub mod catalog;
pub mod client;
pub mod error;

pub use self::error::MysqlError;
