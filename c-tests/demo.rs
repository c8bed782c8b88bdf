//! The three servers that a reader of the README starts with: each works
//! under the right rules where it did not, and is refused cleanly where it
//! should be.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;

use libtest_mimic::{Failed, Trial};

use support::{
    self, Below, NOBODY, Patience, Run, Way, compile, has_nobody, in_net, same, skipped,
};

const BOTH: [Way; 2] = [Way::Preload, Way::Run];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |name: &str, test: fn() -> Result<(), Failed>| {
        trials.push(if name.ends_with("reserved port") && !has_nobody() {
            skipped(name, "needs root, to become another user")
        } else {
            Trial::test(name, test)
        });
    };
    add("udp_echo_server::same", || {
        echo_same("udp_echo_server", udp_client)
    });
    add("udp_echo_server::move", || {
        echo_moved("udp_echo_server", "udp", udp_client)
    });
    add("udp_echo_server::reserved port", || {
        echo_reserved("udp_echo_server", "udp", udp_client)
    });
    add("udp_echo_server::deny", || {
        echo_denied("udp_echo_server", "udp")
    });
    add("tcp_echo_server::same", || {
        echo_same("tcp_echo_server", tcp_client)
    });
    add("tcp_echo_server::move", || {
        echo_moved("tcp_echo_server", "tcp", tcp_client)
    });
    add("tcp_echo_server::reserved port", || {
        echo_reserved("tcp_echo_server", "tcp", tcp_client)
    });
    add("tcp_echo_server::deny", || {
        echo_denied("tcp_echo_server", "tcp")
    });
    add("tcp_echo_server::unix", tcp_unix);
    add("vsock_listener::same", vsock_same);
    add("vsock_listener::unix", vsock_unix);
    let denied = Trial::test("vsock_listener::deny", vsock_denied);
    let reason = "what no rule moves is made by the kernel, or refused by the filter";
    trials.push(support::outside(denied, reason));
    trials
}

type Client = fn(u16) -> Result<String, String>;

fn udp_client(port: u16) -> Result<String, String> {
    let talk = || -> std::io::Result<String> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Patience::time()))?;
        socket.connect(("127.0.0.1", port))?;
        let mut all = String::new();
        for word in ["one", "two", ""] {
            let mut buffer = [0; 100];
            socket.send(word.as_bytes())?;
            let n = socket.recv(&mut buffer)?;
            all += &format!("{:?} ", String::from_utf8_lossy(&buffer[..n]));
        }
        Ok(all)
    };
    talk().map_err(|e| format!("client: {e}"))
}

fn tcp_client(port: u16) -> Result<String, String> {
    let talk = || -> std::io::Result<String> {
        let mut first = TcpStream::connect(("127.0.0.1", port))?;
        let mut second = TcpStream::connect(("127.0.0.1", port))?;
        Ok(exchange(&mut second)? + &exchange(&mut first)?)
    };
    talk().map_err(|e| format!("client: {e}"))
}

fn exchange(stream: &mut (impl Read + Write + End)) -> std::io::Result<String> {
    let mut text = String::new();
    stream.write_all(b"hello\nworld\n")?;
    stream.end()?;
    stream.read_to_string(&mut text)?;
    Ok(text)
}

trait End {
    fn end(&self) -> std::io::Result<()>;
}

impl End for TcpStream {
    fn end(&self) -> std::io::Result<()> {
        self.set_read_timeout(Some(Patience::time()))?;
        self.shutdown(Shutdown::Write)
    }
}

impl End for UnixStream {
    fn end(&self) -> std::io::Result<()> {
        self.set_read_timeout(Some(Patience::time()))?;
        self.shutdown(Shutdown::Write)
    }
}

/// Starts the server, talks to it, ends it; everything seen, as one text.
fn served(run: &Run, client: impl Fn() -> Result<String, String> + Sync) -> Result<String, String> {
    in_net(|| {
        let mut process = run.spawn();
        process.says("listening")?;
        let answer = client()?;
        process.signal(libc::SIGTERM);
        Ok(format!("client: {answer}\n{}", process.wait().seen()))
    })
}

fn echo_same(program: &str, client: Client) -> Result<(), Failed> {
    let run = || Ok::<_, String>(Run::new(compile(program, &[])?).arg("7007"));
    let plain = served(&run()?, || client(7007))?;
    for way in BOTH {
        let run = run()?.way(way);
        let run = if way == Way::Run { run.logged() } else { run };
        same(&plain, &served(&run, || client(7007))?, &format!("{way:?}"))?;
    }
    Ok(())
}

fn echo_moved(program: &str, kind: &str, client: Client) -> Result<(), Failed> {
    let run = || Ok::<_, String>(Run::new(compile(program, &[])?).arg("7007"));
    let plain = served(&run()?, || client(7007))?;
    for way in BOTH {
        let run = run()?
            .way(way)
            .rule(&format!("move bind {kind} *:7007 to loopback:17007"));
        let run = run.logged();
        let moved = served(&run, || client(17007))?;
        same(&plain, &moved, &format!("{way:?}"))?;
    }
    Ok(())
}

/// A server without privilege gets "port 7".
fn echo_reserved(program: &str, kind: &str, client: Client) -> Result<(), Failed> {
    let run = || Ok::<_, String>(Run::new(compile(program, &[])?).arg("7").user(NOBODY));
    let plain = run()?.finish();
    same(
        "stderr| bind: Permission denied\nexit 1\n",
        &plain.seen(),
        "plain",
    )?;
    for way in BOTH {
        let run = run()?
            .way(way)
            .rule(&format!("move bind {kind} *:reserved to *:+10000"));
        served(&run.logged(), || client(10007))?;
    }
    Ok(())
}

fn echo_denied(program: &str, kind: &str) -> Result<(), Failed> {
    for way in BOTH {
        for (errno, words) in [
            ("", "Permission denied"),
            (" with EADDRINUSE", "Address already in use"),
            (" with EPERM", "Operation not permitted"),
        ] {
            let rule = format!("deny bind {kind} *:7007{errno}");
            let run = Run::new(compile(program, &[])?)
                .arg("7007")
                .way(way)
                .rule(&rule)
                .logged();
            let expected = format!("stderr| bind: {words}\nexit 1\n");
            same(&expected, &run.finish().seen(), &format!("{way:?}, {rule}"))?;
        }
    }
    Ok(())
}

fn tcp_unix() -> Result<(), Failed> {
    for way in BOTH {
        let run = Run::new(compile("tcp_echo_server", &[])?)
            .arg("7007")
            .way(way)
            .logged();
        let run = run.rule("move bind tcp *:7007 to unix:$DIR/echo.sock");
        let seen = served(&run, || unix_client(&run, "echo.sock"))?;
        let expected = "client: hello\nworld\n\nstdout| listening on TCP port 7007\nsignal 15\n";
        same(expected, &seen, &format!("{way:?}"))?;
    }
    Ok(())
}

fn unix_client(run: &Run, name: &str) -> Result<String, String> {
    UnixStream::connect(run.dir().join(name))
        .and_then(|mut stream| exchange(&mut stream))
        .map_err(|e| format!("client: {e}"))
}

/// Where this machine is no virtual machine's host, it cannot bind; where it
/// is, it listens. The same with bindgate either way.
fn vsock_same() -> Result<(), Failed> {
    let seen = |way| {
        let run = Run::new(compile("vsock_listener", &[])?).way(way);
        let run = if way == Way::Run { run.logged() } else { run };
        in_net(|| {
            let mut process = run.spawn();
            let _ = process.says("listening");
            process.signal(libc::SIGTERM);
            Ok::<_, String>(process.wait().seen())
        })
    };
    let plain = seen(Way::Plain)?;
    for way in BOTH {
        same(&plain, &seen(way)?, &format!("{way:?}"))?;
    }
    Ok(())
}

/// Below a filter the launcher is needed: without it the library cannot know
/// whose filter it is.
fn vsock_unix() -> Result<(), Failed> {
    let scenes = [
        (Way::Preload, None),
        (Way::Run, None),
        (Way::Run, Some(Below::Docker)),
        (Way::Run, Some(Below::NoVsock)),
    ];
    let users = [0, NOBODY].into_iter().filter(|u| *u == 0 || has_nobody());
    let scenes = users.flat_map(|user| scenes.map(|(way, below)| (user, way, below)));
    for (user, way, below) in scenes {
        let run = Run::new(compile("vsock_listener", &[])?).way(way).logged();
        let run = match below {
            None => run,
            below => run.below(below),
        };
        let run = run
            .user(user)
            .rule("move bind vsock *:9999 to unix:$DIR/vsock.sock");
        let seen = served(&run, || {
            Ok(unix_client(&run, "vsock.sock")? + &unix_client(&run, "vsock.sock")?)
        })?;
        let expected = "client: hello\nworld\nhello\nworld\n\n\
                        stdout| listening on vsock port 9999\nsignal 15\n";
        same(
            expected,
            &seen,
            &format!("{way:?} as user {user}, {below:?}"),
        )?;
    }
    Ok(())
}

fn vsock_denied() -> Result<(), Failed> {
    for way in BOTH {
        let run = Run::new(compile("vsock_listener", &[])?).way(way).logged();
        let outcome = run.rule("deny bind vsock *:9999").finish();
        let expected = "stderr| bind: Permission denied\nexit 1\n";
        same(expected, &outcome.seen(), &format!("{way:?}"))?;
    }
    Ok(())
}
