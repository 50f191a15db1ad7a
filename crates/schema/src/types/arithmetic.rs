//! Exact arithmetic on decimals of up to [`MAX_DIGITS`] digits, and their order whatever their length.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::number::Decimal;

/// Most digits, before and after the point together, of what is calculated with and of what comes out: a product is one
/// page of digits at most, and its time is bounded.
pub(crate) const MAX_DIGITS: usize = 1000;

/// Digits after the point that a quotient is rounded to.
pub(crate) const QUOTIENT_SCALE: usize = 20;

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoResult {
    /// More than [`MAX_DIGITS`] digits.
    TooManyDigits,
    /// Divided by zero.
    DivisionByZero,
}

/// A whole number: its digits from the highest on, without leading zeros; empty for zero.
type Digits = Vec<u8>;

impl Decimal<'_> {
    pub(crate) const ZERO: Decimal<'static> =
        Decimal { negative: false, whole: Cow::Borrowed(""), fraction: Cow::Borrowed("") };
    pub(crate) const ONE: Decimal<'static> =
        Decimal { negative: false, whole: Cow::Borrowed("1"), fraction: Cow::Borrowed("") };

    /// The same number, borrowing the digits.
    pub(crate) fn borrowed(&self) -> Decimal<'_> {
        Decimal {
            negative: self.negative,
            whole: Cow::Borrowed(&self.whole),
            fraction: Cow::Borrowed(&self.fraction),
        }
    }

    /// The same number, owning its digits.
    pub(crate) fn into_owned(self) -> Decimal<'static> {
        Decimal {
            negative: self.negative,
            whole: Cow::Owned(self.whole.into_owned()),
            fraction: Cow::Owned(self.fraction.into_owned()),
        }
    }

    /// The order of the numbers themselves: `1.0` is `1`, `-0` is `0`.
    pub(crate) fn compare(&self, other: &Decimal<'_>) -> Ordering {
        match (self.is_negative(), other.is_negative()) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => self.compare_size(other),
            (true, true) => other.compare_size(self),
        }
    }

    fn compare_size(&self, other: &Decimal<'_>) -> Ordering {
        let by_length = self.whole.len().cmp(&other.whole.len());
        let by_whole = by_length.then_with(|| self.whole.cmp(&other.whole));
        by_whole.then_with(|| self.fraction.trim_end_matches('0').cmp(other.fraction.trim_end_matches('0')))
    }

    /// The number with the other sign.
    pub(crate) fn negated(self) -> Self {
        Self { negative: !self.negative, ..self }
    }

    /// The number without what follows the point.
    pub(crate) fn truncated(self) -> Self {
        Self { fraction: Cow::Borrowed(""), ..self }
    }

    /// The sum, with as many digits after the point as the longer of the two.
    pub(crate) fn add(&self, other: &Decimal<'_>) -> Result<Decimal<'static>, NoResult> {
        let scale = self.fraction.len().max(other.fraction.len());
        let (a, b) = (self.scaled(scale)?, other.scaled(scale)?);
        let (negative, digits) = if self.negative == other.negative {
            (self.negative, sum(&a, &b))
        } else if compare(&a, &b).is_ge() {
            (self.negative, difference(&a, &b))
        } else {
            (other.negative, difference(&b, &a))
        };
        made(negative, &digits, scale)
    }

    /// The difference, see [`Decimal::add`].
    pub(crate) fn subtract(&self, other: &Decimal<'_>) -> Result<Decimal<'static>, NoResult> {
        self.add(&other.borrowed().negated())
    }

    /// The product, with the digits after the point of both.
    pub(crate) fn multiply(&self, other: &Decimal<'_>) -> Result<Decimal<'static>, NoResult> {
        let (scale_a, scale_b) = (self.fraction.len(), other.fraction.len());
        let (a, b) = (self.scaled(scale_a)?, other.scaled(scale_b)?);
        made(self.negative != other.negative, &product(&a, &b), scale_a + scale_b)
    }

    /// The quotient, rounded to [`QUOTIENT_SCALE`] digits after the point, a half away from zero, without zeros at the end.
    pub(crate) fn divide(&self, other: &Decimal<'_>) -> Result<Decimal<'static>, NoResult> {
        let scale = self.fraction.len().max(other.fraction.len());
        let (mut a, b) = (self.scaled(scale)?, other.scaled(scale)?);
        if b.is_empty() {
            return Err(NoResult::DivisionByZero);
        }
        if !a.is_empty() {
            a.resize(a.len() + QUOTIENT_SCALE, 0);
        }
        let (mut quotient, rest) = divided(&a, &b);
        if compare(&sum(&rest, &rest), &b).is_ge() {
            quotient = sum(&quotient, &[1]);
        }
        let exact = made(self.negative != other.negative, &quotient, QUOTIENT_SCALE)?;
        let kept = exact.fraction.trim_end_matches('0').to_owned();
        Ok(Decimal { fraction: Cow::Owned(kept), ..exact })
    }

    /// What division without digits after the point leaves over, with the sign of the dividend.
    pub(crate) fn remainder(&self, other: &Decimal<'_>) -> Result<Decimal<'static>, NoResult> {
        let scale = self.fraction.len().max(other.fraction.len());
        let (a, b) = (self.scaled(scale)?, other.scaled(scale)?);
        if b.is_empty() {
            return Err(NoResult::DivisionByZero);
        }
        made(self.negative, &divided(&a, &b).1, scale)
    }

    /// The number times ten to the power of `scale`, which is at least the number's own.
    fn scaled(&self, scale: usize) -> Result<Digits, NoResult> {
        if self.whole.len() + scale > MAX_DIGITS {
            return Err(NoResult::TooManyDigits);
        }
        let written = self.whole.bytes().chain(self.fraction.bytes()).map(|byte| byte - b'0');
        let zeros = std::iter::repeat_n(0, scale - self.fraction.len());
        Ok(without_leading_zeros(written.chain(zeros).collect()))
    }
}

fn made(negative: bool, digits: &[u8], scale: usize) -> Result<Decimal<'static>, NoResult> {
    if digits.len().max(scale) > MAX_DIGITS {
        return Err(NoResult::TooManyDigits);
    }
    let zeros = std::iter::repeat_n('0', scale.saturating_sub(digits.len()));
    let text: String = zeros.chain(digits.iter().map(|digit| char::from(b'0' + digit))).collect();
    let (whole, fraction) = text.split_at(text.len() - scale);
    Ok(Decimal { negative, whole: Cow::Owned(whole.to_owned()), fraction: Cow::Owned(fraction.to_owned()) })
}

fn without_leading_zeros(mut digits: Digits) -> Digits {
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    digits.drain(..zeros);
    digits
}

fn compare(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn sum(a: &[u8], b: &[u8]) -> Digits {
    let length = a.len().max(b.len());
    let mut carry = 0;
    let mut digits: Digits = Vec::with_capacity(length + 1);
    for at in 0..length {
        let digit = carry + from_end(a, at) + from_end(b, at);
        digits.push(digit % 10);
        carry = digit / 10;
    }
    digits.push(carry);
    digits.reverse();
    without_leading_zeros(digits)
}

/// `a - b` where `a` is at least `b`.
fn difference(a: &[u8], b: &[u8]) -> Digits {
    let mut borrow = 0;
    let mut digits: Digits = Vec::with_capacity(a.len());
    for at in 0..a.len() {
        let taken = from_end(b, at) + borrow;
        let have = from_end(a, at);
        borrow = u8::from(have < taken);
        digits.push(have + 10 * borrow - taken);
    }
    digits.reverse();
    without_leading_zeros(digits)
}

fn product(a: &[u8], b: &[u8]) -> Digits {
    // A column sums up at most 1000 products of two digits.
    let mut columns = vec![0_u32; a.len() + b.len()];
    for (i, x) in a.iter().rev().enumerate() {
        for (j, y) in b.iter().rev().enumerate() {
            columns[i + j] += u32::from(x * y);
        }
    }
    let mut carry = 0;
    let mut digits: Digits = Vec::with_capacity(columns.len());
    for column in columns {
        let value = column + carry;
        digits.push((value % 10) as u8);
        carry = value / 10;
    }
    digits.reverse();
    without_leading_zeros(digits)
}

/// Quotient and remainder of whole numbers; `b` is not zero.
fn divided(a: &[u8], b: &[u8]) -> (Digits, Digits) {
    let mut quotient: Digits = Vec::with_capacity(a.len());
    let mut rest: Digits = Vec::with_capacity(b.len() + 1);
    for &digit in a {
        if !(rest.is_empty() && digit == 0) {
            rest.push(digit);
        }
        let mut times = 0;
        while compare(&rest, b).is_ge() {
            rest = difference(&rest, b);
            times += 1;
        }
        quotient.push(times);
    }
    (without_leading_zeros(quotient), rest)
}

fn from_end(digits: &[u8], at: usize) -> u8 {
    if at < digits.len() { digits[digits.len() - 1 - at] } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Decimal<'_> {
        Decimal::parse(text).unwrap()
    }

    fn shown(result: Result<Decimal<'static>, NoResult>) -> String {
        result.unwrap().text(None)
    }

    #[test]
    fn results_are_exact() {
        assert_eq!(shown(read("0.1").add(&read("0.2"))), "0.3");
        assert_eq!(shown(read("1.50").add(&read("-1.5"))), "0.00");
        assert_eq!(shown(read("-1").subtract(&read("0.01"))), "-1.01");
        assert_eq!(shown(read("9007199254740993").multiply(&read("1.10"))), "9907919180215092.30");
        assert_eq!(shown(read("0.001").multiply(&read("0.001"))), "0.000001");
        assert_eq!(shown(read("7").divide(&read("2"))), "3.5");
        assert_eq!(shown(read("2").divide(&read("3"))), "0.66666666666666666667");
        assert_eq!(shown(read("-2").divide(&read("3"))), "-0.66666666666666666667");
        assert_eq!(shown(read("0").divide(&read("3"))), "0");
        assert_eq!(
            shown(read("1e-21").multiply(&read("5")).unwrap().divide(&read("1"))),
            "0.00000000000000000001"
        );
        assert_eq!(shown(read("-7.5").remainder(&read("2"))), "-1.5");
        assert_eq!(read("1").divide(&read("0.00")), Err(NoResult::DivisionByZero));
        assert_eq!(read("1").remainder(&read("-0")), Err(NoResult::DivisionByZero));
    }

    #[test]
    fn digits_are_bounded() {
        let long = "9".repeat(MAX_DIGITS);
        let half = "9".repeat(MAX_DIGITS / 2);
        assert_eq!(read(&long).add(&read("1")), Err(NoResult::TooManyDigits));
        assert_eq!(read(&long).multiply(&read("2")), Err(NoResult::TooManyDigits));
        assert_eq!(shown(read(&half).multiply(&read(&half))).len(), MAX_DIGITS);
        assert_eq!(read(&"9".repeat(MAX_DIGITS + 1)).add(&read("1")), Err(NoResult::TooManyDigits));
        assert_eq!(read(&long).compare(&read(&format!("1{long}"))), Ordering::Less);
    }

    proptest! {
        #[test]
        fn whole_numbers_are_those_of_the_machine(a in any::<i64>(), b in any::<i64>()) {
            let (x, y) = (a.to_string(), b.to_string());
            let (x, y) = (read(&x), read(&y));
            let (a, b) = (i128::from(a), i128::from(b));
            prop_assert_eq!(shown(x.add(&y)), (a + b).to_string());
            prop_assert_eq!(shown(x.subtract(&y)), (a - b).to_string());
            prop_assert_eq!(shown(x.multiply(&y)), (a * b).to_string());
            prop_assert_eq!(x.compare(&y), a.cmp(&b));
            if b != 0 {
                prop_assert_eq!(shown(x.remainder(&y)), (a % b).to_string());
            }
        }

        #[test]
        fn quotients_are_rounded_at_the_last_digit(
            a in -100_000_000_000_000_000_i64..100_000_000_000_000_000,
            b in prop_oneof![1_i64..100, any::<i64>()],
        ) {
            prop_assume!(b != 0);
            let (x, y) = (a.to_string(), b.to_string());
            let (n, d) = (i128::from(a).abs() * 10_i128.pow(20), i128::from(b).abs());
            let sign = if (a < 0) == (b < 0) { "" } else { "-" };
            let wanted = format!("{sign}{}e-20", (2 * n + d) / (2 * d));
            prop_assert!(read(&x).divide(&read(&y)).unwrap().equals(&read(&wanted)), "{}", wanted);
        }

        #[test]
        fn a_product_divides_again(a in -1_000_000_000_i64..1_000_000_000, b in 1_i64..1_000_000, scale in 0_u32..6) {
            let (x, y) = (format!("{a}e-{scale}"), format!("{b}e-{scale}"));
            let product = read(&x).multiply(&read(&y)).unwrap();
            prop_assert!(product.divide(&read(&y)).unwrap().equals(&read(&x)));
        }
    }
}
