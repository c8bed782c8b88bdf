//! nginx with Debian's default site, on `80` and on `[::]:80`.

use std::fs;

use libtest_mimic::{Failed, Trial};

use crate::scene::{Place, Server, get, ports};
use support::{Process, Run, Way, in_net_and_mounts, mount_tmpfs, same, until};

const NGINX: Server = Server {
    name: "nginx",
    needs: &["nginx", "curl", "ss"],
    port: 80,
    prepare: foreground,
    ready,
    client: |_, place| get(place, "/"),
    done: |_| true,
    end: libc::SIGQUIT,
    to_unix: &[("0.0.0.0:80", "web.sock"), ("exactly [::]:80", "web6.sock")],
};

const MOVE: &str = "move bind tcp *:80 to loopback:8080";

pub fn trials() -> Vec<Trial> {
    let mut trials = NGINX.trials();
    if NGINX.missing().is_none() {
        for (name, way, rules, place) in [
            ("observe", Way::Observe, &[][..], Place::Port(80)),
            ("move", Way::Run, &[MOVE], Place::Port(8080)),
            (
                "unix",
                Way::Run,
                &[
                    "move bind tcp 0.0.0.0:80 to unix:$DIR/web.sock",
                    "move bind tcp exactly [::]:80 to unix:$DIR/web6.sock",
                ],
                Place::Unix("web.sock".into()),
            ),
        ] {
            let there = place.clone();
            trials.push(Trial::test(format!("nginx::reload, {name}"), move || {
                reload(way, rules, &there)
            }));
            trials.push(Trial::test(
                format!("nginx::binary upgrade, {name}"),
                move || upgrade(way, rules, &place),
            ));
        }
        trials.push(Trial::test("nginx::reuseport, observe", || {
            reuseport(Way::Observe, &[], Place::Port(80))
        }));
        trials.push(Trial::test("nginx::reuseport, move", || {
            reuseport(Way::Run, &[MOVE], Place::Port(8080))
        }));
    }
    trials
}

fn mounts() {
    for dir in ["/run", "/var/log/nginx", "/var/lib/nginx"] {
        mount_tmpfs(dir);
    }
}

fn foreground() -> Run {
    mounts();
    Run::new("nginx").args(["-g", "daemon off;"])
}

/// The file is there, has a number in it, and there is a worker.
fn ready(_: &Run, _: &mut Process) -> bool {
    master().is_some_and(|pid| !workers(pid).is_empty())
}

fn master() -> Option<i32> {
    fs::read_to_string("/run/nginx.pid")
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// The children of a master.
fn workers(master: i32) -> Vec<String> {
    fs::read_to_string(format!("/proc/{master}/task/{master}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: a process that this test has started and that still runs.
    unsafe { libc::kill(pid, signal) };
}

fn place_of(run: &Run, place: &Place) -> Place {
    match place {
        Place::Unix(path) => Place::Unix(run.dir().join(path)),
        Place::Port(port) => Place::Port(*port),
    }
}

/// New workers, the same service.
fn reload(way: Way, rules: &[&str], place: &Place) -> Result<(), Failed> {
    in_net_and_mounts(|| {
        let (run, process) = NGINX.start(way, rules)?;
        let place = place_of(&run, place);
        let (page, open) = (get(&place, "/")?, ports());
        let master = master().ok_or("no master")?;
        for _ in 0..2 {
            let old = workers(master);
            signal(master, libc::SIGHUP);
            until("all workers are new", || {
                let new = workers(master);
                (!new.is_empty() && new.iter().all(|pid| !old.contains(pid))).then_some(())
            })?;
            same(&page, &get(&place, "/")?, "the page after the reload")?;
            same(&open, &ports(), "the ports after the reload")?;
        }
        signal(master, libc::SIGQUIT);
        same("exit 0\n", &process.wait().seen(), "its end")?;
        Ok(())
    })
}

/// Ends masters in the background, should a test fail.
struct Background;

impl Drop for Background {
    fn drop(&mut self) {
        for file in ["/run/nginx.pid", "/run/nginx.pid.oldbin"] {
            let pid = fs::read_to_string(file)
                .ok()
                .and_then(|pid| pid.trim().parse().ok());
            pid.into_iter().for_each(|pid| signal(pid, libc::SIGTERM));
        }
    }
}

/// As a service: it goes into the background, and a new program takes over
/// the old one's sockets.
fn upgrade(way: Way, rules: &[&str], place: &Place) -> Result<(), Failed> {
    in_net_and_mounts(|| {
        mounts();
        let _background = Background;
        let run = Run::new("/usr/sbin/nginx").way(way).rules(rules).logged();
        let place = place_of(&run, place);
        same(
            "exit 0\n",
            &run.spawn().wait().seen(),
            "start in the background",
        )?;
        let old = until("the first master", master)?;
        until("the first workers", || {
            (!workers(old).is_empty()).then_some(())
        })?;
        let (page, open) = (get(&place, "/")?, ports());
        signal(old, libc::SIGUSR2);
        let new = until("the second master", || {
            master().filter(|&pid| pid != old && !workers(pid).is_empty())
        })?;
        same(&page, &get(&place, "/")?, "the page with both")?;
        signal(old, libc::SIGQUIT);
        let gone = |pid: i32| !fs::exists(format!("/proc/{pid}")).unwrap_or(true);
        until("the first master ends", || gone(old).then_some(()))?;
        let result = same(&page, &get(&place, "/")?, "the page of the second")
            .and_then(|()| same(&open, &ports(), "the ports of the second"));
        signal(new, libc::SIGQUIT);
        until("the second master ends", || gone(new).then_some(()))?;
        Ok(result?)
    })
}

/// Each worker has a socket of its own.
fn reuseport(way: Way, rules: &[&str], place: Place) -> Result<(), Failed> {
    const CONFIGURATION: &str = "
        user www-data;
        worker_processes 3;
        pid /run/nginx.pid;
        error_log /var/log/nginx/error.log;
        events {}
        http {
            access_log off;
            server { listen 80 reuseport; listen [::]:80 reuseport; return 200 hello; }
        }";
    let life = |way: Way, rules: &[&str], place: &Place| {
        in_net_and_mounts(|| {
            mounts();
            let run = Run::new("nginx").args(["-g", "daemon off;", "-c"]).way(way);
            let file = run.dir().join("nginx.conf");
            fs::write(&file, CONFIGURATION).map_err(|e| e.to_string())?;
            let run = run.arg(&file).rules(rules);
            let run = if way == Way::Plain { run } else { run.logged() };
            let process = run.spawn();
            let pid = until("the master", master)?;
            until("three workers", || (workers(pid).len() == 3).then_some(()))?;
            let mut pages = String::new();
            for _ in 0..10 {
                pages += &get(place, "/")?;
            }
            let sockets = ports().lines().count();
            process.signal(libc::SIGQUIT);
            Ok::<_, String>(format!(
                "{pages}{sockets} sockets\n{}",
                process.wait().seen()
            ))
        })
    };
    let plain = life(Way::Plain, &[], &Place::Port(80))?;
    same(&plain, &life(way, rules, &place)?, "reuseport")?;
    Ok(())
}
