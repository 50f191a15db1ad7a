//! What becomes of a value.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::Action;
use crate::table::Dialect;
use crate::types::ColumnType;

/// What stands for the part of a value that is not shown. As long whatever the value, since a length tells much.
const MASK: &str = "***";

/// An action, ready to be applied.
pub(super) enum Compiled {
    Pass,
    Mask,
    MaskAllBut(usize),
    /// The state after the key: what is hashed with it starts from a copy.
    Hash(Box<Hmac<Sha256>>),
    Truncate(usize),
}

/// Keeps the hash's state to itself.
impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "Pass",
            Self::Mask => "Mask",
            Self::MaskAllBut(_) => "MaskAllBut",
            Self::Hash(_) => "Hash(***)",
            Self::Truncate(_) => "Truncate",
        })
    }
}

/// The type of masks, hashes and shortened texts.
pub(super) fn text_type() -> &'static ColumnType {
    static TEXT: OnceLock<ColumnType> = OnceLock::new();
    TEXT.get_or_init(|| ColumnType::parse(Dialect::Postgres, "text", None, &[]))
}

impl Compiled {
    /// `None` for a column that is dropped.
    pub(super) fn new(action: &Action) -> Option<Self> {
        Some(match action {
            Action::Pass => Self::Pass,
            Action::Drop => return None,
            Action::Mask => Self::Mask,
            Action::MaskAllBut { last } => Self::MaskAllBut(*last),
            Action::Hash { key } => {
                let mac = Hmac::new_from_slice(key.expose().as_bytes());
                Self::Hash(Box::new(mac.expect("HMAC takes keys of any length")))
            }
            Action::Truncate { chars } => Self::Truncate(*chars),
        })
    }

    /// The value that is sent in place of `text`.
    pub(super) fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self {
            Self::Pass => Cow::Borrowed(text),
            Self::Mask => Cow::Borrowed(MASK),
            Self::MaskAllBut(last) => {
                // The start of the shown characters, if one at least before them is not shown.
                let shown = last.checked_sub(1).and_then(|back| text.char_indices().rev().nth(back));
                match shown {
                    Some((at, _)) if at > 0 => Cow::Owned(format!("{MASK}{}", &text[at..])),
                    _ => Cow::Borrowed(MASK),
                }
            }
            Self::Hash(mac) => {
                let mut mac = (**mac).clone();
                mac.update(text.as_bytes());
                let digest = mac.finalize().into_bytes();
                let mut hex = String::with_capacity(64);
                for byte in digest {
                    for digit in [byte >> 4, byte & 15] {
                        hex.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
                    }
                }
                Cow::Owned(hex)
            }
            Self::Truncate(chars) => match text.char_indices().nth(*chars) {
                Some((end, _)) => Cow::Borrowed(&text[..end]),
                None => Cow::Borrowed(text),
            },
        }
    }
}
