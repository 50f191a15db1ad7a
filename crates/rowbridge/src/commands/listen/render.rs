//! A request for people.

use std::fmt::Write as _;

use super::clock;
use super::content::Shown;
use super::json;
use super::request::Request;

/// Lines of a body that are shown.
const MAX_LINES: usize = 20;
/// Characters of a line: XML and minified JSON have one only.
const MAX_WIDTH: usize = 400;
/// Bytes of a binary body.
const MAX_BINARY: usize = 32;

/// How requests are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) colors: bool,
    /// Whole bodies instead of summaries and first lines.
    pub(super) full: bool,
}

#[derive(Debug, Clone, Copy)]
enum Color {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
}

impl Style {
    fn paint(self, color: Color, text: &str) -> String {
        match self.colors {
            true => format!("\x1b[{}m{text}\x1b[0m", color as u8),
            false => text.to_owned(),
        }
    }

    /// Several lines, the last one with its line break.
    pub(super) fn request(self, request: &Request<'_>) -> String {
        let head = request.head;
        let mut text = self.paint(Color::Dim, &clock::time(head.at));
        let _ =
            write!(text, "  {}", self.paint(Color::Bold, &safe(&format!("{} {}", head.method, head.target))));
        if let Some(content_type) = head.content_type() {
            let _ = write!(text, "  {}", safe(&content_type));
        }
        let _ = writeln!(text, "  {}  {}", size(request.wire_bytes), self.answer(request));
        if let Some((id, attempt)) = request.id {
            let _ = write!(text, "  {}", self.paint(Color::Dim, &safe(id)));
            if attempt > 1 {
                let _ = write!(text, "  {}", self.paint(Color::Yellow, &format!("repeat {attempt}")));
            }
            text.push('\n');
        }
        let color = if request.verdict.is_bad() { Color::Red } else { Color::Green };
        match request.verdict {
            super::signature::Verdict::Unchecked => {}
            verdict => {
                let _ = writeln!(text, "  {}", self.paint(color, &verdict.text()));
            }
        }
        if let Some(note) = request.note {
            let _ = writeln!(text, "  {}", self.paint(Color::Yellow, &safe(note)));
        }
        self.body(&mut text, request);
        text
    }

    fn answer(self, request: &Request<'_>) -> String {
        let Some(status) = request.plan.status else {
            return self.paint(Color::Yellow, "-> closed without an answer");
        };
        let mut answer = format!("-> {}", status.as_u16());
        if !request.plan.delay.is_zero() {
            let _ = write!(answer, " in {} ms", request.plan.delay.as_millis());
        }
        let color = if status.is_success() { Color::Green } else { Color::Red };
        self.paint(color, &answer)
    }

    fn body(self, text: &mut String, request: &Request<'_>) {
        let content = request.content;
        if !self.full && !content.summary.is_empty() {
            return self.lines(text, content.summary.iter().map(String::as_str));
        }
        match content.shown {
            Shown::Empty => {}
            Shown::Json(body) => self.lines(text, json::pretty(body).lines()),
            Shown::Text(body) => self.lines(text, body.lines()),
            Shown::Binary(body) => {
                let shown = if self.full { body } else { &body[..body.len().min(MAX_BINARY)] };
                let mut hex = String::new();
                shown.iter().for_each(|byte| {
                    let _ = write!(hex, "{byte:02x}");
                });
                let more = if shown.len() < body.len() { "..." } else { "" };
                let _ = writeln!(text, "  {} that are no text: {hex}{more}", size(body.len() as u64));
            }
        }
    }

    fn lines<'a>(self, text: &mut String, lines: impl Iterator<Item = &'a str>) {
        let mut hidden = 0;
        for (index, line) in lines.enumerate() {
            // The head and the last line of a summary say how many there are.
            if index > MAX_LINES + 1 && !self.full {
                hidden += 1;
                continue;
            }
            match line.char_indices().nth(MAX_WIDTH).filter(|_| !self.full) {
                Some((end, _)) => {
                    let cut = line[end..].chars().count();
                    let _ = writeln!(text, "  {}... {cut} more characters", safe(&line[..end]));
                }
                None => {
                    let _ = writeln!(text, "  {}", safe(line));
                }
            }
        }
        if hidden > 0 {
            let more = format!("... {hidden} more lines (--full shows all)");
            let _ = writeln!(text, "  {}", self.paint(Color::Dim, &more));
        }
    }
}

/// Nothing that a sender writes may move the cursor or recolour the terminal.
fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests;
