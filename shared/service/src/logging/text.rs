//! Texts in log lines: what they hold may come from outside, and must neither end a line nor steer a terminal.

use std::fmt::{self, Write};

/// Bytes of one value that a log line shows.
pub(super) const MAX_BYTES: usize = 8 * 1024;

/// Collects what is formatted, up to [`MAX_BYTES`]; what is left out is counted and marked.
#[derive(Debug, Default)]
pub(super) struct Bounded {
    text: String,
    omitted: usize,
}

impl Bounded {
    pub(super) fn of(value: &dyn fmt::Debug) -> String {
        let mut bounded = Self::default();
        // A value whose own formatting fails is shown as far as it came.
        let _ = write!(bounded, "{value:?}");
        bounded.finish()
    }

    pub(super) fn of_text(value: &str) -> String {
        let mut bounded = Self::default();
        bounded.push(value);
        bounded.finish()
    }

    fn push(&mut self, text: &str) {
        let room = if self.omitted > 0 { 0 } else { MAX_BYTES - self.text.len() };
        let kept = text.floor_char_boundary(room);
        self.text.push_str(&text[..kept]);
        self.omitted += text.len() - kept;
    }

    fn finish(mut self) -> String {
        if self.omitted > 0 {
            // Writing into a String does not fail.
            let _ = write!(self.text, "… ({} bytes more)", self.omitted);
        }
        self.text
    }
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

/// Whether a character only stands for itself: control characters, and those that are invisible or change the direction
/// of what follows, do not.
fn is_plain(character: char) -> bool {
    let invisible = matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !(character.is_control() || invisible)
}

/// Writes text for people on one line.
pub(super) fn write_plain(text: &str, out: &mut dyn Write) -> fmt::Result {
    text.chars().try_for_each(|character| match character {
        character if is_plain(character) => out.write_char(character),
        other => write!(out, "{}", other.escape_default()),
    })
}

/// Writes text for people as a value: in quotes, unless it is a single word and `bare` words are wanted.
pub(super) fn write_value(text: &str, bare: bool, out: &mut dyn Write) -> fmt::Result {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/+@%-".contains(&byte);
    if bare && !text.is_empty() && text.bytes().all(is_word) {
        return out.write_str(text);
    }
    out.write_char('"')?;
    text.chars().try_for_each(|character| match character {
        '"' | '\\' => write!(out, "\\{character}"),
        character if is_plain(character) => out.write_char(character),
        other => write!(out, "{}", other.escape_default()),
    })?;
    out.write_char('"')
}

/// Writes text as a JSON string.
pub(super) fn write_json(text: &str, out: &mut dyn Write) -> fmt::Result {
    out.write_char('"')?;
    text.chars().try_for_each(|character| match character {
        '"' | '\\' => write!(out, "\\{character}"),
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        character if is_plain(character) => out.write_char(character),
        other => other.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}")),
    })?;
    out.write_char('"')
}
