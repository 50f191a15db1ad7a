//! Formats against files, against any values, and against the documentation.

mod docs;
mod golden;
mod messages;
mod properties;
mod samples;

use super::{Event, cloudevents, json, xml};

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

/// Headers and body of an event in CloudEvents' binary mode, as they stand in a request; a body of bytes as far as it is
/// text.
fn binary(event: &Event<'_>) -> String {
    let headers = cloudevents::binary_headers(event);
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    let mut body = Vec::new();
    cloudevents::write_binary(&mut body, event);
    headers + "\n" + &String::from_utf8_lossy(&body)
}

/// An event as the body of every format, with the ending of its golden file.
fn bodies(event: &Event<'_>) -> [(&'static str, String); 4] {
    [
        ("json", text(|out| json::write_event(out, event))),
        ("cloudevents.json", text(|out| cloudevents::write_structured(out, event))),
        ("cloudevents.http", binary(event)),
        ("xml", text(|out| xml::SINGLE.body(out, [event], xml::write_event))),
    ]
}
