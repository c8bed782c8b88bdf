//! The rule that was probably meant by a line that is not one.
//!
//! People write rules as other programs want them: `deny all`, `allow tcp 80`,
//! `*:80,443`, `>1023`. A suggestion is made only if it parses.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Op;
use super::lex::Word;
use super::parse::{self, MODIFIERS, all_digits};
use super::terms;

/// Words for "all there is".
pub(super) fn is_everything(word: &str) -> bool {
    matches!(word, "all" | "any" | "everything" | "*")
}

/// Whether a word looks like an address, a port or a list of ports.
pub(super) fn is_like_address(word: &str) -> bool {
    word.starts_with(['/', '@', ':', '<', '>', '*'])
        || word.contains(':')
        || word.starts_with(|c: char| c.is_ascii_digit())
}

/// The rule to write instead of these words, if one can be found.
pub(super) fn line(words: &[Word]) -> Option<String> {
    let words: Vec<&str> = words.iter().map(Word::keyword).collect::<Option<_>>()?;
    let words = joined(&words);
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let found = match words.as_slice() {
        ["default", verb @ ("allow" | "deny"), all] if is_everything(all) => {
            format!("default {verb}")
        }
        [verb @ ("allow" | "deny"), all] if is_everything(all) => format!("default {verb}"),
        [
            verb @ ("allow" | "deny" | "move" | "hide" | "note"),
            rest @ ..,
        ] => rule(verb, rest)?,
        _ => return None,
    };
    (found != words.join(" ") && parse::is_line(&found)).then_some(found)
}

/// `80, 443` is one word that was written as two.
fn joined<'a>(words: &[&'a str]) -> Vec<Cow<'a, str>> {
    let mut out: Vec<Cow<'a, str>> = Vec::new();
    for word in words {
        match out.last_mut() {
            Some(last) if last.ends_with(',') => last.to_mut().push_str(word),
            _ => out.push(Cow::Borrowed(word)),
        }
    }
    out
}

fn rule(verb: &str, words: &[&str]) -> Option<String> {
    let mut words = words.iter().copied().filter(|w| !is_filler(w)).peekable();
    let op = words.next_if(|w| Op::ALL.iter().any(|o| o.name() == *w));
    let op = op.unwrap_or("bind");
    let mut kind = words.next_if(|w| is_kind(w)).map(ToString::to_string);
    if kind.as_deref() == Some("proto") {
        kind = Some(match words.next()? {
            name if terms::is_kind_name(name) => name.to_string(),
            number => format!("proto {number}"),
        });
    }
    if kind.is_none() && words.peek().is_none() {
        return None;
    }
    let mut address = words.next_if(|w| !MODIFIERS.contains(w)).map(Cow::Borrowed);
    if kind.is_none()
        && let Some(both) = &address
        && let Some((name, port)) = kind_and_port(both)
    {
        (kind, address) = (Some(name.to_string()), Some(Cow::Owned(port.to_string())));
    }
    let address = address.map(|a| whole_address(&a, kind.as_deref()));
    let kind = kind.unwrap_or_else(|| usual_kind(address.as_deref()).to_string());
    let mut out = format!("{verb} {op} {kind}");
    let mut target = false;
    for word in address.as_deref().into_iter().chain(words) {
        out.push(' ');
        if target && word.starts_with(':') {
            out.push('*');
        }
        out.push_str(word);
        target = word == "to";
    }
    Some(out)
}

/// Words that other languages have between ours.
pub(super) fn is_filler(word: &str) -> bool {
    matches!(word, "port" | "ports" | "from" | "on")
}

fn is_kind(word: &str) -> bool {
    if word == "proto" {
        return true;
    }
    let list = word.strip_prefix('{').and_then(|w| w.strip_suffix('}'));
    list.unwrap_or(word).split(',').all(terms::is_kind_name)
}

/// `tcp:80`, `tcp/80`, `80/tcp`
fn kind_and_port(word: &str) -> Option<(&str, &str)> {
    let (a, b) = word.split_once(['/', ':'])?;
    match (terms::is_kind_name(a), terms::is_kind_name(b)) {
        (true, false) => Some((a, b)),
        (false, true) => Some((b, a)),
        _ => None,
    }
}

fn usual_kind(address: Option<&str>) -> &'static str {
    match address {
        None => "any",
        Some(a) if is_everything(a) => "any",
        Some(a) if a.starts_with(['/', '@']) || a.starts_with("unix:") => "unix",
        Some(a) if a.starts_with("vsock:") => "vsock",
        Some(_) => "tcp",
    }
}

fn whole_address(word: &str, kind: Option<&str>) -> String {
    if is_everything(word) {
        return "*".to_string();
    }
    if kind == Some("unix") || word.starts_with(['/', '@']) {
        return word.to_string();
    }
    let bare = !word.contains(':') && (ports(word) != word || is_ports(word));
    let (host, port) = match word.rsplit_once(':') {
        _ if bare => ("*", word),
        Some((host, port))
            if !host.ends_with(|c: char| c.is_ascii_digit()) || host.contains('.') =>
        {
            (host, port)
        }
        // `8000:8100`
        Some(_) if word.bytes().all(|b| b.is_ascii_digit() || b == b':') => ("*", word),
        Some(both) => both,
        None => (word, "*"),
    };
    let host = match host {
        "" | "any" | "all" => "*",
        "localhost" | "lo" => "loopback",
        host => host,
    };
    format!("{host}:{}", ports(port))
}

fn is_ports(word: &str) -> bool {
    let numbers = |w: &str| w.split('-').all(all_digits);
    numbers(word) || word.starts_with('{')
}

/// Ports as this language writes them.
fn ports(word: &str) -> String {
    let number = |text: &str| text.parse::<u32>().ok();
    let range = |from: Option<u32>, to: Option<u32>| match (from, to) {
        (Some(from), Some(to)) if from <= to => Some(format!("{from}-{to}")),
        _ => None,
    };
    let above = |from: Option<u32>| range(from, Some(65535));
    let below = |to: Option<u32>| range(Some(1), to);
    let found = if let Some(n) = word.strip_prefix(">=") {
        above(number(n))
    } else if let Some(n) = word.strip_prefix('>') {
        above(number(n).and_then(|n| n.checked_add(1)))
    } else if let Some(n) = word.strip_prefix("<=") {
        below(number(n))
    } else if let Some(n) = word.strip_prefix('<') {
        below(number(n).and_then(|n| n.checked_sub(1)))
    } else if let Some(n) = word.strip_suffix(['+', '-']) {
        above(number(n))
    } else if let Some(n) = word.strip_prefix('-') {
        below(number(n))
    } else if let Some((a, b)) = word.split_once("..").or_else(|| word.split_once(':')) {
        range(number(a), number(b))
    } else if word.contains(',') && !word.starts_with('{') {
        Some(format!("{{{word}}}"))
    } else if matches!(word, "any" | "all") {
        Some("*".to_string())
    } else {
        None
    };
    found.unwrap_or_else(|| word.to_string())
}
