//! Sizes as people write them: `"8 MiB"`, `"1.5GB"`, `"512 B"`.

use super::duration::split_number;

/// Why a text is no size. Never contains the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BytesError {
    /// No digits where a number belongs.
    #[error("expected a number with a unit, such as \"8 MiB\"")]
    Number,
    /// Digits, and nothing after them.
    #[error("write a unit, such as \"8 MiB\"")]
    UnitMissing,
    /// Neither a binary nor a decimal unit.
    #[error("units are B, KiB, MiB, GiB, TiB (1024) and kB, MB, GB, TB (1000), such as \"8 MiB\"")]
    UnitUnknown,
    /// Over the largest signed 64-bit number, which servers and file systems stop at too.
    #[error("a size is at most 8388607 TiB")]
    TooLarge,
}

/// Reads one number with its unit: `B`, `KiB` to `TiB` (powers of 1024), `kB` to `TB` (powers of 1000). A fraction of
/// a byte is cut off.
///
/// # Errors
/// What is wrong with the text, without the text.
pub fn parse_bytes(text: &str) -> Result<u64, BytesError> {
    let (number, unit) = split_number(text.trim()).ok_or(BytesError::Number)?;
    let unit: u128 = match unit.trim_start() {
        "" => return Err(BytesError::UnitMissing),
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(BytesError::UnitUnknown),
    };
    let bytes = number.times(unit).and_then(|bytes| i64::try_from(bytes).ok());
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).ok_or(BytesError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("8 MiB", 8 << 20),
            ("8MiB", 8 << 20),
            (" 512 B ", 512),
            ("0 B", 0),
            ("1kB", 1_000),
            ("1.5 GB", 1_500_000_000),
            ("0.5 KiB", 512),
            ("8 GiB", 8 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_says_why() {
        for (text, error) in [
            ("", BytesError::Number),
            ("MiB", BytesError::Number),
            ("-1 MiB", BytesError::Number),
            ("8", BytesError::UnitMissing),
            ("8 mib", BytesError::UnitUnknown),
            ("8 Mb", BytesError::UnitUnknown),
            ("8 MiB 2 KiB", BytesError::UnitUnknown),
            ("9999999 TiB", BytesError::TooLarge),
            ("99999999999999999999999999999999999999999999 B", BytesError::TooLarge),
        ] {
            assert_eq!(parse_bytes(text), Err(error), "{text:?}");
        }
    }
}
