//! A cause as it is shown.

use std::fmt::Write as _;

use bindgate_core::errno::Errno;
use bindgate_core::why::Why;

/// A call and its error, and below it why.
pub fn explained(out: &mut String, call: &str, errno: &str, why: &Why) {
    let meaning = Errno::from_name(errno).map_or("", Errno::text);
    let meaning = match meaning {
        "" => String::new(),
        text => format!(" ({text})"),
    };
    let _ = writeln!(out, "{call} → {errno}{meaning}");
    for (name, lines) in [
        ("because", std::slice::from_ref(&why.text)),
        ("known", &why.details),
        ("mend", &why.mends),
        ("unseen", &why.unseen),
    ] {
        let mut name = name;
        for line in lines {
            let _ = writeln!(out, "  {name:<9} {line}");
            name = "";
        }
    }
}
