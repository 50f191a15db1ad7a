use std::time::{Duration, UNIX_EPOCH};

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use rowbridge_schema::signature::VerifyError;

use super::*;
use crate::commands::listen::behave::Plan;
use crate::commands::listen::content::read;
use crate::commands::listen::line;
use crate::commands::listen::request::Head;
use crate::commands::listen::signature::Verdict;

const PLAIN: Style = Style { colors: false, full: false };

fn head(content_type: &str) -> Head {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
    headers.insert(AUTHORIZATION, "Bearer hunter2".parse().unwrap());
    Head {
        at: UNIX_EPOCH + Duration::from_millis(1_767_323_045_678),
        peer: "127.0.0.1:40000".parse().unwrap(),
        method: "POST".to_owned(),
        target: "/in/shop?x=1".to_owned(),
        headers,
    }
}

fn plan(status: Option<u16>) -> Plan {
    let status = status.map(|status| StatusCode::from_u16(status).unwrap());
    Plan { status, delay: Duration::ZERO, retry_after_seconds: None }
}

/// Renders one request with everything that a test changes.
fn show<R>(
    content_type: &str,
    body: &[u8],
    change: impl FnOnce(&mut Request<'_>),
    render: impl FnOnce(&Request<'_>) -> R,
) -> R {
    let head = head(content_type);
    let content = read(&head.headers, body);
    let mut request = Request {
        head: &head,
        number: 3,
        id: Some(("msg_1", 1)),
        verdict: &Verdict::Holds,
        wire_bytes: body.len() as u64,
        note: None,
        content: &content,
        plan: plan(Some(200)),
    };
    change(&mut request);
    render(&request)
}

const EVENT: &str = r#"{"id":"shop:1","type":"row.update","schema":"public","table":"orders",
    "data":{"op":"update","key":{"id":42},"before":null,"after":{"id":42,"n":9007199254740993},"changed":["n"]}}"#;

#[test]
fn an_event_takes_four_lines() {
    let text = show("application/json", EVENT.as_bytes(), |_| {}, |request| PLAIN.request(request));
    assert_eq!(
        text,
        "03:04:05.678  POST /in/shop?x=1  application/json  183 B  -> 200\n\
         \x20 msg_1\n\
         \x20 signature holds\n\
         \x20 row.update  public.orders  id=42  changed n\n"
    );
}

#[test]
fn repeats_bad_signatures_and_odd_answers_are_told() {
    const STALE: &Verdict = &Verdict::Wrong(VerifyError::Stale { skew_seconds: -400 });
    let text = show(
        "text/plain",
        b"hello",
        |request| {
            request.id = Some(("msg_1", 2));
            request.verdict = STALE;
            request.plan = Plan { delay: Duration::from_millis(200), ..plan(Some(503)) };
        },
        |request| PLAIN.request(request),
    );
    assert_eq!(
        text,
        "03:04:05.678  POST /in/shop?x=1  text/plain  5 B  -> 503 in 200 ms\n\
         \x20 msg_1  repeat 2\n\
         \x20 signature stale: its timestamp is 400 s old (300 s are allowed; compare both clocks)\n\
         \x20 hello\n"
    );
    let text = show(
        "text/plain",
        b"\xff\x00",
        |request| {
            request.id = None;
            request.verdict = &Verdict::Unchecked;
            request.note = Some("larger");
            request.plan = plan(None);
        },
        |request| PLAIN.request(request),
    );
    assert_eq!(
        text,
        "03:04:05.678  POST /in/shop?x=1  text/plain  2 B  -> closed without an answer\n\
         \x20 larger\n\
         \x20 2 B that are no text: ff00\n"
    );
}

#[test]
fn long_bodies_are_cut_unless_all_is_wanted() {
    let xml = format!("<event>{}</event>\n{}", "x".repeat(500), "<more/>\n".repeat(40));
    let text = show("application/xml", xml.as_bytes(), |_| {}, |request| PLAIN.request(request));
    assert!(text.contains("xxx... 115 more characters\n"), "{text}");
    assert!(text.ends_with("... 19 more lines (--full shows all)\n"), "{text}");
    let full = Style { full: true, ..PLAIN };
    let text = show("application/xml", xml.as_bytes(), |_| {}, |request| full.request(request));
    assert!(text.contains("</event>") && text.ends_with("<more/>\n") && text.lines().count() == 44, "{text}");
    let text = show("application/json", EVENT.as_bytes(), |_| {}, |request| full.request(request));
    assert!(text.contains("\n        \"n\": 9007199254740993\n"), "{text}");
}

#[test]
fn a_sender_cannot_write_to_the_terminal() {
    let hostile = "\x1b[2J\u{9b}31mred\r\nsecond\x07";
    let colors = Style { colors: true, ..PLAIN };
    for style in [PLAIN, colors] {
        let text = show("text/plain", hostile.as_bytes(), |_| {}, |request| style.request(request));
        assert!(text.ends_with("  \\u{1b}[2J\\u{9b}31mred\n  second\\u{7}\n"), "{text:?}");
        assert_eq!(text.contains("\x1b[32m-> 200\x1b[0m"), style.colors);
        assert_eq!(text.contains('\x1b'), style.colors);
    }
}

#[test]
fn a_line_of_json_has_it_all() {
    let object = |content_type, body: &[u8]| -> serde_json::Value {
        let text = show(content_type, body, |_| {}, line::request);
        assert!(!text.contains('\n') && !text.contains("hunter2"), "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let text = show("application/json", EVENT.as_bytes(), |_| {}, line::request);
    assert!(text.contains(r#""after":{"id":42,"n":9007199254740993}"#), "{text}");
    let value = object("application/json", EVENT.as_bytes());
    assert_eq!(value["event"], "request");
    assert_eq!((value["number"].as_u64(), value["attempt"].as_u64()), (Some(3), Some(1)));
    assert_eq!(
        (&value["time"], &value["path"]),
        (&"2026-01-02T03:04:05.678Z".into(), &"/in/shop?x=1".into())
    );
    assert_eq!((&value["webhook_id"], &value["format"]), (&"msg_1".into(), &"json".into()));
    assert_eq!((&value["signature"]["verdict"], &value["status"]), (&"holds".into(), &200.into()));
    assert_eq!(value["body"]["data"]["key"]["id"], 42);
    assert_eq!(value["headers"][1], serde_json::json!(["authorization", "Bearer ***"]));
    let value = object("text/plain", b"hi");
    assert_eq!((&value["body"], &value["body_is"]), (&"hi".into(), &"text".into()));
    let value = object("text/plain", b"\xff\x00");
    assert_eq!((&value["body"], &value["body_is"]), (&"/wA=".into(), &"base64".into()));
    let value = object("text/plain", b"");
    assert_eq!((&value["body"], &value["body_is"]), (&serde_json::Value::Null, &"empty".into()));
}
