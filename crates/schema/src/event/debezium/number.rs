//! Decimals as bytes: what Java's `BigDecimal.unscaledValue().toByteArray()` gives.

/// The digits of a decimal, and how many of them stand after the point.
struct Digits {
    negative: bool,
    digits: Vec<u8>,
    scale: usize,
}

fn read(text: &str) -> Option<Digits> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let fits = !whole.is_empty() && digits.iter().all(u8::is_ascii_digit);
    fits.then_some(Digits { negative, digits, scale: fraction.len() })
}

/// The unscaled value at `scale`; `None` where the text is no decimal or has more digits than the scale keeps.
pub(super) fn unscaled(text: &str, scale: i32) -> Option<Vec<u8>> {
    let mut number = read(text)?;
    let wanted = i64::from(scale);
    let has = number.scale as i64;
    if wanted >= has {
        number.digits.resize(number.digits.len() + usize::try_from(wanted - has).ok()?, b'0');
    } else {
        for _ in 0..has - wanted {
            match number.digits.pop() {
                Some(b'0') | None => {}
                Some(_) => return None,
            }
        }
    }
    Some(bytes(number.negative, &number.digits))
}

/// The least scale, and the unscaled value at it.
pub(super) fn variable(text: &str) -> Option<(usize, Vec<u8>)> {
    let mut number = read(text)?;
    while number.scale > 0 && number.digits.last() == Some(&b'0') {
        number.digits.pop();
        number.scale -= 1;
    }
    Some((number.scale, bytes(number.negative, &number.digits)))
}

/// An amount of money as the server's locale prints it: `-$1,234.50`. Two digits after the last mark are cents.
pub(super) fn money(text: &str) -> Option<Vec<u8>> {
    let negative = text.contains(['-', '(']);
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).collect();
    let tail = text.rsplit(['.', ',']).next().unwrap_or_default();
    let cents = tail.len() < text.len() && tail.bytes().filter(u8::is_ascii_digit).count() == 2;
    if digits.is_empty() || !cents {
        return None;
    }
    Some(bytes(negative, &digits))
}

/// Two's complement, big-endian, as short as it gets.
fn bytes(negative: bool, digits: &[u8]) -> Vec<u8> {
    // Base 2^32, least first.
    let mut limbs: Vec<u32> = Vec::new();
    for chunk in digits.chunks(9) {
        let mut carry = chunk.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        let factor = 10u64.pow(chunk.len() as u32);
        for limb in &mut limbs {
            let value = u64::from(*limb) * factor + carry;
            *limb = value as u32;
            carry = value >> 32;
        }
        if carry > 0 {
            limbs.push(carry as u32);
        }
    }
    let zero = limbs.iter().all(|&limb| limb == 0);
    let negative = negative && !zero;
    if negative {
        // -n is the complement of n - 1.
        for limb in &mut limbs {
            let (value, borrow) = limb.overflowing_sub(1);
            *limb = value;
            if !borrow {
                break;
            }
        }
    }
    let all: Vec<u8> = limbs.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect();
    let start = all.iter().position(|&byte| byte != 0).unwrap_or(all.len());
    let mut out = Vec::with_capacity(all.len() - start + 1);
    if all.get(start).is_none_or(|byte| byte & 0x80 != 0) {
        out.push(0);
    }
    out.extend_from_slice(&all[start..]);
    if negative {
        out.iter_mut().for_each(|byte| *byte = !*byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn back(bytes: &[u8]) -> i128 {
        let start = if bytes[0] & 0x80 != 0 { -1 } else { 0 };
        bytes.iter().fold(start, |sum: i128, &byte| sum << 8 | i128::from(byte))
    }

    proptest! {
        #[test]
        fn whole_numbers_come_back(number in any::<i64>(), zeros in 0usize..12) {
            let wide = i128::from(number) * 10i128.pow(zeros as u32);
            let made = unscaled(&wide.to_string(), 0).unwrap();
            prop_assert_eq!(back(&made), wide);
            // No byte is there that only repeats the sign.
            if let [first, second, ..] = made[..] {
                let repeats = (first == 0 && second < 0x80) || (first == 0xff && second >= 0x80);
                prop_assert!(!repeats);
            }
        }
    }

    #[test]
    fn scales_are_filled_up_and_never_rounded() {
        assert_eq!(unscaled("1.5", 2), Some(vec![0, 150]));
        assert_eq!(unscaled("600", -2), Some(vec![6]));
        assert_eq!(unscaled("650", -2), None);
        assert_eq!(unscaled("0", -2), Some(vec![0]));
        assert_eq!(unscaled("-0.00", 2), Some(vec![0]));
        assert_eq!(variable("1.2300"), Some((2, vec![123])));
        assert_eq!(unscaled("NaN", 2), None);
        assert_eq!(money("-$1,234.50"), Some(vec![0xfe, 0x1d, 0xc6]));
        assert_eq!(money("1.234,50 EUR"), Some(vec![0x01, 0xe2, 0x3a]));
        assert_eq!(money("$"), None);
    }
}
