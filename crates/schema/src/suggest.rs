//! "Did you mean": the known name that a typo most likely meant.

/// The nearest of `known`, if at most a third of its letters differ; letter case counts for nothing.
pub(crate) fn nearest<'a>(typo: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A long name is no typo of a short one, and the distance costs the product of both lengths.
    let near = known.into_iter().filter(|name| name.len() <= 64 && typo.len() <= 64);
    let near = near.map(|name| (distance(&typo.to_lowercase(), &name.to_lowercase()), name));
    let (distance, name) = near.min_by_key(|&(distance, _)| distance)?;
    (distance <= (name.len() / 3).max(1)).then_some(name)
}

/// Letters to insert, remove, replace, or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_find_their_key() {
        const KNOWN: &[&str] = &["name", "url", "secret", "tables", "allow_networks", "timeout"];
        for (typo, key) in [
            ("tabels", Some("tables")),
            ("scret", Some("secret")),
            ("timeuot", Some("timeout")),
            ("allow_network", Some("allow_networks")),
            ("Url", Some("url")),
            ("when", None),
            ("retry", None),
            ("", None),
        ] {
            assert_eq!(nearest(typo, KNOWN.iter().copied()), key, "{typo}");
        }
        assert_eq!(nearest("x", []), None);
    }
}
