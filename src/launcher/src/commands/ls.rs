//! `bindgate ls`: what is bound in each run.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bindgate_core::render::{civil, json_ended};
use serde_json::Value;

use crate::{Failure, exit, print, runs};
use bindgate_os as sys;

/// `bindgate ls`, read.
#[derive(clap::Args, Debug)]
pub struct Ls {
    /// Print one JSON object a line for each run; docs/log.md describes it
    #[arg(long)]
    json: bool,
    /// Print a line for each TCP socket that listens and is reached from outside its run:
    /// an address for a browser, the run, and the program
    #[arg(long, conflicts_with = "json")]
    url: bool,
    /// List again whenever something has changed
    #[arg(long, short)]
    watch: bool,
    /// Only the runs whose ids begin like this
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
}

/// `bindgate ls`
pub fn ls(ls: &Ls) -> Result<i32, Failure> {
    /// How often it is asked under `--watch`.
    const TURN: Duration = Duration::from_millis(500);
    if !ls.watch {
        let all = said(runs::find(&ls.runs));
        print(&listing(ls, &all))?;
        let is_missing = |start: &&String| !all.iter().any(|(id, _)| id.starts_with(*start));
        return match ls.runs.iter().find(is_missing) {
            Some(start) => Err(runs::none(start)),
            None => Ok(0),
        };
    }
    let mut before: Option<Vec<(String, String)>> = None;
    loop {
        let mut all = said(runs::find(&ls.runs));
        let mut ended = Vec::new();
        for (id, text) in before.iter().flatten() {
            if !all.iter().any(|(other, _)| other == id) {
                match runs::has_ended(id) {
                    true => ended.push(id.clone()),
                    // It has not answered in time.
                    false => all.push((id.clone(), text.clone())),
                }
            }
        }
        all.sort();
        if before.as_ref() != Some(&all) {
            if before.is_some() {
                separate(ls)?;
            }
            let mut text = String::new();
            if ls.json {
                let time_ns = sys::realtime().as_nanos() as u64;
                for id in &ended {
                    // Writing to a string does not fail.
                    let _ = json_ended(&mut text, id, time_ns);
                }
            }
            print(&(text + &listing(ls, &all)))?;
            let _ = std::io::stdout().flush();
            before = Some(all);
        }
        std::thread::sleep(TURN);
    }
}

/// Before one more list.
fn separate(ls: &Ls) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    let between = match (ls.json, out.is_terminal()) {
        (true, _) => "",
        (_, true) => "\x1b[H\x1b[2J",
        (_, false) => "\n",
    };
    out.write_all(between.as_bytes())
        .map_err(|e| Failure::new(exit::SYSTEM, "standard output", e))
}

/// All runs, by what they said.
fn listing(ls: &Ls, all: &[(String, String)]) -> String {
    let mut text = String::new();
    for (_, said) in all {
        if ls.json {
            text += said;
        } else if let Ok(value) = serde_json::from_str(said) {
            match ls.url {
                true => urls(&mut text, &value),
                false => describe(&mut text, &value),
            }
        }
    }
    text
}

/// What each run says that answers, with its id. Many are asked at once: anybody can
/// take a name like a run's and keep silent.
fn said(runs: Vec<runs::Found>) -> Vec<(String, String)> {
    const AT_ONCE: usize = 64;
    let mut said = Vec::new();
    for some in runs.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|run| scope.spawn(|| run.list())).collect();
            for (run, asked) in some.iter().zip(asked) {
                if let Ok(Some(text)) = asked.join() {
                    said.push((run.id.clone(), text));
                }
            }
        });
    }
    said
}

/// A run as people read it.
fn describe(text: &mut String, run: &Value) {
    let word = |name: &str| run[name].as_str().unwrap_or("-").to_owned();
    let network = match run["isolate"].as_str() {
        Some(isolate) => format!("  isolate={isolate}"),
        None => String::new(),
    };
    let command: Vec<_> = run["command"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|w| Some(quoted(w.as_str()?)))
        .collect();
    let processes = match run["processes"].as_u64() {
        Some(1) => "1 process".to_owned(),
        n => format!("{} processes", n.unwrap_or(0)),
    };
    let since = clock(run["since"].as_str());
    let _ = writeln!(
        text,
        "run {}{network}  since {since}  {processes}  {}",
        word("run"),
        shortened(&command.join(" "))
    );
    for published in run["published"].as_array().into_iter().flatten() {
        let word = |name: &str| published[name].as_str().unwrap_or("-");
        let addresses = published["addresses"].as_array().into_iter().flatten();
        let addresses: Vec<_> = addresses.filter_map(Value::as_str).collect();
        let _ = writeln!(
            text,
            "  published: {} port {} at {}",
            word("kind"),
            published["port"],
            addresses.join(" and ")
        );
    }
    let sockets = run["sockets"].as_array().map_or(&[][..], Vec::as_slice);
    if sockets.is_empty() {
        text.push_str("  nothing is bound\n");
        return;
    }
    let heads = [
        "KIND",
        "ADDRESS",
        "REALLY AT",
        "STATE",
        "PIDS",
        "PROGRAM",
        "SINCE",
        "RULE",
        "OPTIONS",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(sockets.iter().map(row));
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    for row in &rows {
        let mut line = String::from(" ");
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, " {cell:width$} ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// What of a run a browser can be sent to.
fn urls(text: &mut String, run: &Value) {
    let id = run["run"].as_str().unwrap_or("-");
    let sockets = run["sockets"].as_array().into_iter().flatten();
    for socket in sockets.filter(|socket| socket["state"] == "listening") {
        let is_tcp = matches!(socket["kind"].as_str(), Some("tcp" | "mptcp"));
        let place = socket["outside"][0].as_str().filter(|_| is_tcp);
        let Some(place) = place.and_then(|at| at.parse().ok()) else {
            continue;
        };
        let options = socket["options"].as_array().into_iter().flatten();
        let v6only = options.into_iter().any(|option| option == "v6only");
        let program = program(socket);
        let _ = writeln!(text, "http://{}/  {id}  {program}", called(place, v6only));
    }
}

/// Where a client of this machine calls a server that is bound there.
fn called(at: SocketAddr, v6only: bool) -> SocketAddr {
    match at.ip() {
        IpAddr::V6(ip) if ip.is_unspecified() && v6only => (Ipv6Addr::LOCALHOST, at.port()).into(),
        ip if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, at.port()).into(),
        _ => at,
    }
}

/// The name of the program that bound a socket.
fn program(socket: &Value) -> String {
    let path = socket["program"].as_str().unwrap_or("-");
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// A socket.
fn row(socket: &Value) -> [String; 9] {
    let word = |name: &str| socket[name].as_str().unwrap_or("-").to_owned();
    let list = |name: &str, between: &str| -> String {
        let all = socket[name].as_array().into_iter().flatten();
        let all: Vec<String> = all
            .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
            .collect();
        if all.is_empty() {
            "-".into()
        } else {
            all.join(between)
        }
    };
    let really = match socket["real"] == socket["address"] {
        true => "-".into(),
        false => word("real"),
    };
    let rule = match (
        socket["rule"]["number"].as_u64(),
        socket["recorded"].as_bool(),
    ) {
        (Some(0), _) => "default".into(),
        (Some(number), _) => number.to_string(),
        (None, Some(false)) => "not recorded".into(),
        (None, _) => "-".into(),
    };
    let program = program(socket);
    [
        word("kind"),
        word("address"),
        really,
        word("state"),
        list("pids", ","),
        program,
        clock(socket["since"].as_str()),
        rule,
        list("options", " "),
    ]
}

/// A time as it is here, of another day with its date.
fn clock(stamp: Option<&str>) -> String {
    let Some(seconds) = stamp.and_then(seconds) else {
        return "-".into();
    };
    let ns = |seconds: u64| seconds.saturating_mul(1_000_000_000);
    let offset = sys::utc_offset(seconds.cast_signed());
    let at = civil(ns(seconds), offset);
    let now = civil(sys::realtime().as_nanos() as u64, offset);
    let time = format!("{:02}:{:02}:{:02}", at.hour, at.minute, at.second);
    match (at.year, at.month, at.day) == (now.year, now.month, now.day) {
        true => time,
        false => format!("{:04}-{:02}-{:02} {time}", at.year, at.month, at.day),
    }
}

/// Seconds since the epoch, of RFC 3339 in UTC.
fn seconds(stamp: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| stamp.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    // Days since the epoch, with years that begin in March.
    let (y, m) = match month {
        1 | 2 => (year.checked_sub(1)?, month + 9),
        _ => (year, month.checked_sub(3)?),
    };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day;
    Some(((days.checked_sub(719_469)? * 24 + hour) * 60 + minute) * 60 + second)
}

/// As much of a command as fits on a line.
fn shortened(command: &str) -> String {
    const MOST: usize = 80;
    match command.char_indices().nth(MOST) {
        Some((end, _)) => command.get(..end).unwrap_or_default().to_owned() + "…",
        None => command.to_owned(),
    }
}

/// A word as a shell would take it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read() {
        assert_eq!(seconds("1970-01-01T00:00:00.000000Z"), Some(0));
        assert_eq!(seconds("2024-02-29T12:00:01.5Z"), Some(1_709_208_001));
        assert_eq!(seconds("2026-11-30T14:44:33.858360Z"), Some(1_796_049_873));
        assert_eq!(seconds("yesterday"), None);
    }

    #[test]
    fn addresses_for_a_browser() {
        let socket = |at: &[&str], kind: &str, options: &[&str]| {
            serde_json::json!({"kind": kind, "state": "listening", "outside": at,
                "program": "/bin/x", "options": options})
        };
        let sockets = [
            socket(&["127.0.0.1:18080", "[::1]:18080"], "tcp", &[]),
            socket(&["0.0.0.0:80"], "tcp", &[]),
            socket(&["[::]:81"], "tcp", &["v6only"]),
            socket(&["[::]:82"], "tcp", &[]),
            socket(&["192.0.2.1:83"], "mptcp", &[]),
            socket(&["127.0.0.1:53"], "udp", &[]),
            socket(&[], "tcp", &[]),
        ];
        let mut text = String::new();
        urls(
            &mut text,
            &serde_json::json!({"run": "00ab", "sockets": sockets}),
        );
        assert_eq!(
            text,
            "http://127.0.0.1:18080/  00ab  x\n\
             http://127.0.0.1:80/  00ab  x\n\
             http://[::1]:81/  00ab  x\n\
             http://127.0.0.1:82/  00ab  x\n\
             http://192.0.2.1:83/  00ab  x\n"
        );
    }

    #[test]
    fn a_run_is_described() {
        let mut text = String::new();
        let socket = serde_json::json!({"kind": "tcp", "address": "0.0.0.0:80",
            "real": "127.0.0.1:8080", "state": "listening", "pids": [5, 6],
            "program": "/bin/x", "rule": {"number": 1}, "since": null,
            "options": ["reuseaddr", "v6only"], "recorded": true});
        let run = serde_json::json!({"run": "00ab", "isolate": "sealed", "since": null,
            "processes": 2, "command": ["sh", "-c", "a b"], "sockets": [socket]});
        describe(&mut text, &run);
        assert_eq!(
            text,
            "run 00ab  isolate=sealed  since -  2 processes  sh -c 'a b'\n  \
             KIND  ADDRESS     REALLY AT       STATE      PIDS  PROGRAM  SINCE  RULE  OPTIONS\n  \
             tcp   0.0.0.0:80  127.0.0.1:8080  listening  5,6   x        -      1     reuseaddr v6only\n"
        );
    }
}
