//! A part of a word, and what is wrong with it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What is wrong with some bytes of a word.
pub(super) struct Fault {
    pub start: usize,
    pub end: usize,
    pub message: String,
    pub expected: Option<String>,
    pub suggestion: Option<String>,
}

pub(super) type Parsed<T> = Result<T, Fault>;

/// A part of a word.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub text: &'a str,
    pub at: usize,
}

impl<'a> Part<'a> {
    pub fn fault<T>(
        self,
        message: String,
        expected: &str,
        suggestion: Option<String>,
    ) -> Parsed<T> {
        Err(Fault {
            start: self.at,
            end: self.at + self.text.len(),
            message,
            expected: (!expected.is_empty()).then(|| expected.to_string()),
            suggestion,
        })
    }

    /// `{a,b}` as its members, anything else as itself.
    pub fn members(self) -> Parsed<Vec<Part<'a>>> {
        let Some(inner) = self.text.strip_prefix('{') else {
            return Ok(alloc::vec![self]);
        };
        let Some(inner) = inner.strip_suffix('}') else {
            return self.fault(
                format!("'{}' is not a list", self.text),
                "'{', members with ',' between them, '}'",
                None,
            );
        };
        let mut out = Vec::new();
        let mut at = self.at + 1;
        for text in inner.split(',') {
            let part = Part { text, at };
            if text.is_empty() {
                let whole = Part {
                    text: self.text,
                    at: self.at,
                };
                return whole.fault("a list with an empty member".to_string(), "", None);
            }
            out.push(part);
            at += text.len() + 1;
        }
        if out.len() > MAX_LIST {
            return self.fault(
                format!("a list of {} members", out.len()),
                &format!("at most {MAX_LIST}"),
                None,
            );
        }
        Ok(out)
    }
}

/// Members of a list, at most.
pub(super) const MAX_LIST: usize = 1024;
