//! redis with Debian's configuration, which binds `127.0.0.1` and `::1`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use libtest_mimic::Trial;

use crate::scene::{Place, Server};
use support::{Run, mount_tmpfs};

const REDIS: Server = Server {
    name: "redis",
    needs: &["redis-server", "ss"],
    port: 6379,
    prepare: || {
        for dir in ["/run/redis", "/var/log/redis", "/var/lib/redis"] {
            mount_tmpfs(dir);
        }
        // As its unit does, but for the supervisor.
        Run::new("redis-server").args(["/etc/redis/redis.conf", "--daemonize", "no"])
    },
    ready: |_, _| {
        fs::read_to_string("/var/log/redis/redis-server.log")
            .is_ok_and(|log| log.contains("Ready to accept connections"))
    },
    client: |_, place| talk(place).map_err(|e| format!("client: {e}")),
    done: |_| true,
    end: libc::SIGTERM,
    to_unix: &[
        ("127.0.0.1:6379", "redis.sock"),
        ("[::1]:6379", "redis6.sock"),
    ],
};

pub fn trials() -> Vec<Trial> {
    REDIS.trials()
}

fn talk(place: &Place) -> std::io::Result<String> {
    match place {
        Place::Port(port) => conversation(TcpStream::connect(("127.0.0.1", *port))?),
        Place::Unix(path) => conversation(UnixStream::connect(path)?),
    }
}

fn conversation(mut stream: impl Read + Write) -> std::io::Result<String> {
    let commands = "SET key value\r\nGET key\r\nINCR n\r\nNOSUCH\r\nPING\r\nQUIT\r\n";
    stream.write_all(commands.as_bytes())?;
    let mut answers = String::new();
    stream.read_to_string(&mut answers)?;
    Ok(answers)
}
