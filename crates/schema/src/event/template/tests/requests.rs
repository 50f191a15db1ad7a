use super::*;
use crate::event::template::{EndpointUrl, HeaderTemplate, RenderError};

fn url(text: &str, name: Option<&str>) -> Result<String, RenderError> {
    let world = World::new();
    let event = world.event(world.row(&[("id", Some("42")), ("name", name)]));
    let url = EndpointUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    url.render(&event).map(|url| url.to_string())
}

#[test]
fn urls_are_rendered() {
    for (text, name, expected) in [
        ("https://example.com", None, "https://example.com/"),
        ("https://example.com:8443/a/b?c=d", None, "https://example.com:8443/a/b?c=d"),
        ("https://example.com/{{ table }}/{{ after.id }}", None, "https://example.com/orders/42"),
        (
            "https://example.com/v1/x-{{ after.name }}?n={{ after.name }}&m=1",
            Some("a b/c&d=e"),
            "https://example.com/v1/x-a%20b%2Fc%26d%3De?n=a%20b%2Fc%26d%3De&m=1",
        ),
        ("https://example.com?n={{ after.name }}", None, "https://example.com/?n="),
        ("https://[::1]:9/{{ after.name | raw }}", Some("a/b"), "https://[::1]:9/a%2Fb"),
        (
            "http://127.0.0.1/{% if op == 'update' %}changed/{% endif %}{{ after.id }}",
            None,
            "http://127.0.0.1/changed/42",
        ),
        (
            "https://example.com/a{% if op %}?x={% endif %}{{ after.name }}",
            Some("?"),
            "https://example.com/a?x=%3F",
        ),
        (
            "https://example.com/{{ after.name }}",
            Some("\u{e9}\u{1f600}"),
            "https://example.com/%C3%A9%F0%9F%98%80",
        ),
        ("https://example.com/{{ after.name }}", Some("%2e%2e"), "https://example.com/%252e%252e"),
        ("https://example.com/a{{ after.name }}", Some(".."), "https://example.com/a.."),
    ] {
        assert_eq!(url(text, name).as_deref(), Ok(expected), "{text}");
    }
    for (text, name, error) in [
        ("https://example.com/{{ after.name }}", None, RenderError::EmptySegment),
        ("https://example.com/a-{{ after.name }}", Some(""), RenderError::EmptySegment),
        ("https://example.com/{{ after.name }}", Some(".."), RenderError::DotSegment),
        ("https://example.com/{{ after.name }}/b", Some("."), RenderError::DotSegment),
        ("https://example.com/.{{ after.name }}", Some("."), RenderError::DotSegment),
        ("https://example.com/%2E{{ after.name }}", Some("."), RenderError::DotSegment),
    ] {
        assert_eq!(url(text, name), Err(error), "{text}");
    }
}

#[test]
fn hosts_are_not_templated() {
    for (text, message) in [
        ("https://{{ after.name }}/", "scheme, host and port of a URL cannot be templated; write them out"),
        (
            "https://example.com{{ after.name }}",
            "scheme, host and port of a URL cannot be templated; write them out",
        ),
        (
            "https://example.com:{{ after.id }}/x",
            "scheme, host and port of a URL cannot be templated; write them out",
        ),
        (
            "https://{{ a / b }}.example.com/",
            "scheme, host and port of a URL cannot be templated; write them out",
        ),
        (
            "https://example.com{# / #}/x",
            "scheme, host and port of a URL cannot be templated; write them out",
        ),
        (
            "https://example.com{# x #}/x",
            "scheme, host and port of a URL cannot be templated; write them out",
        ),
        ("{{ op }}://example.com/x", "scheme, host and port of a URL cannot be templated; write them out"),
        ("/x/{{ id }}", "not a URL: relative URL without a base; write https://host/path"),
        ("https:///", "not a URL: empty host; write https://host/path"),
        ("https://exa mple.com/", "not a URL: invalid international domain name; write https://host/path"),
        ("https://example.com\\@evil.example/", "path or query of the URL"),
        ("https://example.com/a b", "path or query of the URL"),
        ("https://example.com/x#y", "path or query of the URL"),
        ("https://example.com#y", "path or query of the URL"),
        ("https://example.com/\u{e9}", "path or query of the URL"),
        ("https://example.com/a/../b", "path or query of the URL"),
        ("https://example.com/{{ nothing }}", "path or query of the URL"),
    ] {
        match EndpointUrl::parse(text) {
            Ok(url) => panic!("{text}: {url:?}"),
            Err(error) => assert_eq!(error.to_string(), message, "{text}"),
        }
    }
}

#[test]
fn hostile_values_stay_in_their_part_of_the_path() {
    for value in HOSTILE {
        match url("https://example.com/a/{{ after.name }}/b?c={{ after.name }}", Some(value)) {
            Ok(text) => {
                let url = ::url::Url::parse(&text).unwrap();
                assert_eq!(url.host_str(), Some("example.com"), "{text}");
                assert_eq!(url.path_segments().map(Iterator::count), Some(3), "{text}");
                assert_eq!(url.fragment(), None);
                let pairs: Vec<_> = url.query_pairs().into_owned().collect();
                assert_eq!(pairs, [("c".to_owned(), (*value).to_owned())]);
            }
            Err(error) => {
                let expected =
                    if value.is_empty() { RenderError::EmptySegment } else { RenderError::DotSegment };
                assert_eq!(error, expected, "{value:?}");
                assert!(matches!(*value, "" | "." | ".."));
            }
        }
    }
}

fn header(text: &str, name: &str) -> Result<String, RenderError> {
    let world = World::new();
    let event = world.event(world.row(&[("id", Some("42")), ("name", Some(name))]));
    HeaderTemplate::parse(text).unwrap().render(&event)
}

#[test]
fn headers_hold_printable_ascii() {
    assert_eq!(
        header("order-{{ after.id }}; n=\"{{ after.name }}\"", "a b"),
        Ok("order-42; n=\"a b\"".into())
    );
    assert_eq!(header(" {{ after.name }} ", " x "), Ok("x".into()));
    for value in ["\r\nX: 1", "a\nb", "\0", "\t", "\u{7f}", "\u{85}"] {
        assert_eq!(header("{{ after.name }}", value), Err(RenderError::HeaderControl), "{value:?}");
        assert_eq!(header("{{ after.name | raw }}", value), Err(RenderError::HeaderControl), "{value:?}");
    }
    assert_eq!(header("{{ after.name }}", "M\u{fc}ller"), Err(RenderError::HeaderNotAscii));
    assert_eq!(header("{{ after.name | urlencode }}", "M\u{fc}ller\r\n"), Ok("M%C3%BCller%0D%0A".into()));
    assert_eq!(
        header("{{ after.name }}", &"x".repeat(9000)),
        Err(RenderError::TooLarge { limit_bytes: 8192 })
    );
    for text in ["a\r\nb", "a\nb {{ id }}", "\u{e9}", "\t"] {
        assert!(HeaderTemplate::parse(text).is_err(), "{text:?}");
    }
    assert!(HeaderTemplate::parse("Bearer x").unwrap().is_static());
    assert!(!HeaderTemplate::parse("{{ id }}").unwrap().is_static());
}
