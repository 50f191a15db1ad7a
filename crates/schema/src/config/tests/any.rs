//! What must hold for any text.

use super::*;

/// Lines that reach far into the loader, and pieces that break it.
fn line() -> impl Strategy<Value = String> {
    let headers: Vec<String> = SECTIONS
        .iter()
        .flat_map(|keys| [format!("[{}]", keys.section), format!("[[{}]]", keys.section)])
        .collect();
    let keys: Vec<&str> = SECTIONS.iter().flat_map(|keys| keys.keys.iter().copied()).collect();
    let value = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<bool>().prop_map(|value| value.to_string()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("1979-05-27".to_owned()),
        "[a-z:/@$%{}.0-9é -]{0,20}".prop_map(|text| format!("{text:?}")),
        "[a-z:/@${}.0-9]{0,9}".prop_map(|text| format!("[{text:?}, {{ a = {text:?} }}]")),
        "\\PC{0,12}",
    ];
    prop_oneof![
        1 => prop::sample::select(headers),
        3 => (prop::sample::select(keys), value).prop_map(|(key, value)| format!("{key} = {value}")),
    ]
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(\\PC|\n){0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn anything_like_a_file_is_read_or_refused(lines in prop::collection::vec(line(), 0..40)) {
        let text = lines.join("\n");
        if let Err(errors) = load(Path::new("f"), &text, &env, &read_file) {
            prop_assert!(!errors.0.is_empty());
            prop_assert_eq!(errors.to_string().lines().count(), errors.0.len(), "one line each");
        }
    }

    /// Whatever a variable holds, wherever it is filled in: no error shows it.
    #[test]
    fn what_is_filled_in_is_never_shown(secret in "[a-zA-Z0-9:/@?#%!. -]{0,8}XYZZY[a-zA-Z0-9:/@?#%!. -]{0,8}") {
        let env = |_: &str| Some(secret.clone());
        for section in SECTIONS.iter().filter(|keys| !keys.section.is_empty()) {
            for key in section.keys {
                for value in ["\"${S}\"", "[\"${S}\"]", "\"postgres://u:${S}@h/${S}\"", "\"postgres://u:x${S}\"", "{ a = \"${S}\" }"] {
                    let text = with(section.section, &format!("{key} = {value}"));
                    if let Err(errors) = load(Path::new("f"), &text, &env, &read_file) {
                        prop_assert!(!errors.to_string().contains("XYZZY"), "{errors}");
                        prop_assert!(!format!("{errors:?}").contains("XYZZY"), "{errors:?}");
                    }
                }
            }
        }
    }
}
