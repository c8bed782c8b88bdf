//! Lines into words.

use alloc::string::String;
use alloc::vec::Vec;

/// A word of a line, with the column of each of its bytes.
pub(super) struct Word {
    pub text: String,
    /// Column of each byte of `text`, then the one after the last byte.
    cols: Vec<u32>,
    /// Byte of `text` where the first quoted part begins. What comes from
    /// there on is never a keyword.
    pub bare: usize,
}

impl Word {
    /// Column and width of some bytes of the word.
    pub fn span(&self, start: usize, end: usize) -> (u32, u32) {
        let last = self.cols.last().copied().unwrap_or(1);
        let from = self.cols.get(start).copied().unwrap_or(last);
        let to = self.cols.get(end).copied().unwrap_or(last);
        (from, to.saturating_sub(from).max(1))
    }

    /// The text, if no part of it is quoted.
    pub fn keyword(&self) -> Option<&str> {
        (self.bare >= self.text.len() && !self.text.is_empty()).then_some(self.text.as_str())
    }
}

/// An error in the shape of a line.
pub(super) struct LexError {
    pub column: u32,
    pub message: &'static str,
    pub expected: &'static str,
}

/// `u{1b}` after a backslash: the character with that number.
fn character_by_number(chars: &mut (impl Iterator<Item = (char, u32)> + Clone)) -> Option<char> {
    let mut ahead = chars.clone().map(|(c, _)| c);
    if (ahead.next(), ahead.next()) != (Some('u'), Some('{')) {
        return None;
    }
    let digits: String = ahead.take_while(|c| *c != '}').take(7).collect();
    let closing = chars.clone().nth(2 + digits.len())?.0;
    let c = u32::from_str_radix(&digits, 16)
        .ok()
        .and_then(char::from_u32);
    let c = c.filter(|_| closing == '}' && !digits.starts_with('+'))?;
    chars.nth(2 + digits.len())?;
    Some(c)
}

/// Splits a line at blanks, drops the comment, takes quotes off. Blanks
/// inside quotes stay; those inside a list in braces go.
pub(super) fn words(line: &str) -> (Vec<Word>, Option<LexError>) {
    let mut out = Vec::new();
    let mut chars = line.chars().zip(1u32..).peekable();
    loop {
        while chars.next_if(|(c, _)| c.is_whitespace()).is_some() {}
        match chars.peek() {
            None | Some(('#', _)) => return (out, None),
            Some(_) => {}
        }
        let mut w = Word {
            text: String::new(),
            cols: Vec::new(),
            bare: usize::MAX,
        };
        let push = |w: &mut Word, c: char, col: u32| {
            w.text.push(c);
            w.cols.resize(w.text.len(), col);
        };
        let (mut quote, mut brace) = (None, None);
        let mut end = 1;
        while let Some(&(c, col)) = chars.peek() {
            if quote.is_none() && brace.is_none() && c.is_whitespace() {
                break;
            }
            chars.next();
            end = col + 1;
            if quote.is_some() {
                let escaped = matches!(chars.peek(), Some(('"' | '\\', _)));
                let by_number = match c {
                    '\\' => character_by_number(&mut chars),
                    _ => None,
                };
                match c {
                    '"' => quote = None,
                    '\\' if by_number.is_some() => {
                        by_number.into_iter().for_each(|c| push(&mut w, c, col));
                    }
                    '\\' if escaped => {
                        if let Some((c, col)) = chars.next() {
                            push(&mut w, c, col);
                        }
                    }
                    c => push(&mut w, c, col),
                }
            } else if c == '"' {
                quote = Some(col);
                w.bare = w.bare.min(w.text.len());
            } else if brace.is_some() && c.is_whitespace() {
            } else {
                let opens = w.text.is_empty() || w.text.ends_with(':');
                if c == '{' && opens && w.bare == usize::MAX {
                    brace = Some(col);
                } else if c == '}' {
                    brace = None;
                }
                push(&mut w, c, col);
            }
        }
        w.cols.push(end);
        w.bare = w.bare.min(w.text.len().max(1));
        if let Some(column) = quote {
            let (message, expected) = ("the quote is not closed", "a closing '\"'");
            #[rustfmt::skip]
            return (out, Some(LexError { column, message, expected }));
        }
        if let Some(column) = brace {
            let (message, expected) = ("the list is not closed", "a closing '}'");
            #[rustfmt::skip]
            return (out, Some(LexError { column, message, expected }));
        }
        out.push(w);
    }
}
