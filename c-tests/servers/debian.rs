//! Servers as Debian ships them, which listen on both families in each of the
//! ways that there are: one socket for both, one for each, one for each
//! loopback address. One rule moves them to loopback, and nobody loses a
//! client.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};

use crate::scene::output;
use support::{
    Patience, Process, Run, Way, has_nobody, in_net_and_mounts, mount_tmpfs, same, skipped, until,
    which,
};

/// A server, and how it is called.
#[derive(Clone, Copy)]
struct Server {
    name: &'static str,
    program: &'static str,
    /// The TCP port that it binds in its distribution's configuration.
    port: u16,
    /// Makes the directories that it needs, in mounts of its own.
    prepare: fn(Run) -> Run,
    /// What a client says first; nothing where the server speaks first.
    request: &'static str,
    /// The signal that ends it at once.
    end: i32,
}

const HTTP: &str = "GET / HTTP/1.0\r\n\r\n";

const SERVERS: [Server; 7] = [
    Server {
        name: "apache2",
        program: "/usr/sbin/apache2",
        port: 80,
        prepare: |run| {
            mounts(&["/var/log/apache2"]);
            fs::create_dir_all("/run/apache2").unwrap();
            fs::create_dir_all("/run/lock/apache2").unwrap();
            run.args(["-D", "FOREGROUND"])
                .env("APACHE_RUN_USER", "www-data")
                .env("APACHE_RUN_GROUP", "www-data")
                .env("APACHE_PID_FILE", "/run/apache2/apache2.pid")
                .env("APACHE_RUN_DIR", "/run/apache2")
                .env("APACHE_LOCK_DIR", "/run/lock/apache2")
                .env("APACHE_LOG_DIR", "/var/log/apache2")
        },
        request: HTTP,
        end: libc::SIGTERM,
    },
    Server {
        name: "lighttpd",
        program: "/usr/sbin/lighttpd",
        port: 80,
        prepare: |run| {
            mounts(&["/var/log/lighttpd"]);
            give("/var/log/lighttpd", "www-data");
            run.args(["-D", "-f", "/etc/lighttpd/lighttpd.conf"])
        },
        request: HTTP,
        end: libc::SIGTERM,
    },
    Server {
        name: "dovecot",
        program: "/usr/sbin/dovecot",
        port: 143,
        prepare: |run| {
            mounts(&[]);
            run.arg("-F")
        },
        request: "",
        end: libc::SIGTERM,
    },
    Server {
        name: "squid",
        program: "/usr/sbin/squid",
        port: 3128,
        prepare: |run| {
            mounts(&["/var/log/squid"]);
            give("/var/log/squid", "proxy");
            // One process. The master starts its workers as real user `proxy`
            // and effective user root, for whom the loader drops LD_PRELOAD.
            run.arg("-N")
        },
        request: HTTP,
        end: libc::SIGINT,
    },
    Server {
        name: "exim4",
        program: "/usr/sbin/exim4",
        port: 25,
        prepare: |run| {
            mounts(&["/var/log/exim4", "/run/exim4"]);
            for dir in ["/var/log/exim4", "/run/exim4"] {
                give(dir, "Debian-exim");
            }
            run.arg("-bdf")
        },
        request: "",
        end: libc::SIGTERM,
    },
    Server {
        name: "gunicorn",
        program: "/usr/bin/gunicorn",
        port: 8000,
        prepare: |run| {
            mounts(&[]);
            let app =
                "def app(environ, start):\n    start('200 OK', [])\n    return [b'hello\\n']\n";
            fs::write(run.dir().join("app.py"), app).unwrap();
            run.args(["-b", "[::]:8000", "app:app"])
        },
        request: HTTP,
        end: libc::SIGTERM,
    },
    Server {
        name: "busybox httpd",
        program: "/usr/bin/busybox",
        port: 80,
        prepare: |run| {
            mounts(&[]);
            fs::write(run.dir().join("index.html"), "hello\n").unwrap();
            run.args(["httpd", "-f", "-p", "80", "-h", "."])
        },
        request: HTTP,
        end: libc::SIGTERM,
    },
];

/// The distance by which the port is moved.
const AWAY: u16 = 10000;

/// Addresses of this host beside the loopback ones.
const OTHERS: [&str; 2] = ["192.0.2.1", "[2001:db8::1]"];

pub fn trials() -> Vec<Trial> {
    SERVERS
        .into_iter()
        .map(|server| {
            let name = format!("{}::both families", server.name);
            if which(server.program).is_none() {
                return skipped(&name, &format!("{} is not installed", server.program));
            }
            if !has_nobody() {
                return skipped(&name, "needs root");
            }
            Trial::test(name, move || server.keeps_both_families())
        })
        .collect()
}

impl Server {
    /// Moved to loopback, it answers there as it does without bindgate, at both
    /// addresses, and at no other.
    fn keeps_both_families(&self) -> Result<(), Failed> {
        let there = self.port + AWAY;
        let rule = format!("move bind tcp *:{} to loopback:{there}", self.port);
        let plain = self.answers(Way::Plain, &[], self.port, &[])?;
        let elsewhere: Vec<String> = OTHERS
            .iter()
            .map(|host| format!("{host}:{there}"))
            .chain(
                ["127.0.0.1", "[::1]"]
                    .iter()
                    .chain(&OTHERS)
                    .map(|host| format!("{host}:{}", self.port)),
            )
            .collect();
        let moved = self.answers(Way::Run, &[&rule], there, &elsewhere)?;
        Ok(same(&plain, &moved, "with and without bindgate")?)
    }

    /// What it says at the two loopback addresses. Nobody must answer
    /// `elsewhere`.
    fn answers(
        &self,
        way: Way,
        rules: &[&str],
        port: u16,
        elsewhere: &[String],
    ) -> Result<String, String> {
        in_net_and_mounts(|| {
            second_device()?;
            let run = (self.prepare)(Run::new(self.program)).way(way).rules(rules);
            let mut process = run.spawn();
            let hosts = ["127.0.0.1", "[::1]"];
            let answers = hosts
                .iter()
                .map(|host| {
                    self.answer(&mut process, &format!("{host}:{port}"))
                        .map(|line| format!("{host}: {line}"))
                })
                .collect::<Result<String, String>>();
            let reached = elsewhere.iter().find(|at| TcpStream::connect(at).is_ok());
            process.signal(self.end);
            let seen = process.wait().seen();
            match (answers, reached) {
                (Err(e), _) => Err(format!("{e}\n{seen}")),
                (_, Some(at)) => Err(format!("somebody answers at {at}\n{seen}")),
                (Ok(answers), None) => Ok(answers),
            }
        })
    }

    /// The first line that it says at an address, without numbers that differ
    /// from run to run.
    fn answer(&self, process: &mut Process, at: &str) -> Result<String, String> {
        let at: SocketAddr = at.parse().unwrap();
        let mut last = String::new();
        let stream =
            until(
                &format!("{} listens at {at}", self.name),
                || match TcpStream::connect_timeout(&at, Duration::from_secs(5)) {
                    Ok(stream) => Some(Some(stream)),
                    Err(e) => {
                        last = e.to_string();
                        process.ended().then_some(None)
                    }
                },
            )
            .map_err(|e| format!("{e}: {last}"))?
            .ok_or_else(|| format!("it ended before it listened at {at}: {last}"))?;
        first_line(&stream, self.request)
            .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ") + "\n")
            .map_err(|e| format!("{at}: {e}"))
    }
}

fn first_line(mut stream: &TcpStream, request: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(Patience::usual()))?;
    stream.write_all(request.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// Empty directories over these, and over `/run`.
fn mounts(dirs: &[&str]) {
    mount_tmpfs("/run");
    for dir in dirs {
        fs::create_dir_all(dir).unwrap();
        mount_tmpfs(dir);
    }
}

fn give(dir: &str, user: &str) {
    let id = output(Command::new("id").args(["-u", user])).unwrap();
    chown(dir, Some(id.trim().parse().unwrap()), None).unwrap();
}

/// A device with addresses beside those of loopback.
fn second_device() -> Result<(), String> {
    for command in [
        "link add v0 type veth peer name v1",
        "addr add 192.0.2.1/24 dev v0",
        "addr add 2001:db8::1/64 dev v0 nodad",
        "link set v1 up",
        "link set v0 up",
    ] {
        output(Command::new("ip").args(command.split(' ')))?;
    }
    Ok(())
}
