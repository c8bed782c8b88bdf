//! The first line of a script.

use core::ops::Range;

/// Where the interpreter and its argument stand in a script's first line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shebang {
    /// The interpreter's path.
    pub interpreter: Range<usize>,
    /// The one argument, which may hold blanks.
    pub argument: Option<Range<usize>>,
}

/// Reads a `#!` line as `load_script` of Linux does: at most 256 bytes, one
/// argument, blanks around both dropped.
#[must_use]
pub fn shebang(head: &[u8]) -> Option<Shebang> {
    const LIMIT: usize = 256;
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let head = head.get(..head.len().min(LIMIT))?;
    let line = head.strip_prefix(b"#!")?;
    let end = line
        .iter()
        .position(|b| matches!(b, b'\n' | 0))
        .unwrap_or(line.len());
    let line = line.get(..end)?;
    let start = line.iter().position(|b| !blank(b))?;
    let line = line.get(..line.iter().rposition(|b| !blank(b))? + 1)?;
    let path_end = line
        .get(start..)?
        .iter()
        .position(blank)
        .map_or(line.len(), |n| start + n);
    // A path that the limit cut off is no path.
    if end + 2 == LIMIT && path_end == line.len() {
        return None;
    }
    let argument = line
        .get(path_end..)?
        .iter()
        .position(|b| !blank(b))
        .map(|n| path_end + n + 2..line.len() + 2);
    Some(Shebang {
        interpreter: start + 2..path_end + 2,
        argument,
    })
}
