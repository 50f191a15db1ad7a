//! Compiles templates and renders them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};

use minijinja::machinery::{CodeGenerator, Instructions, eval, make_string_output};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

use super::error::{Place, RenderError, TemplateError};
use super::escape::Escaper;
use super::read::{LiteralCheck, NAME, Uses, read};
use super::{filters, value};
use crate::event::Event;

/// What the engine may do for one rendering: about so many steps, or 64 times as many bytes. A tag takes some ten.
pub const FUEL: u64 = 1_000_000;

/// Longest result in bytes.
pub const MAX_OUTPUT_BYTES: usize = 16 * 1024 * 1024;

/// Statements within statements, and what else the engine counts so.
const RECURSION: usize = 200;

/// Stands for a value in what the engine writes. A noncharacter, which no template holds ([`read`]), and values are not
/// written by the engine.
pub(super) const MARK: char = '\u{10ffff}';

/// The values that the marks stand for, in order.
struct Emitted(Vec<Value>);

/// A template, ready to be rendered.
pub(super) struct Template {
    text: &'static str,
    instructions: Instructions<'static>,
    uses: Uses,
    escaper: Escaper,
}

impl fmt::Debug for Template {
    /// The text may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("bytes", &self.text.len()).field("uses", &self.uses).finish()
    }
}

/// Compiled templates refer to their text, and they are few: those of the configuration. So each text is kept for as
/// long as the process lives, once, however often the configuration is read again.
fn kept(text: &str) -> &'static str {
    static TEXTS: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    let texts = texts.get_or_insert_default();
    match texts.get(text) {
        Some(kept) => kept,
        None => {
            let kept: &'static str = Box::leak(text.into());
            texts.insert(kept);
            kept
        }
    }
}

fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_fuel(Some(FUEL));
        env.set_recursion_limit(RECURSION);
        env.set_formatter(|out, state, value| {
            if value.is_undefined() {
                return Err(Error::from(ErrorKind::UndefinedError));
            }
            state.get_or_insert_extension_with(|| Emitted(Vec::new())).0.push(value.clone());
            out.write_str(MARK.encode_utf8(&mut [0; 4])).map_err(|_| Error::from(ErrorKind::WriteFailure))
        });
        filters::add(&mut env);
        env
    })
}

impl Template {
    pub(super) fn parse(text: &str, escaper: Escaper, check: LiteralCheck) -> Result<Self, TemplateError> {
        // Read once before it is kept, so that what is no template is not.
        read(text, check)?;
        let text = kept(text);
        let (tree, uses) = read(text, check)?;
        let mut generator = CodeGenerator::new(NAME, text);
        generator.compile_stmt(&tree);
        let (instructions, _) = generator.finish();
        Ok(Self { text, instructions, uses, escaper })
    }

    pub(super) fn uses(&self) -> &Uses {
        &self.uses
    }

    pub(super) fn render(&self, events: &[Event<'_>], batch: bool) -> Result<String, RenderError> {
        static NO_BLOCKS: BTreeMap<&str, Instructions<'static>> = BTreeMap::new();
        let root = value::root(events, batch, &self.uses);
        let mut written = String::with_capacity(self.text.len());
        let mut out = make_string_output(&mut written);
        let done = eval(environment(), &self.instructions, root, &NO_BLOCKS, &mut out, AutoEscape::None);
        let (_, state) = done.map_err(|error| self.failed(&error))?;
        let values = state.get_extension::<Emitted>().map_or(&[][..], |emitted| &emitted.0);
        let mut escaper = self.escaper;
        let mut result = String::with_capacity(written.len() + 16 * values.len());
        let mut values = values.iter();
        for (index, literal) in written.split(MARK).enumerate() {
            if index > 0 {
                let value = values.next().expect("every mark is written with its value");
                escaper.value(&mut result, value)?;
            }
            escaper.literal(&mut result, literal);
            if result.len() > MAX_OUTPUT_BYTES {
                return Err(RenderError::TooLarge { limit_bytes: MAX_OUTPUT_BYTES });
            }
        }
        Ok(result)
    }

    /// The engine's error less what it may say of values.
    fn failed(&self, error: &Error) -> RenderError {
        let range = error.range();
        let place = range.clone().map(|range| Place::of(self.text, range.start));
        let reason = match error.kind() {
            ErrorKind::UndefinedError => {
                let expression = range.and_then(|range| self.text.get(range)).map(str::trim);
                let plain = |text: &&str| {
                    text.chars().all(|char| char.is_alphanumeric() || "._[]'\"- ".contains(char))
                };
                return RenderError::Undefined {
                    expression: expression.filter(plain).map(str::to_owned),
                    place,
                };
            }
            ErrorKind::OutOfFuel => return RenderError::TooMuchWork,
            ErrorKind::InvalidOperation | ErrorKind::NonPrimitive | ErrorKind::NonKey => {
                "an operation or a filter does not take this value"
            }
            ErrorKind::TooManyArguments | ErrorKind::MissingArgument => {
                "a filter is given other arguments than it takes"
            }
            ErrorKind::UnknownFilter
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownMethod => "there is no such filter, test or function",
            ErrorKind::CannotUnpack => "a value is not made of as many parts as it is given names",
            _ => "the template cannot be rendered",
        };
        RenderError::Failed { reason, place }
    }
}
