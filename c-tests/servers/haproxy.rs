//! haproxy with Debian's configuration and one front end, and the hand-over
//! of its sockets to a successor.

use std::fs;
use std::os::unix::net::UnixStream;

use libtest_mimic::{Failed, Trial};

use crate::scene::{Place, Server, get, ports};
use support::{Run, Way, in_net_and_mounts, mount_tmpfs, same, until};

const FRONT_END: &str = "
global
    stats socket /run/haproxy/sockets.sock mode 600 level admin expose-fd listeners
listen test
    bind *:8404
    mode http
    http-request return status 200 content-type text/plain string hello
";

const HAPROXY: Server = Server {
    name: "haproxy",
    needs: &["haproxy", "curl", "ss"],
    port: 8404,
    prepare: || {
        mount_tmpfs("/run");
        fs::create_dir("/run/haproxy").unwrap();
        one_more()
    },
    ready: |_, _| UnixStream::connect("/run/haproxy/sockets.sock").is_ok(),
    client: |_, place| get(place, "/"),
    done: |_| true,
    end: libc::SIGUSR1,
    to_unix: &[("*:8404", "web.sock")],
};

pub fn trials() -> Vec<Trial> {
    let mut trials = HAPROXY.trials();
    if HAPROXY.missing().is_none() {
        trials.push(Trial::test("haproxy::hand-over, observe", || {
            hand_over(Way::Observe, &[], Place::Port(8404))
        }));
        trials.push(Trial::test("haproxy::hand-over, move", || {
            let rule = "move bind tcp *:8404 to loopback:18404";
            hand_over(Way::Run, &[rule], Place::Port(18404))
        }));
        trials.push(Trial::test("haproxy::hand-over, within one run", || {
            within_one_run("move bind tcp *:8404 to loopback:18404", Place::Port(18404))
        }));
    }
    trials
}

fn one_more() -> Run {
    let run = Run::new("haproxy").args(["-db", "-f", "/etc/haproxy/haproxy.cfg", "-f"]);
    let file = run.dir().join("front.cfg");
    fs::write(&file, FRONT_END).unwrap();
    run.arg(file)
}

/// A successor in a run of its own takes over the sockets and tells its
/// predecessor to finish.
fn hand_over(way: Way, rules: &[&str], place: Place) -> Result<(), Failed> {
    in_net_and_mounts(|| {
        let (_, first) = HAPROXY.start(way, rules)?;
        let (page, open) = (get(&place, "/")?, ports());
        let old = until("the first", || haproxy_below(first.pid()))?;
        let second = one_more()
            .args(["-x", "/run/haproxy/sockets.sock", "-sf", &old.to_string()])
            .way(way)
            .rules(rules)
            .logged()
            .spawn();
        let ended = first.wait();
        same("exit 0", &ended.status, &ended.seen())?;
        same(&page, &get(&place, "/")?, "the page of the second")?;
        same(&open, &ports(), "the ports of the second")?;
        second.signal(libc::SIGUSR1);
        let ended = second.wait();
        same("exit 0", &ended.status, &ended.seen())?;
        Ok(())
    })
}

/// The same under one launcher.
fn within_one_run(rule: &str, place: Place) -> Result<(), Failed> {
    in_net_and_mounts(|| {
        mount_tmpfs("/run");
        fs::create_dir("/run/haproxy")?;
        let run = Run::new("sh").way(Way::Run).rule(rule).logged();
        fs::write(run.dir().join("front.cfg"), FRONT_END)?;
        let script = "
            haproxy='haproxy -db -f /etc/haproxy/haproxy.cfg -f front.cfg'
            $haproxy & first=$!
            while ! [ -e go ]; do sleep 0.05; done
            $haproxy -x /run/haproxy/sockets.sock -sf $first & second=$!
            wait $first; echo first $?
            trap 'kill -USR1 $second' TERM
            echo second >says
            wait $second; wait $second; echo second $?";
        let run = run.arg("-c").arg(script);
        let process = run.spawn();
        until("the first answers", || get(&place, "/").ok())?;
        let (page, open) = (get(&place, "/")?, ports());
        fs::write(run.dir().join("go"), "")?;
        until("the second is alone", || {
            run.dir().join("says").exists().then_some(())
        })?;
        same(&page, &get(&place, "/")?, "the page of the second")?;
        same(&open, &ports(), "the ports of the second")?;
        process.signal(libc::SIGTERM);
        let ended = process.wait();
        same("first 0\nsecond 0\n", &ended.stdout, &ended.seen())?;
        Ok(())
    })
}

/// The process itself or its child that is haproxy.
fn haproxy_below(pid: u32) -> Option<u32> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    if name.trim() == "haproxy" {
        return Some(pid);
    }
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .find_map(haproxy_below)
}
