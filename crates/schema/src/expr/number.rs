//! Numbers of any width, compared and calculated with exactly.

use std::cmp::Ordering;
use std::fmt;

use super::error::Failure;
use crate::types::arithmetic::NoResult;
use crate::types::number::Decimal;

/// Largest exponent of a number that is written with one: more than a double has. Larger ones would become long texts.
pub(super) const MAX_EXPONENT: usize = 400;

/// A decimal number, or what floats have besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number<'a>(Repr<'a>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Repr<'a> {
    Finite(Decimal<'a>),
    NotANumber,
    Infinite { negative: bool },
}

/// The exponent is above [`MAX_EXPONENT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

/// `+`, `-`, `*`, `/`, `%`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl<'a> Number<'a> {
    pub(super) const ONE: Number<'static> = Number(Repr::Finite(Decimal::ONE));
    pub(super) const ZERO: Number<'static> = Number(Repr::Finite(Decimal::ZERO));

    /// Reads a canonical text: `-1.50`, `1e+300`, `NaN`, `-Infinity`. `None` for what is no number.
    pub(super) fn parse(text: &'a str) -> Result<Option<Self>, TooLarge> {
        let repr = match text {
            "NaN" => Repr::NotANumber,
            "Infinity" => Repr::Infinite { negative: false },
            "-Infinity" => Repr::Infinite { negative: true },
            _ => {
                if let Some((_, exponent)) = text.split_once(['e', 'E']) {
                    let digits = exponent.trim_start_matches(['+', '-']).trim_start_matches('0');
                    if digits.bytes().all(|b| b.is_ascii_digit())
                        && digits.parse().unwrap_or(usize::MAX) > MAX_EXPONENT
                        && !digits.is_empty()
                    {
                        return Err(TooLarge);
                    }
                }
                match Decimal::parse(text) {
                    Some(decimal) => Repr::Finite(decimal),
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(Self(repr)))
    }

    /// Reads a literal: also `.5`, `12u` and `0x1F`.
    pub(super) fn literal(text: &str) -> Result<Option<Number<'static>>, TooLarge> {
        let body = text.strip_suffix(['u', 'U']).unwrap_or(text);
        let unsigned = body.len() < text.len();
        if let Some(digits) = body.strip_prefix("0x").or_else(|| body.strip_prefix("0X")) {
            if digits.trim_start_matches('0').len() > 32 {
                return Err(TooLarge);
            }
            let value = u128::from_str_radix(digits, 16).ok();
            return Ok(value.map(Number::whole));
        }
        if unsigned && !body.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(None);
        }
        let with_zero = if body.starts_with('.') { format!("0{body}") } else { body.to_owned() };
        Ok(Number::parse(&with_zero)?.map(Number::into_owned))
    }

    /// A whole number.
    pub(super) fn whole(value: impl fmt::Display) -> Number<'static> {
        let text = value.to_string();
        let decimal = Decimal::parse(&text).map_or(Decimal::ZERO, Decimal::into_owned);
        Number(Repr::Finite(decimal))
    }

    pub(super) fn borrowed(&self) -> Number<'_> {
        Number(match &self.0 {
            Repr::Finite(decimal) => Repr::Finite(decimal.borrowed()),
            Repr::NotANumber => Repr::NotANumber,
            Repr::Infinite { negative } => Repr::Infinite { negative: *negative },
        })
    }

    /// The same number, owning its digits.
    #[must_use]
    pub fn into_owned(self) -> Number<'static> {
        Number(match self.0 {
            Repr::Finite(decimal) => Repr::Finite(decimal.into_owned()),
            Repr::NotANumber => Repr::NotANumber,
            Repr::Infinite { negative } => Repr::Infinite { negative },
        })
    }

    pub(super) fn is_finite(&self) -> bool {
        matches!(self.0, Repr::Finite(_))
    }

    pub(super) fn is_zero(&self) -> bool {
        matches!(&self.0, Repr::Finite(decimal) if decimal.is_zero())
    }

    /// The order of the numbers; none with NaN, which is not equal to itself either.
    #[must_use]
    pub fn compare(&self, other: &Number<'_>) -> Option<Ordering> {
        let rank = |repr: &Repr<'_>| match repr {
            Repr::NotANumber => None,
            Repr::Infinite { negative: true } => Some(-1),
            Repr::Finite(_) => Some(0),
            Repr::Infinite { negative: false } => Some(1),
        };
        match (&self.0, &other.0) {
            (Repr::Finite(a), Repr::Finite(b)) => Some(a.compare(b)),
            (a, b) => Some(rank(a)?.cmp(&rank(b)?)),
        }
    }

    pub(super) fn negated(self) -> Self {
        Self(match self.0 {
            Repr::Finite(decimal) => Repr::Finite(decimal.negated()),
            Repr::NotANumber => Repr::NotANumber,
            Repr::Infinite { negative } => Repr::Infinite { negative: !negative },
        })
    }

    /// Without what follows the point; `None` for NaN and the infinities.
    pub(super) fn truncated(self) -> Option<Self> {
        match self.0 {
            Repr::Finite(decimal) => Some(Self(Repr::Finite(decimal.truncated()))),
            Repr::NotANumber | Repr::Infinite { .. } => None,
        }
    }

    /// A whole number that fits.
    pub(super) fn integer(&self) -> Option<i128> {
        match &self.0 {
            Repr::Finite(decimal) => decimal.integer().ok(),
            Repr::NotANumber | Repr::Infinite { .. } => None,
        }
    }

    /// Exact, but for a quotient, see [`Decimal::divide`]. With NaN and the infinities as doubles do it.
    pub(super) fn calculate(
        operation: Operation,
        a: &Number<'_>,
        b: &Number<'_>,
    ) -> Result<Number<'static>, Failure> {
        let (Repr::Finite(x), Repr::Finite(y)) = (&a.0, &b.0) else { return Ok(special(operation, a, b)) };
        let result = match operation {
            Operation::Add => x.add(y),
            Operation::Subtract => x.subtract(y),
            Operation::Multiply => x.multiply(y),
            Operation::Divide => x.divide(y),
            Operation::Remainder => x.remainder(y),
        };
        result.map(|decimal| Number(Repr::Finite(decimal))).map_err(|failure| match failure {
            NoResult::TooManyDigits => Failure::TooManyDigits,
            NoResult::DivisionByZero => Failure::DivisionByZero,
        })
    }

    /// What a double says that has the sign and no more of each number.
    fn sign(&self) -> f64 {
        match &self.0 {
            Repr::NotANumber => f64::NAN,
            Repr::Infinite { negative: true } => f64::NEG_INFINITY,
            Repr::Infinite { negative: false } => f64::INFINITY,
            Repr::Finite(decimal) if decimal.is_zero() => 0.0,
            Repr::Finite(decimal) => {
                if decimal.is_negative() {
                    -1.0
                } else {
                    1.0
                }
            }
        }
    }
}

/// At least one of the two is not finite, so a finite result is zero, or the dividend itself.
fn special(operation: Operation, a: &Number<'_>, b: &Number<'_>) -> Number<'static> {
    let (x, y) = (a.sign(), b.sign());
    let result = match operation {
        Operation::Add => x + y,
        Operation::Subtract => x - y,
        Operation::Multiply => x * y,
        Operation::Divide => x / y,
        Operation::Remainder if x.is_finite() && y.is_infinite() => return a.clone().into_owned(),
        Operation::Remainder => x % y,
    };
    Number(if result.is_nan() {
        Repr::NotANumber
    } else if result.is_infinite() {
        Repr::Infinite { negative: result < 0.0 }
    } else {
        Repr::Finite(Decimal::ZERO)
    })
}

/// As PostgreSQL's `numeric` prints it: no exponent, the digits after the point that are known.
impl fmt::Display for Number<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Finite(decimal) => f.write_str(&decimal.text(None)),
            Repr::NotANumber => f.write_str("NaN"),
            Repr::Infinite { negative: true } => f.write_str("-Infinity"),
            Repr::Infinite { negative: false } => f.write_str("Infinity"),
        }
    }
}
