//! Captures committed changes, journals them and delivers them as signed webhooks.

pub mod capture;
