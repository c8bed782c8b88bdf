//! Texts by the globs that they match: for each set of globs that some text matches,
//! and no other of them, one such text.
//!
//! All globs are followed together, byte by byte, as one automaton: what it can reach
//! is what there is.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::TooMany;
use crate::policy::glob::{Token, in_class, token};

/// States of the automaton, at most.
const MOST_STATES: usize = 60_000;

/// A pattern over texts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Pattern {
    /// The glob, or the text itself.
    pub text: String,
    /// It is compared with what comes after the last slash.
    pub name_only: bool,
    /// It is no glob.
    pub literal: bool,
}

/// What the texts are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Texts {
    /// Paths of programs.
    Programs,
    /// Paths of Unix sockets, without what does not count in them.
    Paths,
    /// Abstract names of Unix sockets.
    Names,
}

/// A set of texts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Atom {
    /// One of them.
    pub text: Vec<u8>,
    /// Which of the patterns they match.
    pub matches: Vec<bool>,
}

impl Pattern {
    fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    fn add(&self, at: usize, to: &mut BTreeSet<u16>) {
        let mut at = at;
        loop {
            to.insert(at as u16);
            if self.literal {
                return;
            }
            match token(self.bytes(), at) {
                Token::Star(next) | Token::Stars(next) | Token::Dirs(next) => at = next,
                _ => return,
            }
        }
    }

    fn start(&self) -> BTreeSet<u16> {
        let mut to = BTreeSet::new();
        self.add(0, &mut to);
        to
    }

    /// As `Positions::step` of the matcher.
    fn step(&self, from: &BTreeSet<u16>, c: u8) -> BTreeSet<u16> {
        if self.name_only && c == b'/' {
            return self.start();
        }
        let mut to = BTreeSet::new();
        for &at in from {
            let i = usize::from(at);
            if self.literal {
                if self.bytes().get(i) == Some(&c) {
                    to.insert(at + 1);
                }
                continue;
            }
            match token(self.bytes(), i) {
                Token::Byte(b, next) if b == c => self.add(next, &mut to),
                Token::One(next) if c != b'/' => self.add(next, &mut to),
                Token::Class(next) if in_class(self.bytes(), i, next, c) => self.add(next, &mut to),
                Token::Star(_) if c != b'/' => self.add(i, &mut to),
                Token::Stars(_) => self.add(i, &mut to),
                Token::Dirs(_) if c == b'/' => self.add(i, &mut to),
                Token::Dirs(_) => drop(to.insert(at + 1)),
                Token::InDirs if c == b'/' => self.add(i - 1, &mut to),
                Token::InDirs => drop(to.insert(at)),
                _ => {}
            }
        }
        to
    }

    fn is_end(&self, at: &BTreeSet<u16>) -> bool {
        at.iter().any(|&at| match self.literal {
            true => usize::from(at) == self.bytes().len(),
            false => matches!(token(self.bytes(), at.into()), Token::End),
        })
    }

    /// What tells a byte from others in it.
    fn signature(&self, c: u8) -> Vec<bool> {
        let bytes = self.bytes();
        let mut out = vec![];
        let mut i = 0;
        while i < bytes.len() {
            if self.literal {
                out.push(bytes.get(i) == Some(&c));
                i += 1;
                continue;
            }
            i = match token(bytes, i) {
                Token::Byte(b, next) => {
                    out.push(b == c);
                    next
                }
                Token::Class(next) => {
                    out.push(in_class(bytes, i, next, c));
                    next
                }
                Token::One(next) | Token::Star(next) | Token::Stars(next) | Token::Dirs(next) => {
                    next
                }
                Token::InDirs | Token::End => i + 1,
            };
        }
        out
    }
}

/// One byte for all that no pattern tells from each other, the most readable.
fn alphabet(patterns: &[Pattern]) -> Vec<u8> {
    let mut seen = BTreeSet::new();
    let mut order: Vec<u8> = (b'a'..=b'z')
        .chain(b'A'..=b'Z')
        .chain(b'0'..=b'9')
        .collect();
    order.extend((1..=255u8).filter(|b| !b.is_ascii_alphanumeric()));
    order.retain(|&c| {
        let signature: Vec<_> = patterns.iter().map(|p| p.signature(c)).collect();
        seen.insert((c == b'/', c == b'.', signature))
    });
    order
}

/// The texts, each set of patterns once.
pub(super) fn atoms(patterns: &[Pattern], texts: Texts) -> Result<Vec<Atom>, TooMany> {
    let (least, most) = match texts {
        Texts::Programs => (2, 4095),
        Texts::Paths => (1, 108),
        Texts::Names => (0, 107),
    };
    let alphabet = alphabet(patterns);
    // How the text ends: with a slash, or with a slash and a dot.
    type State = (u8, bool, Vec<BTreeSet<u16>>);
    let start: State = (0, false, patterns.iter().map(Pattern::start).collect());
    let mut found: BTreeMap<Vec<bool>, Vec<u8>> = BTreeMap::new();
    let mut seen: BTreeSet<State> = BTreeSet::new();
    let mut next: VecDeque<(State, Vec<u8>)> = VecDeque::new();
    seen.insert(start.clone());
    next.push_back((start, Vec::new()));
    while let Some(((ending, is_long, at), text)) = next.pop_front() {
        let is_text = text.len() >= least && !(texts == Texts::Programs && ending == 1);
        if is_text {
            let matches = patterns.iter().zip(&at).map(|(p, at)| p.is_end(at));
            found
                .entry(matches.collect())
                .or_insert_with(|| text.clone());
        }
        if text.len() == most {
            continue;
        }
        for &c in &alphabet {
            if texts == Texts::Programs && text.is_empty() && c != b'/' {
                continue;
            }
            let ending = match (texts, ending, c) {
                (Texts::Names, ..) => 0,
                // The same as a shorter path.
                (_, 1 | 2, b'/') => continue,
                (_, _, b'/') => 1,
                (_, 1, b'.') => 2,
                _ => 0,
            };
            let to: Vec<_> = patterns
                .iter()
                .zip(&at)
                .map(|(p, at)| p.step(at, c))
                .collect();
            let is_long = is_long || text.len() + 1 >= least;
            let state = (ending, is_long, to);
            if seen.insert(state.clone()) {
                if seen.len() > MOST_STATES {
                    return Err(TooMany);
                }
                let mut text = text.clone();
                text.push(c);
                next.push_back((state, text));
            }
        }
    }
    let all = found.into_iter();
    Ok(all.map(|(matches, text)| Atom { text, matches }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::glob;
    use alloc::string::ToString;

    fn pattern(text: &str, name_only: bool) -> Pattern {
        Pattern {
            text: text.to_string(),
            name_only,
            literal: false,
        }
    }

    #[test]
    fn every_set_of_globs_that_a_text_matches_is_found() {
        let globs = ["/run/**", "/run/*.sock", "/**/a", "/run/[ab]?", "/run/**/x"];
        let patterns: Vec<_> = globs.iter().map(|g| pattern(g, false)).collect();
        let atoms = atoms(&patterns, Texts::Paths).ok().unwrap();
        for atom in &atoms {
            for (glob, matches) in globs.iter().zip(&atom.matches) {
                assert_eq!(
                    glob::matches(glob.as_bytes(), &atom.text),
                    *matches,
                    "{glob} {atom:?}"
                );
            }
        }
        for text in [
            "/run/a",
            "/run/b.sock",
            "/run/x/a",
            "/run/aa",
            "/run/x",
            "/a",
            "q",
            "/run/a/x",
        ] {
            let matches: Vec<_> = globs
                .iter()
                .map(|g| glob::matches(g.as_bytes(), text.as_bytes()))
                .collect();
            assert!(atoms.iter().any(|atom| atom.matches == matches), "{text}");
        }
    }

    #[test]
    fn names_of_programs_are_what_comes_after_the_last_slash() {
        let patterns = [pattern("nginx", true), pattern("/usr/sbin/nginx", false)];
        let atoms = atoms(&patterns, Texts::Programs).ok().unwrap();
        let sets: Vec<_> = atoms.iter().map(|a| a.matches.clone()).collect();
        assert_eq!(sets, [[false, false], [true, false], [true, true]]);
        assert!(atoms.iter().all(|a| a.text.starts_with(b"/")));
    }
}
