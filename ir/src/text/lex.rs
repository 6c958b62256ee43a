//! Tokens of textual IR.

/// A token and the line that it starts on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: usize,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A name or keyword.
    Word(String),
    /// An unsigned number, as written.
    Number(String),
    /// A quoted string, unescaped.
    Str(String),
    /// `%name` or `%"name"`.
    Named(String),
    /// `%7`.
    Numbered(u64),
    /// Punctuation; `..=` is one token.
    Punct(&'static str),
    /// The end of the text.
    End,
}

const PUNCTUATION: [&str; 16] =
    ["..=", "(", ")", "[", "]", "{", "}", ",", ":", "=", "@", "+", "-", "*", "/", "<"];

/// Whether a name can be written without quotes.
pub(super) fn is_plain(name: &str) -> bool {
    name.starts_with(is_head) && name.chars().all(is_tail)
}

fn is_head(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_tail(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '@' | '.')
}

/// Splits a text; on error the line and what is wrong.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, (usize, String)> {
    let mut out = Vec::new();
    let (mut rest, mut line) = (text, 1);
    loop {
        let trimmed = rest.trim_start();
        line += newlines(&rest[..rest.len() - trimmed.len()]);
        rest = trimmed;
        let Some(first) = rest.chars().next() else {
            out.push(Token { kind: Kind::End, line });
            return Ok(out);
        };
        if first == ';' {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
            continue;
        }
        let (kind, len) = token(rest, first).map_err(|message| (line, message))?;
        out.push(Token { kind, line });
        line += newlines(&rest[..len]);
        rest = &rest[len..];
    }
}

fn newlines(s: &str) -> usize {
    s.bytes().filter(|b| *b == b'\n').count()
}

fn token(rest: &str, first: char) -> Result<(Kind, usize), String> {
    if is_head(first) {
        let len = rest.find(|c| !is_tail(c)).unwrap_or(rest.len());
        return Ok((Kind::Word(rest[..len].into()), len));
    }
    if first.is_ascii_digit() {
        let len = number_len(rest);
        return Ok((Kind::Number(rest[..len].into()), len));
    }
    if first == '"' {
        let (s, len) = quoted(rest)?;
        return Ok((Kind::Str(s), len));
    }
    if let Some(name) = rest.strip_prefix('%') {
        return handle(name).map(|(kind, len)| (kind, len + 1));
    }
    match PUNCTUATION.iter().find(|p| rest.starts_with(**p)) {
        Some(p) => Ok((Kind::Punct(p), p.len())),
        None => Err(format!("unexpected character {first:?}")),
    }
}

fn handle(name: &str) -> Result<(Kind, usize), String> {
    match name.chars().next() {
        Some('"') => quoted(name).map(|(s, len)| (Kind::Named(s), len)),
        Some(c) if is_head(c) => {
            let len = name.find(|c| !is_tail(c)).unwrap_or(name.len());
            Ok((Kind::Named(name[..len].into()), len))
        }
        Some(c) if c.is_ascii_digit() => {
            let len = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
            let number =
                name[..len].parse().map_err(|_| format!("value number {} is too large", &name[..len]))?;
            Ok((Kind::Numbered(number), len))
        }
        _ => Err("`%` without a name".into()),
    }
}

/// Digits with an optional fraction and exponent, or hexadecimal digits.
fn number_len(s: &str) -> usize {
    let digits = |s: &str, radix| s.find(|c: char| !c.is_digit(radix)).unwrap_or(s.len());
    if let Some(hex) = s.strip_prefix("0x") {
        return 2 + digits(hex, 16);
    }
    let mut len = digits(s, 10);
    if s[len..].starts_with('.') && s[len + 1..].starts_with(|c: char| c.is_ascii_digit()) {
        len += 1 + digits(&s[len + 1..], 10);
    }
    if let Some(exponent) = s[len..].strip_prefix('e') {
        let sign = usize::from(exponent.starts_with(['-', '+']));
        let count = digits(&exponent[sign..], 10);
        if count > 0 {
            len += 1 + sign + count;
        }
    }
    len
}

/// A string in the escapes of Rust's `{:?}`, and how many bytes it takes.
fn quoted(s: &str) -> Result<(String, usize), String> {
    let mut out = String::new();
    let mut chars = s.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, at + 1)),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some('0') => out.push('\0'),
                Some(c @ ('\\' | '"' | '\'')) => out.push(c),
                Some('u') => {
                    let digits: String =
                        chars.by_ref().map(|(_, c)| c).skip(1).take_while(|c| *c != '}').take(7).collect();
                    let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                    out.push(code.ok_or_else(|| format!("bad escape \\u{{{digits}}}"))?);
                }
                _ => return Err("unknown escape in a string".into()),
            },
            c => out.push(c),
        }
    }
    Err("a string does not end".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stop_before_ranges() {
        let kinds: Vec<Kind> = tokens("1..=64 1.5e-3 0x7f").unwrap().into_iter().map(|t| t.kind).collect();
        let number = |s: &str| Kind::Number(s.into());
        let want =
            [number("1"), Kind::Punct("..="), number("64"), number("1.5e-3"), number("0x7f"), Kind::End];
        assert_eq!(kinds, want);
    }

    #[test]
    fn strings_unescape_what_debug_escapes() {
        for s in ["plain", "a \"b\" \\ \n\t\u{7f}\u{301}é'", ""] {
            assert_eq!(quoted(&format!("{s:?}")).unwrap().0, s);
        }
    }

    #[test]
    fn lines_are_counted_through_comments() {
        let lines: Vec<usize> = tokens("a ; b\n\nc").unwrap().into_iter().map(|t| t.line).collect();
        assert_eq!(lines, [1, 3, 3]);
    }
}
