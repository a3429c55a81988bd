//! Matchers as Prometheus and Alertmanager write them: `severity="critical"`, `domain=~"cat-.*"`.

use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

use regex::{Regex, RegexBuilder};

/// A regular expression takes at most so much memory once it is compiled; it is matched in linear time.
const MAX_REGEX_BYTES: usize = 1024 * 1024;

/// How a label is compared.
#[derive(Debug, Clone)]
enum Operator {
    Equal,
    NotEqual,
    Matches(Regex),
    MatchesNot(Regex),
}

/// A condition on one label. A label that is absent counts as empty.
#[derive(Debug, Clone)]
pub struct Matcher {
    name: String,
    operator: Operator,
    value: String,
}

impl Matcher {
    /// Reads a matcher. Regular expressions match the whole value. Quotes may be left out around a value without any.
    ///
    /// # Errors
    /// Says what is wrong, and at which character.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text.char_indices().peekable();
        let at = |rest: &mut Peekable<CharIndices<'_>>| rest.peek().map_or(text.len(), |(at, _)| *at);
        skip_blanks(&mut rest);
        let start = at(&mut rest);
        while rest.next_if(|(_, c)| c.is_alphanumeric() || matches!(c, '_' | '.' | '-')).is_some() {}
        let name = &text[start..at(&mut rest)];
        if name.is_empty() {
            return Err(wrong(text, start, "a label's name is expected"));
        }
        skip_blanks(&mut rest);
        let operator = at(&mut rest);
        let found = match (rest.next().map(|(_, c)| c), rest.peek().map(|(_, c)| *c)) {
            (Some('='), Some('~')) | (Some('!'), Some('=' | '~')) => {
                rest.next();
                &text[operator..operator + 2]
            }
            (Some('='), _) => "=",
            _ => return Err(wrong(text, operator, "one of =, !=, =~ and !~ is expected")),
        };
        skip_blanks(&mut rest);
        let value_at = at(&mut rest);
        let value = match rest.peek() {
            Some((_, '"')) => quoted(text, &mut rest)?,
            _ => unquoted(text, value_at)?,
        };
        let regex = || {
            let regex = RegexBuilder::new(&format!("^(?s:{value})$")).size_limit(MAX_REGEX_BYTES).build();
            regex.map_err(|error| {
                let first = error.to_string();
                let reason = first.lines().last().unwrap_or_default().trim_start_matches("error: ");
                wrong(text, value_at, &format!("{value:?} is no regular expression ({reason})"))
            })
        };
        let operator = match found {
            "=" => Operator::Equal,
            "!=" => Operator::NotEqual,
            "=~" => Operator::Matches(regex()?),
            _ => Operator::MatchesNot(regex()?),
        };
        Ok(Self { name: name.to_owned(), operator, value })
    }

    /// The label that it looks at.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a label with this value fulfils it; the empty text where the label is absent.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        match &self.operator {
            Operator::Equal => value == self.value,
            Operator::NotEqual => value != self.value,
            Operator::Matches(regex) => regex.is_match(value),
            Operator::MatchesNot(regex) => !regex.is_match(value),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = match self.operator {
            Operator::Equal => "=",
            Operator::NotEqual => "!=",
            Operator::Matches(_) => "=~",
            Operator::MatchesNot(_) => "!~",
        };
        write!(f, "{}{operator}{:?}", self.name, self.value)
    }
}

impl Eq for Matcher {}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

fn skip_blanks(rest: &mut Peekable<CharIndices<'_>>) {
    while rest.next_if(|(_, c)| c.is_whitespace()).is_some() {}
}

/// The value in quotes, with `\"`, `\\` and `\n` resolved; nothing may follow it.
fn quoted(text: &str, rest: &mut Peekable<CharIndices<'_>>) -> Result<String, String> {
    rest.next();
    let mut value = String::new();
    loop {
        match rest.next() {
            None => return Err(wrong(text, text.len(), "the closing quote is missing")),
            Some((_, '"')) => break,
            Some((at, '\\')) => match rest.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                // what regular expressions use: \. and \d
                Some((_, c)) => value.extend(['\\', c]),
                None => return Err(wrong(text, at, "an escape has no end")),
            },
            Some((_, c)) => value.push(c),
        }
    }
    skip_blanks(rest);
    match rest.next() {
        None => Ok(value),
        Some((at, _)) => Err(wrong(text, at, "nothing may follow the value: each matcher is a text of its own")),
    }
}

fn unquoted(text: &str, start: usize) -> Result<String, String> {
    let value = text[start..].trim_end();
    match value.char_indices().find(|(_, c)| matches!(c, '"' | ',' | '{' | '}') || c.is_whitespace()) {
        None => Ok(value.to_owned()),
        Some((at, _)) => Err(wrong(text, start + at, "a value with such characters must stand in quotes")),
    }
}

fn wrong(text: &str, at: usize, message: &str) -> String {
    format!("at character {}: {message}", text[..at].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::Matcher;

    fn matches(matcher: &str, value: &str) -> bool {
        Matcher::parse(matcher).unwrap().matches(value)
    }

    #[test]
    fn the_four_operators_compare_as_alertmanager_does() {
        assert!(matches(r#"a="x""#, "x") && !matches(r#"a="x""#, "xx"));
        assert!(matches(r#"a!="x""#, "") && !matches(r#"a!="x""#, "x"));
        assert!(matches(r#"a=~"cat-.*|dog""#, "cat-7") && matches(r#"a=~"cat-.*|dog""#, "dog"));
        assert!(!matches(r#"a=~"cat-.*|dog""#, "hotdog") && !matches(r#"a=~"dog""#, "dogs"), "anchored");
        assert!(matches(r#"a!~"cat-.*""#, "dog") && !matches(r#"a!~"cat-.*""#, "cat-1"));
        assert!(matches(r#"a=~".*""#, "") && !matches(r#"a=~".+""#, ""), "an absent label is empty");
    }

    #[test]
    fn blanks_quotes_and_escapes_are_read_as_written() {
        assert!(matches("  a = x  ", "x"));
        assert!(matches(r#"a = "say \"hi\" \\ \n""#, "say \"hi\" \\ \n"));
        assert!(matches(r#"a=~"1\.5""#, "1.5") && !matches(r#"a=~"1\.5""#, "1x5"));
        assert!(matches("rule=Größe", "Größe"));
        assert!(matches(r#"a="""#, ""));
        assert_eq!(Matcher::parse("a = x").unwrap().to_string(), r#"a="x""#);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, told) in [
            ("", "at character 1: a label's name"),
            ("=x", "at character 1: a label's name"),
            ("severity", "at character 9: one of ="),
            ("severity > 3", "at character 10: one of ="),
            (r#"größe="x"#, "at character 9: the closing quote"),
            (r#"a="x", b="y""#, "at character 6: nothing may follow"),
            ("a=x, b=y", "at character 4: a value with such characters"),
            (r#"a=~"(""#, "at character 4: \"(\" is no regular expression"),
        ] {
            let error = Matcher::parse(text).unwrap_err();
            assert!(error.starts_with(told), "{text}: {error}");
        }
    }
}
