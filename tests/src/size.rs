//! Loads come in two sizes: short ones inside `tests/run`, full ones by `tests/full`.

/// Whether the full sizes are asked for (`ROWBRIDGE_TEST_FULL=1`).
#[must_use]
pub fn full() -> bool {
    std::env::var_os("ROWBRIDGE_TEST_FULL").is_some_and(|value| value == "1")
}

/// The short or the full value.
#[must_use]
pub fn size<T>(short: T, at_full: T) -> T {
    if full() { at_full } else { short }
}
