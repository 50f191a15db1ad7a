//! When a target takes two texts of a key for the same.

use crate::plan::Equality;

/// Collations that compare printable ASCII by case alone or not at all: no letter equals another one, nothing is ignored.
/// Those of single languages are left out, since some of them merge letters (`v` and `w`, `i` and `y`).
const ANY_CASE: &[&str] = &[
    "general_ci",
    "general_nopad_ci",
    "general_mysql500_ci",
    "unicode_ci",
    "unicode_nopad_ci",
    "unicode_520_ci",
    "unicode_520_nopad_ci",
    "0900_ai_ci",
    "0900_as_ci",
    "uca1400_ai_ci",
    "uca1400_as_ci",
    "uca1400_nopad_ai_ci",
    "uca1400_nopad_as_ci",
];
const SAME_CASE: &[&str] = &["0900_as_cs", "uca1400_as_cs", "uca1400_nopad_as_cs"];

/// How a collation compares; `None` if it is not known.
pub(super) fn equality(collation: &str) -> Option<Equality> {
    let (charset, rules) = collation.split_once('_').unwrap_or((collation, ""));
    let padded = !rules.contains("nopad") && !rules.starts_with("0900") && collation != "binary";
    if rules == "bin" || rules == "nopad_bin" || rules == "0900_bin" || collation == "binary" {
        return Some(if padded { Equality::Padded } else { Equality::Text });
    }
    let swedish = charset == "latin1" && matches!(rules, "swedish_ci" | "swedish_nopad_ci");
    if swedish || ANY_CASE.contains(&rules) {
        return Some(Equality::Ascii { any_case: true, padded });
    }
    SAME_CASE.contains(&rules).then_some(Equality::Ascii { any_case: false, padded })
}

/// Whether it tells all texts apart, but for blanks at their end.
pub(super) fn is_exact(collation: &str) -> bool {
    matches!(equality(collation), Some(Equality::Text | Equality::Padded))
}

/// What a target makes of keys that are different at the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Merging {
    /// They stay different.
    Never,
    /// Those that differ in blanks at their end become one.
    Blanks,
    /// Others become one too, or nobody knows.
    More,
}

/// From how the source compares and how the target does; `None` is a rule that is not known.
pub(super) fn merging(source: Option<Equality>, target: Option<Equality>) -> Merging {
    let class = |equality| match equality {
        Equality::Text | Equality::Float | Equality::Decimal => (0, false),
        Equality::Padded => (0, true),
        Equality::Ascii { any_case, padded } => (if any_case { 2 } else { 1 }, padded),
    };
    match (source, target) {
        // A foreign rule of a server of the same kind: the operator has chosen both.
        (None, _) => Merging::Never,
        (Some(Equality::Ascii { .. }), None) => Merging::Never,
        (Some(_), None) => Merging::More,
        (Some(source), Some(target)) => {
            let ((source, padded), (target, pads)) = (class(source), class(target));
            match (source < target, pads && !padded) {
                (true, _) => Merging::More,
                (false, true) => Merging::Blanks,
                (false, false) => Merging::Never,
            }
        }
    }
}

/// Collations to make a column with, the best one first, for a server that may not know the source's.
pub(super) fn candidates(collation: &str) -> Vec<String> {
    let (charset, rules) = collation.split_once('_').unwrap_or((collation, ""));
    let mut names = vec![collation.to_owned()];
    let mut add = |rules: &str| {
        let name = format!("{charset}_{rules}");
        if !names.contains(&name) {
            names.push(name);
        }
    };
    // MySQL's newer collations do not pad, MariaDB's do unless they say so.
    if let Some(strength) = rules.strip_prefix("0900_").filter(|rules| *rules != "bin") {
        add(&format!("uca1400_nopad_{strength}"));
    }
    if let Some(rest) = rules.strip_prefix("uca1400_") {
        add(&format!("0900_{}", rest.strip_prefix("nopad_").unwrap_or(rest)));
    }
    if rules.contains("nopad_") && rules != "nopad_bin" {
        add(&rules.replace("nopad_", ""));
    }
    if rules.ends_with("_cs") || rules.ends_with("bin") {
        // The one of MariaDB, the one of MySQL.
        add("nopad_bin");
        if charset == "utf8mb4" {
            add("0900_bin");
        }
        add("bin");
    } else if rules.starts_with("0900") {
        add("unicode_520_nopad_ci");
    }
    add("unicode_520_ci");
    add("unicode_ci");
    add("general_ci");
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_rules_are_trusted() {
        let ascii = |any_case, padded| Some(Equality::Ascii { any_case, padded });
        assert_eq!(equality("utf8mb4_general_ci"), ascii(true, true));
        assert_eq!(equality("utf8mb4_0900_ai_ci"), ascii(true, false));
        assert_eq!(equality("utf8mb4_uca1400_nopad_as_cs"), ascii(false, false));
        assert_eq!(equality("latin1_swedish_ci"), ascii(true, true));
        assert_eq!(equality("utf8mb4_bin"), Some(Equality::Padded));
        assert_eq!(equality("utf8mb4_0900_bin"), Some(Equality::Text));
        assert_eq!(equality("utf8mb4_swedish_ci"), None);
        assert_eq!(equality("utf8mb4_lt_0900_ai_ci"), None);
    }

    #[test]
    fn coarser_rules_make_one_key_of_several() {
        let of = |source: &str, target: &str| merging(equality(source), equality(target));
        assert_eq!(of("utf8mb4_0900_bin", "utf8mb4_nopad_bin"), Merging::Never);
        assert_eq!(of("utf8mb4_nopad_bin", "utf8mb4_bin"), Merging::Blanks);
        assert_eq!(of("utf8mb4_bin", "utf8mb4_general_ci"), Merging::More);
        assert_eq!(of("utf8mb4_0900_as_cs", "utf8mb4_0900_ai_ci"), Merging::More);
        assert_eq!(of("utf8mb4_0900_ai_ci", "utf8mb4_unicode_520_ci"), Merging::Blanks);
        assert_eq!(of("utf8mb4_general_ci", "utf8mb4_bin"), Merging::Never);
        assert_eq!(of("utf8mb4_bin", "utf8mb4_swedish_ci"), Merging::More, "what nobody knows");
    }

    #[test]
    fn a_server_without_the_collation_gets_the_nearest() {
        assert_eq!(
            candidates("utf8mb4_0900_ai_ci")[..3],
            ["utf8mb4_0900_ai_ci", "utf8mb4_uca1400_nopad_ai_ci", "utf8mb4_unicode_520_nopad_ci"]
        );
        assert_eq!(candidates("utf8mb4_uca1400_as_cs")[1], "utf8mb4_0900_as_cs");
        assert_eq!(
            candidates("utf8mb4_nopad_bin")[..3],
            ["utf8mb4_nopad_bin", "utf8mb4_0900_bin", "utf8mb4_bin"]
        );
        assert!(candidates("utf8mb4_0900_as_cs").iter().any(|name| name == "utf8mb4_bin"));
    }
}
