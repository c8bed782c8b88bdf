//! socat, a process for each client.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

use libtest_mimic::Trial;

use crate::scene::{Place, Server};
use support::Run;

const SOCAT: Server = Server {
    name: "socat",
    needs: &["socat", "ss"],
    port: 7000,
    prepare: || {
        let run = Run::new("socat").args(["-d", "-d", "-lf", "messages"]);
        run.args(["TCP4-LISTEN:7000,fork,reuseaddr", "EXEC:cat"])
    },
    ready: |run, _| {
        let messages = fs::read_to_string(run.dir().join("messages"));
        messages.is_ok_and(|text| text.contains("listening on"))
    },
    client: |_, place| {
        let talk = || match place {
            Place::Port(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))?;
                exchange(&stream, &stream, || stream.shutdown(Shutdown::Write))
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                exchange(&stream, &stream, || stream.shutdown(Shutdown::Write))
            }
        };
        talk().map_err(|e: std::io::Error| format!("client: {e}"))
    },
    done: |_| true,
    end: libc::SIGTERM,
    to_unix: &[("*:7000", "echo.sock")],
};

pub fn trials() -> Vec<Trial> {
    SOCAT.trials()
}

fn exchange(
    mut from: impl Read,
    mut to: impl Write,
    end: impl Fn() -> std::io::Result<()>,
) -> std::io::Result<String> {
    to.write_all(b"hello\n")?;
    end()?;
    let mut text = String::new();
    from.read_to_string(&mut text)?;
    Ok(text)
}
