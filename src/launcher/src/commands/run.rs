//! `bindgate run`: what is set up, in which order.
//!
//! All that can fail fails before there is a program.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bindgate_core::policy::View;
use bindgate_core::policy::{Action, Rule, set_lease, set_ruled_by_kernel, set_vsock_run};
use bindgate_core::reach::Stance;
use bindgate_core::render::Detail;
use bindgate_core::shared::{State, Ticket, option};

use super::{doctor, policy};
use crate::args::{Format, Run};
use crate::level::Inherited;
use crate::{
    Failure, carried, complain, described, exit, isolate, lease, library, low_ports, outer,
    publish, reach, shown, user, vsock, wait,
};
use bindgate_daemon::broker;
use bindgate_daemon::{Counter, Handle, Report, Setup, Starting, Target};
use bindgate_os::doors::Doors;
use bindgate_os::limits::{self, with_large_files};
use bindgate_os::process::{self, Strings};
use bindgate_os::user::User;
use bindgate_os::{self as sys, signal};

/// Runs the program; the exit status.
pub fn run(run: Run) -> Result<i32, Failure> {
    if run.watched {
        // Who watches would have ended it.
        process::end_with_parent();
    }
    let user = user::find(run.user.as_deref())?;
    let mut sources = vsock::rules(&run.vsock)?;
    sources.extend(run.lease.filter(|n| *n > 0).map(lease::rule));
    sources.extend_from_slice(&run.rules);
    let mut gathered = policy::gather(&sources)?;
    gathered.extend(low_ports::rule(
        run.low_ports,
        run.is_sealed,
        run.has_own_ports,
    ));
    let inner = policy::parse(&gathered)?;
    if !inner.expectations.is_empty() && !run.watched {
        complain(format_args!(
            "hint: {} `expect` and `forbid` lines are for `bindgate check`, and change nothing here",
            inner.expectations.len()
        ));
    }
    let outer = outer::find()?;
    let plan = outer::nest(outer.as_ref(), inner, run.observe)?;
    let run = outer::tighten(outer.as_ref(), run);
    let mut compiled = policy::compile(&plan.policy)?;
    let host = described::plan(&plan.policy, run.is_sealed)?;
    let is_ruled = host.as_ref().is_some_and(|plan| plan.hosted.is_ruled);
    if host.is_some() && !is_ruled {
        set_ruled_by_kernel(&mut compiled.words);
    }
    let is_place = |r: &Rule| matches!(r.action, Action::Move(_) | Action::Hide);
    let places = plan.policy.rules.iter().any(is_place)
        || compiled.view()?.vsock_cid().is_some()
        || is_ruled;
    if user.is_some() {
        compiled.grants_ports();
    }
    compiled.warn(&plan.policy);
    vsock::check(&compiled.view()?)?;
    let outer_ports = || outer.as_ref().and_then(outer::Outer::own_ports);
    let has_block = run.has_own_ports || !run.is_sealed && outer_ports().is_some();
    let around = match (run.is_sealed, has_block) {
        (true, _) if is_ruled => carried::Around::Ruled,
        (true, _) => carried::Around::Sealed,
        (false, true) => carried::Around::OwnPorts,
        (false, false) => carried::Around::Machine,
    };
    carried::check_shares(&plan.policy, around)?;
    publish::check(&run.publish, around)?;
    isolate::check_others(host.is_some(), has_block)?;
    let filters = Inherited::find();
    if let Some(filters) = &filters {
        let warning = filters.warning(&plan.policy, &compiled.view()?);
        if !warning.is_empty() {
            complain(format_args!("warning: {warning}"));
        }
        if matches!(run.detail, Detail::Verbose) {
            complain(filters.line());
        }
    }
    let filters = filters.and_then(|filters| filters.for_ticket());
    let library = library::find()?;
    let observe = plan.observe;
    let enforcing = compiled.view()?.is_enforcing() && !observe;
    let allows = run.allow_unintercepted;
    let around = match has_block {
        true => Around::OwnPorts,
        false => Around::Machine,
    };
    let view = compiled.view()?;
    look(&run.command, allows, &view, &library, enforcing, around)?;

    let target = match &run.log {
        Some(path) => Target::file(path)
            .map_err(|e| Failure::new(exit::LOG, format_args!("--log {}", shown(&path)), e))?,
        None => Target::stderr(),
    };
    let mut id = identity()?;
    if let Some(wanted) = run.id {
        id.run = wanted;
    }
    let outer_host = outer.as_ref().and_then(outer::Outer::vsock);
    let (cid, monitor, host_run, mode) = match outer_host {
        Some(host) => (None, None, host.run, host.mode),
        None => {
            let view = compiled.view()?;
            let monitor = vsock::monitor(&view, run.is_sealed)?;
            match vsock::register(&view)? {
                Some((cid, mode)) => (Some(cid), monitor, id.run, mode),
                None => (None, monitor, id.run, 0),
            }
        }
    };
    set_vsock_run(&mut compiled.words, host_run, mode);
    let mut held = Vec::from_iter(cid);
    let written = compiled.view()?.lease().map(|(count, _)| count);
    let outers = outer
        .as_ref()
        .and_then(|outer| Some(outer.view().ok()?.lease()?.0));
    if let Some((count, (first, names))) = lease::of_run(&run, written, outers)? {
        set_lease(&mut compiled.words, count, first);
        held.extend(names);
    }
    let own = match run.has_own_ports {
        true => Some(isolate::own_ports(id.run)?),
        // A run inside a run is on the same host.
        false => outer_ports().filter(|_| has_block),
    };
    let detail = match (run.format, run.detail) {
        // Whoever reads JSON filters for themselves.
        (Format::Json, Detail::Normal) => Detail::Verbose,
        (_, detail) => detail,
    };
    let unprivileged_start = match &host {
        Some(plan) => plan.hosted.described.host.sysctl.unprivileged_start,
        None if has_block => 0,
        None => low_ports::start(run.is_sealed),
    };
    let (mut broker_pid, mut has_broker) = (None, false);
    if let Some(user) = &user
        && user::needs_broker(user, &plan.policy.rules, unprivileged_start)
    {
        let setup = broker::Setup {
            run_id: id.run,
            secret: id.secret,
            words: compiled.words.clone(),
            names_port: plan.policy.rules.iter().map(Rule::names_ports).collect(),
            unprivileged_start,
            uid: user.uid,
        };
        let started = user::broker(setup, !run.exec)?;
        broker_pid = Some(started.pid).filter(|_| !run.exec);
        held.push(started.line);
        has_broker = true;
    }
    let options = options(&run, observe, detail, has_broker);
    let mut services = match run.is_sealed {
        true => carried::shared(&plan.policy),
        false => Vec::new(),
    };
    services.extend(publish::services(&run.publish)?);
    carried::check_outer(&services, outer.as_ref())?;
    let shares = carried::as_they_are(&services);
    let setup = Setup {
        run_id: id.run,
        secret: id.secret,
        held,
        monitor,
        policy: memory_policy(compiled.words, options)?,
        state: memory_state()?,
        options,
        doors: Doors::open(&format!("{:016x}", id.run))
            .map_err(|e| Failure::new(exit::SYSTEM, "the run's abstract Unix name", e))?,
        colour: run.format == Format::Text && colour(&target),
        target,
        format: run.format.into(),
        wait: run.wait,
        reaps: run.wait || (!run.exec && !process::orphans_are_reaped()),
        unused: run.unused,
        watched: run.watched,
        detail,
        command: run.command.iter().map(|w| w.as_bytes().to_vec()).collect(),
        since_ns: sys::realtime().as_nanos() as u64,
        enforces: enforcing || is_ruled,
        filters,
        library: library.clone(),
        is_sealed: run.is_sealed,
        block: own,
        services,
        unprivileged_start,
        host: host.as_ref().map(|plan| plan.hosted.clone()),
    };
    if let (Some(outer), Some(own)) = (&outer, &setup.block)
        && own.held.is_none()
    {
        outer.hand_ports_on(&setup.state)?;
    }
    if let Some(warning) = isolate::warning().filter(|_| run.is_sealed) {
        complain(format_args!("warning: {warning}"));
    }
    let reaps = setup.reaps;
    let path = setup.doors.path().map(Path::to_owned);
    let has_file = path.is_some();
    let (policy_fd, state_fd) = (setup.policy.1.as_raw_fd(), setup.state.as_raw_fd());
    let with_file = setup.target.is_file();

    let is_short = |limit: &&limits::Memory| limit.get().rlim_max < limit.needed;
    if let Some(limit) = limits::MEMORY.iter().find(is_short) {
        return Err(Failure::say(
            exit::SYSTEM,
            format!(
                "the process that writes the log needs {} KiB of memory, which `{}` does not let it have",
                limit.needed / 1024,
                limit.ulimit
            ),
        ));
    }
    let inherited = signal::take_over();
    let failed = |e| Failure::new(exit::SYSTEM, "the process that writes the log", e);
    let (starting, setup) = Starting::fork(setup, !run.exec).map_err(failed)?;
    // The longest step, while the other process starts.
    if let Err(e) = with_large_files(|| reserve_state(&setup.state, places, has_block)) {
        // It may be gone already, for the same reason.
        path.map(std::fs::remove_file);
        return Err(no_memory("state", State::SIZE, &e));
    }
    drop(setup);
    let mut drainer = starting.wait(path).map_err(failed)?;
    let ticket = Ticket {
        run: id.run,
        secret: id.secret,
        daemon: drainer.pid.cast_unsigned(),
        policy: policy_fd.cast_unsigned(),
        state: state_fd.cast_unsigned(),
        // Where the run cannot be reached, its host would be the machine.
        enforces: enforcing || is_ruled || has_block,
        has_file,
        filters,
    };
    let name = ticket.to_string();
    log::debug!("run {:016x}, log process {}", id.run, drainer.pid);
    let nul = || Failure::say(exit::USAGE, "an argument holds a NUL byte");
    let arguments = Strings::new(&run.command).ok_or_else(nul)?;
    let mut environment = library::environment(&library, &name);
    if let Some(user) = &user {
        environment = user::environment(environment, user);
    }
    let environment = Strings::new(environment).ok_or_else(nul)?;
    let program = run
        .command
        .first()
        .map_or(OsStr::new(""), |p| p.as_os_str());

    let isolated = || match run.is_sealed {
        true => isolate::seal(&ticket, &drainer, host.as_ref(), &shares),
        false => Ok(()),
    };
    let other_user = || user.as_ref().map_or(Ok(()), User::assume);
    let not_other = |e| user::failure(run.user.as_deref().unwrap_or_default(), &e);
    if run.exec {
        if let Err(refused) = isolated() {
            return Err(isolate::failure(&refused));
        }
        drainer.program(process::pid());
        other_user().map_err(not_other)?;
        inherited.restore();
        return Err(not_started(
            program,
            &process::exec(&arguments, &environment),
        ));
    }
    let (mut refused, mut still_root) = (None, None);
    let before = || {
        refused = isolated().err();
        if refused.is_none() {
            still_root = other_user().err();
        }
        refused.is_none() && still_root.is_none()
    };
    let pid = match process::spawn(&arguments, &environment, &inherited, before) {
        Ok(pid) => pid,
        Err(e) => {
            let _ = drainer.flush();
            drainer.reap(reaps);
            return Err(match (refused, still_root) {
                (Some(refused), _) => isolate::failure(&refused),
                (_, Some(e)) => not_other(e),
                _ => not_started(program, &e),
            });
        }
    };
    drainer.program(pid);
    let end = wait::wait(pid, &mut drainer, with_file);
    drainer.dismiss_witness();
    let report = last_report(&run, &drainer, enforcing || is_ruled || has_block);
    let is_over = report.is_some_and(|now| now.left == 0);
    drainer.reap(reaps && is_over);
    if let Some(pid) = broker_pid {
        // It ends with the daemon, unless somebody has stopped it.
        let turns = if reaps && is_over { 100 } else { 1 };
        for turn in 0..turns {
            if turn > 0 {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            if !matches!(process::wait(pid, false), Ok(None)) {
                break;
            }
        }
    }
    drainer.tidy();
    finish(&run, report, end)
}

/// The run's id and what a process must know to join it.
struct Identity {
    run: u64,
    secret: [u8; 32],
}

fn identity() -> Result<Identity, Failure> {
    let random = sys::random::<24>().map_err(|e| Failure::new(exit::SYSTEM, "getrandom", e))?;
    let (run, secret) = random.split_at(8);
    let mut digits = [0; 32];
    for (to, byte) in digits.chunks_mut(2).zip(secret) {
        to.copy_from_slice(format!("{byte:02x}").as_bytes());
    }
    Ok(Identity {
        run: run.try_into().map_or(1, u64::from_ne_bytes),
        secret: digits,
    })
}

/// The memory file of the policy: the run's options, and the rules.
fn memory_policy(words: Vec<u64>, options: u32) -> Result<(Vec<u64>, OwnedFd), Failure> {
    let options = u64::from(options);
    let all = std::iter::once(&options).chain(&words);
    let bytes: Vec<u8> = all.flat_map(|w| w.to_ne_bytes()).collect();
    let make = || {
        let fd = sys::memory("bindgate-policy", bytes.len())?;
        sys::reserve(&fd, 0..bytes.len())?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let n = sys::write(fd.as_raw_fd(), rest)?;
            rest = rest.get(n..).unwrap_or_default();
        }
        sys::seal(&fd, true)?;
        Ok(fd)
    };
    let fd = with_large_files(make);
    let fd = fd.map_err(|e: std::io::Error| no_memory("policy", bytes.len(), &e))?;
    Ok((words, fd))
}

fn memory_state() -> Result<OwnedFd, Failure> {
    let make = || {
        let fd = sys::memory("bindgate-state", State::SIZE)?;
        sys::seal(&fd, false)?;
        Ok(fd)
    };
    with_large_files(make).map_err(|e: std::io::Error| no_memory("state", State::SIZE, &e))
}

/// Has the state's pages made, without those of moves where the policy
/// `places` no socket: to make a page takes a third of a microsecond.
fn reserve_state(state: &OwnedFd, places: bool, has_block: bool) -> std::io::Result<()> {
    let mut from = 0;
    let parts = [(State::FOR_MOVES, places), (State::FOR_PORTS, has_block)];
    for (part, _) in parts.into_iter().filter(|(_, is_used)| !is_used) {
        if from < part.start {
            sys::reserve(state, from..part.start)?;
        }
        from = part.end;
    }
    sys::reserve(state, from..State::SIZE)
}

fn no_memory(what: &str, size: usize, e: &std::io::Error) -> Failure {
    let size = size.div_ceil(1024);
    let limit = match e.raw_os_error() {
        Some(libc::EFBIG) => ", which `ulimit -Hf` does not let it have",
        _ => "",
    };
    Failure::new(
        exit::SYSTEM,
        format_args!("no shared memory for the run's {what} ({size} KiB){limit}"),
        e,
    )
}

fn options(run: &Run, observe: bool, detail: Detail, has_broker: bool) -> u32 {
    [
        (has_broker, option::BROKER),
        (run.let_go, option::LET_GO),
        (run.allow_unintercepted, option::ALLOW_UNINTERCEPTED),
        (observe, option::OBSERVE),
        (run.sync || run.exec && process::pid() == 1, option::SYNC),
        (Counter::is_steady(), option::COUNTER),
        (detail != Detail::Verbose && !run.unused, option::SHOWN_ONLY),
    ]
    .iter()
    .filter(|(set, _)| *set)
    .fold(0, |bits, (_, bit)| bits | bit)
}

/// Colours only where a person looks.
fn colour(target: &Target) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    target.fd().is_some_and(sys::is_terminal)
        && !is_set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// What a program is in that cannot be intercepted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Around {
    /// The machine's network, or one of its own that holds it.
    Machine,
    /// A run with ports of its own, which are the library's to give.
    OwnPorts,
}

/// Refuses a program that the policy does not let start, and warns of one that
/// cannot be intercepted.
pub fn look(
    command: &[OsString],
    allows: bool,
    view: &View<'_>,
    library: &Path,
    enforcing: bool,
    around: Around,
) -> Result<(), Failure> {
    let looker = reach::Looker {
        stance: Stance {
            enforces: enforcing,
            allows,
            searched: true,
            looks_ahead: true,
        },
        view: Some(view),
        library,
    };
    let Some(found) = looker.look(command) else {
        // exec says what is wrong, in its own words.
        return Ok(());
    };
    let Some((link, verdict)) = found.obstacle() else {
        if let Some(ahead) = doctor::ahead(&found).filter(|_| enforcing) {
            complain(format_args!("warning: {ahead}"));
        }
        return Ok(());
    };
    let said = if let Some(rule) = verdict.ruling.rule
        && verdict.refused.is_some()
    {
        let (file, line, number) = view.rule_source(rule).unwrap_or((b"", 0, 0));
        let file = String::from_utf8_lossy(file);
        let path = shown(&link.path);
        format!("{path} is refused by rule {number} ({file}:{line})")
    } else if verdict.refused.is_some() && !verdict.is_intercepted() {
        let path = doctor::real(&link.path);
        format!(
            "{} ('allow exec {path}' in the policy or --allow-unintercepted starts it all the same)",
            reach::warning(link)
        )
    } else if verdict.refused.is_some() {
        format!("{} is refused by the policy's default", shown(&link.path))
    } else {
        reach::warning(link)
    };
    let said = match around {
        Around::OwnPorts if !verdict.is_intercepted() => {
            format!("{said}; it {}", isolate::outside())
        }
        _ => said,
    };
    match verdict.refused {
        Some(_) if enforcing => Err(Failure::say(
            if verdict.is_intercepted() {
                exit::NOT_EXECUTABLE
            } else {
                exit::CONFIG
            },
            format!("not started: {said}"),
        )),
        _ => {
            complain(format_args!("warning: {said}"));
            Ok(())
        }
    }
}

/// Why the program did not start.
pub fn not_started(program: &OsStr, e: &std::io::Error) -> Failure {
    let not_found = matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR));
    let named = program.as_encoded_bytes().contains(&b'/');
    let why = match (not_found, named) {
        (true, false) => "not found in PATH".to_string(),
        (true, true) if std::path::Path::new(program).exists() => {
            "its interpreter (the `#!` line, or the dynamic loader) is not there".to_string()
        }
        _ => e.to_string(),
    };
    let status = if not_found {
        exit::NOT_FOUND
    } else {
        exit::NOT_EXECUTABLE
    };
    Failure::new(status, shown(&program), why)
}

/// The program is gone: the log is brought up to date.
fn last_report(run: &Run, drainer: &Handle, enforcing: bool) -> Option<Report> {
    // What came up to now was the program's.
    signal::forget_pending();
    let flushed = drainer.flush();
    let is_there = flushed.is_ok();
    let mut report = flushed.unwrap_or_else(|_| {
        complain(format_args!(
            "the log process was killed: the log is incomplete; programs that ran kept their \
             rules, those that were started afterwards {}",
            if enforcing {
                "have ended with 78"
            } else {
                "ran without bindgate"
            }
        ));
        None
    });
    match report {
        // Also where nothing is left: a process that is between exec and the
        // library's start is not counted.
        _ if run.wait && is_there => {
            report = wait::wait_for_all(drainer, run.log.is_some()).or(report);
        }
        Some(now) if now.left > 0 && run.log.is_none() => {
            let (n, es, s) = match now.left {
                1 => (1, "", "es"),
                n => (n, "es", ""),
            };
            complain(format_args!(
                "{n} process{es} of the run go{s} on; --log or --wait shows their decisions"
            ));
        }
        None => log::warn!("the log process is busy or gone"),
        _ => {}
    }
    report
}

/// We end as the program did.
fn finish(run: &Run, report: Option<Report>, end: process::Status) -> Result<i32, Failure> {
    let unknown = report.is_none();
    let report = report.unwrap_or_default();
    if report.unwritten > 0 {
        let n = report.unwritten;
        complain(format_args!("{n} lines of the log could not be written"));
    }
    match end {
        process::Status::Exited(0) if run.fail_on_deny && unknown => Err(Failure::say(
            exit::SYSTEM,
            "--fail-on deny: the log process did not report what was refused",
        )),
        process::Status::Exited(0) if run.fail_on_deny && report.denied > 0 => Ok(exit::DENIED),
        process::Status::Exited(status) => Ok(status),
        process::Status::Killed(number) | process::Status::Stopped(number) => {
            Ok(wait::end_by(number))
        }
    }
}
