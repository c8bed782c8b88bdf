//! What every server goes through.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Failed, Trial};

use support::{Process, Run, Way, has_nobody, in_net_and_mounts, same, skipped, until, which};

/// Where the client finds the server.
#[derive(Clone)]
pub enum Place {
    /// A port of the loopback address.
    Port(u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A server and its client.
#[derive(Clone)]
pub struct Server {
    pub name: &'static str,
    /// Programs without which the test cannot run.
    pub needs: &'static [&'static str],
    /// The TCP port that it binds, by itself.
    pub port: u16,
    /// Prepares the files that it needs and says how it is started. Runs in
    /// the server's mounts.
    pub prepare: fn() -> Run,
    /// Has it come up?
    pub ready: fn(&Run, &mut Process) -> bool,
    /// The client; what it got.
    pub client: fn(&Run, &Place) -> Result<String, String>,
    /// Has it dealt with the client?
    pub done: fn(&mut Process) -> bool,
    /// The signal that ends it.
    pub end: i32,
    /// Rules that move it to Unix sockets; the first is for the client.
    pub to_unix: &'static [(&'static str, &'static str)],
}

/// One of the conditions.
#[derive(Clone, Copy, PartialEq)]
enum Condition {
    Preload,
    Observe,
    Move,
    Deny,
    Hide,
    Unix,
}

/// The distance by which a moved port is moved.
const AWAY: u16 = 10000;

impl Server {
    /// The tests that every server has.
    pub fn trials(&self) -> Vec<Trial> {
        use Condition::{Deny, Hide, Move, Observe, Preload, Unix};
        if let Some(reason) = self.missing() {
            return vec![skipped(self.name, &reason)];
        }
        let plain = Arc::new(OnceLock::new());
        [
            ("preload", Preload),
            ("observe", Observe),
            ("move", Move),
            ("deny", Deny),
            ("hide", Hide),
            ("unix", Unix),
        ]
        .into_iter()
        .map(|(name, condition)| {
            let (server, plain) = (self.clone(), Arc::clone(&plain));
            Trial::test(format!("{}::{name}", self.name), move || {
                server.under(condition, &plain)
            })
        })
        .collect()
    }

    /// Why it cannot run here.
    pub fn missing(&self) -> Option<String> {
        let missing = self.needs.iter().find(|program| which(program).is_none());
        match missing {
            Some(program) => Some(format!("{program} is not installed")),
            None if !has_nobody() => Some("needs root".into()),
            None => None,
        }
    }

    fn under(
        &self,
        condition: Condition,
        plain: &OnceLock<Result<Seen, String>>,
    ) -> Result<(), Failed> {
        let here = Place::Port(self.port);
        let served = || {
            plain
                .get_or_init(|| self.serve(Way::Plain, &[], &here))
                .clone()
        };
        match condition {
            Condition::Preload => served()?.is_same(&self.serve(Way::Preload, &[], &here)?)?,
            Condition::Observe => served()?.is_same(&self.serve(Way::Observe, &[], &here)?)?,
            Condition::Move => {
                let there = self.port + AWAY;
                let rule = format!("move bind tcp *:{} to loopback:{there}", self.port);
                let moved = self.serve(Way::Run, &[&rule], &Place::Port(there))?;
                served()?.moved(self.port, there).is_same(&moved)?;
            }
            Condition::Unix => {
                let rules: Vec<String> = self
                    .to_unix
                    .iter()
                    .map(|(term, path)| format!("move bind tcp {term} to unix:$DIR/{path}"))
                    .collect();
                let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
                let path = Place::Unix(self.to_unix[0].1.into());
                let moved = self.serve(Way::Run, &rules, &path)?;
                served()?.without(self.port).is_same(&moved)?;
            }
            Condition::Deny => {
                let rule = format!("deny bind tcp *:{} with EADDRINUSE", self.port);
                let busy = self.fail(Way::Plain, &[], true);
                let denied = self.fail(Way::Run, &[&rule], false);
                same(&busy, &denied, "refused as on a busy port")?;
            }
            Condition::Hide => {
                let rule = format!("hide bind tcp *:{}", self.port);
                let alone = self.alone(Way::Plain, &[])?;
                let hidden = self.alone(Way::Run, &[&rule])?;
                alone.without(self.port).is_same(&hidden)?;
            }
        }
        Ok(())
    }

    /// Starts it, in mounts and a network of the calling thread.
    pub fn start(&self, way: Way, rules: &[&str]) -> Result<(Run, Process), String> {
        let run = (self.prepare)().way(way).rules(rules);
        let run = if way == Way::Plain || way == Way::Preload {
            run
        } else {
            run.logged()
        };
        let mut process = run.spawn();
        let up = until(&format!("{} is ready", self.name), || {
            let ended = process.ended();
            let ready = (self.ready)(&run, &mut process);
            (ready || ended).then_some(ready && !ended)
        })?;
        if up {
            Ok((run, process))
        } else {
            Err(format!("it ended:\n{}", process.wait().seen()))
        }
    }

    /// Its life with a client.
    fn serve(&self, way: Way, rules: &[&str], place: &Place) -> Result<Seen, String> {
        in_net_and_mounts(|| {
            let (run, mut process) = self.start(way, rules)?;
            let place = place.in_dir(run.dir());
            let client = (self.client)(&run, &place)?;
            until("the client is dealt with", || {
                (self.done)(&mut process).then_some(())
            })?;
            let ports = ports();
            process.signal(self.end);
            Ok(Seen {
                client,
                ports,
                outcome: mask(&process.wait().seen()),
            })
        })
    }

    /// Its life without a client, who must be turned away.
    fn alone(&self, way: Way, rules: &[&str]) -> Result<Seen, String> {
        in_net_and_mounts(|| {
            let (_, process) = self.start(way, rules)?;
            let mut ports = ports();
            if way != Way::Plain {
                for host in ["127.0.0.1", "[::1]"] {
                    if TcpStream::connect(format!("{host}:{}", self.port)).is_ok() {
                        return Err(format!("{host}:{} can be reached:\n{ports}", self.port));
                    }
                }
                // Where it really is, is nobody's business, but for its name.
                ports = ports
                    .lines()
                    .filter(|l| !l.contains("[::1]") && !l.contains("127."))
                    .map(|l| format!("{l}\n"))
                    .collect();
            }
            process.signal(self.end);
            Ok(Seen {
                client: String::new(),
                ports,
                outcome: mask(&process.wait().seen()),
            })
        })
    }

    /// Its end where it cannot bind.
    fn fail(&self, way: Way, rules: &[&str], busy: bool) -> String {
        in_net_and_mounts(|| {
            let _holder = busy.then(|| TcpListener::bind(("::", self.port)).unwrap());
            let run = (self.prepare)().way(way).rules(rules);
            let run = if way == Way::Plain { run } else { run.logged() };
            mask(&run.spawn().wait().seen())
        })
    }
}

impl Place {
    fn in_dir(&self, dir: &Path) -> Place {
        match self {
            Place::Port(port) => Place::Port(*port),
            Place::Unix(path) => Place::Unix(dir.join(path)),
        }
    }
}

/// What there is to see of a server's life.
#[derive(Clone)]
pub struct Seen {
    pub client: String,
    pub ports: String,
    pub outcome: String,
}

impl Seen {
    fn text(&self) -> String {
        format!(
            "client:\n{}\nports:\n{}\nserver:\n{}",
            self.client, self.ports, self.outcome
        )
    }

    fn is_same(&self, seen: &Seen) -> Result<(), String> {
        same(&self.text(), &seen.text(), "with and without bindgate")
    }

    /// As if its port had been moved to the loopback address.
    fn moved(&self, port: u16, there: u16) -> Seen {
        let mut ports = self.ports.clone();
        for (from, to) in [
            ("0.0.0.0", "127.0.0.1"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::]", "[::1]"),
            ("[::1]", "[::1]"),
            // Of a socket for both families, which keeps them.
            ("*", "*%lo"),
        ] {
            ports = ports.replace(&format!(" {from}:{port} "), &format!(" {to}:{there} "));
        }
        Seen {
            ports,
            ..self.clone()
        }
    }

    /// As if nobody listened on its port.
    fn without(&self, port: u16) -> Seen {
        let port = format!(":{port} ");
        let lines = self.ports.lines().filter(|line| !line.contains(&port));
        Seen {
            ports: lines.map(|l| format!("{l}\n")).collect(),
            ..self.clone()
        }
    }
}

/// Everything that listens in this network namespace, without numbers that
/// differ from run to run.
pub fn ports() -> String {
    let output = Command::new("ss").arg("-Hlntup").output().expect("ss");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let mut names: Vec<&str> = line
                .split("(\"")
                .skip(1)
                .filter_map(|rest| rest.split('"').next())
                .collect();
            names.dedup();
            let [kind, state, _, backlog, local, ..] = words[..] else {
                return line.to_owned();
            };
            format!("{kind} {state} {backlog} {local} {}\n", names.join(","))
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// Numbers differ from run to run: process ids, times, a client's port.
fn mask(text: &str) -> String {
    let mut masked = String::new();
    for c in text.chars() {
        if !c.is_ascii_digit() {
            masked.push(c);
        } else if !masked.ends_with('#') {
            masked.push('#');
        }
    }
    // The status stays as it is.
    match (masked.rfind(" #\n"), text.trim_end().rfind(' ')) {
        (Some(at), Some(from)) => format!("{}{}", &masked[..at], &text[from..]),
        _ => masked,
    }
}

/// A client program's stdout; an error if it fails.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!("{command:?}: {}\n{text}{errors}", output.status))
    }
}

/// A page of a web server: its status, its headers but for the date, its body.
pub fn get(place: &Place, path: &str) -> Result<String, String> {
    let mut curl = Command::new("curl");
    curl.args(["-sSi", "--max-time", "60", "-H", "Host: test"]);
    match place {
        Place::Port(port) => curl.arg(format!("http://localhost:{port}{path}")),
        Place::Unix(socket) => curl
            .arg("--unix-socket")
            .arg(socket)
            .arg(format!("http://localhost{path}")),
    };
    let page = output(&mut curl)?;
    Ok(page
        .lines()
        .filter(|l| !l.starts_with("Date:"))
        .map(|l| format!("{l}\n"))
        .collect())
}
