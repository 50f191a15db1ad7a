//! Words that make people, products and reviews. Put together by number, so that every run makes the same shop.

const FIRST: [&str; 24] = [
    "Ada", "Björn", "Carmen", "Dmitri", "Esra", "Finn", "Grace", "Hana", "Ivan", "José", "Keiko", "Lars",
    "Mina", "Noor", "Olga", "Pavel", "Quinn", "Rosa", "Søren", "Tara", "Uma", "Viktor", "Wei", "Zoë",
];
const LAST: [&str; 20] = [
    "Almeida",
    "Berger",
    "Chen",
    "Dubois",
    "Eriksson",
    "Fischer",
    "García",
    "Hoffmann",
    "Ito",
    "Jensen",
    "Kaya",
    "Lindqvist",
    "Moreau",
    "Nakamura",
    "O'Brien",
    "Petrov",
    "Rossi",
    "Silva",
    "Tanaka",
    "Weber",
];
const CITY: [&str; 12] = [
    "Lisboa",
    "Göteborg",
    "Kraków",
    "Izmir",
    "Porto",
    "Zürich",
    "Kyōto",
    "Montréal",
    "São Paulo",
    "Dublin",
    "Łódź",
    "Reykjavík",
];
const MATERIAL: [&str; 14] = [
    "Oak", "Steel", "Linen", "Copper", "Wool", "Glass", "Bamboo", "Leather", "Cotton", "Marble", "Cork",
    "Silk", "Ash", "Brass",
];
const THING: [&str; 18] = [
    "Lamp", "Kettle", "Chair", "Notebook", "Blanket", "Bowl", "Clock", "Shelf", "Backpack", "Pan", "Teapot",
    "Cushion", "Desk", "Mug", "Vase", "Basket", "Mirror", "Stool",
];
const VERDICT: [&str; 10] = [
    "Does what it should.",
    "Arrived broken, replaced within a day 👍",
    "The colour is off; it's still nice.",
    "Bought a second one.",
    "Zu klein für meine Küche.",
    "Heavy, solid, beautiful.",
    "Not worth the price",
    "五つ星！",
    "My cat loves the box.",
    "",
];

fn pick(words: &[&'static str], number: i64) -> &'static str {
    words[usize::try_from(number.unsigned_abs()).unwrap_or(0) % words.len()]
}

/// A person's name.
pub(super) fn person(number: i64) -> String {
    format!("{} {}", pick(&FIRST, number), pick(&LAST, number / 24 + number * 7))
}

/// An address that no other number has.
pub(super) fn email(number: i64) -> String {
    let ascii =
        |word: &str| word.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_lowercase();
    format!("{}.{number}@example.com", ascii(pick(&LAST, number / 24 + number * 7)))
}

/// Where somebody lives.
pub(super) fn city(number: i64) -> &'static str {
    pick(&CITY, number)
}

/// A product that no other number has.
pub(super) fn product(number: i64) -> String {
    format!("{} {} No. {number}", pick(&MATERIAL, number), pick(&THING, number / 14 + number * 5))
}

/// What somebody says of a product.
pub(super) fn verdict(number: i64) -> &'static str {
    pick(&VERDICT, number)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn unique_columns_get_unique_texts() {
        let emails: HashSet<_> = (0..5_000).map(email).collect();
        let products: HashSet<_> = (0..5_000).map(product).collect();
        assert_eq!((emails.len(), products.len()), (5_000, 5_000));
        assert!(emails.iter().all(|email| email.is_ascii()));
    }
}
