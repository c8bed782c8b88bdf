//! Programs that cannot be intercepted: said before the run, and refused where
//! rules must hold.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bindgate_core::reach::Class;
use libtest_mimic::{Failed, Trial};

use support::{
    self, NOBODY, Outcome, Run, Way, compile, compile_as, in_net_and_mounts, mount_tmpfs_of, same,
    stage, work_dir,
};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("doctor: an ordinary program", doctor_ordinary),
        Trial::test("doctor: a static program", doctor_static),
        Trial::test("run warns of a static program", run_warns),
        Trial::test("mode enforce refuses a static program", enforce_refuses),
        Trial::test("mode enforce refuses a static child", enforce_refuses_child),
        Trial::test("doctor, run and exec say the same", || agree(0, as_root)),
        Trial::test(
            "no way to name a static program gets round it",
            no_way_round,
        ),
        Trial::test("rules about exec", exec_rules),
        Trial::test("a run inside a run starts no more programs", nested),
        Trial::test("the loader runs a program of the run", loader),
        Trial::test("the log names the script", script_named),
        Trial::test("limit: nothing is looked at behind a filter", filtered),
        Trial::test("a ticket that nobody wrote is carried over", nonsense),
    ];
    if support::has_nobody() {
        trials.push(Trial::test(
            "doctor, run and exec say the same of privileges",
            || agree(NOBODY, as_nobody),
        ));
        trials.push(Trial::test("an exec between two users", between_users));
        trials.push(Trial::test("run warns of a program's own bit", own_bit));
    } else {
        let reason = "needs root, to become another user";
        for name in [
            "doctor, run and exec say the same of privileges",
            "an exec between two users",
            "run warns of a program's own bit",
        ] {
            trials.push(support::skipped(name, reason));
        }
    }
    trials
}

fn doctor(program: &str) -> Outcome {
    Run::new(&stage().launcher)
        .args(["doctor", "--", program])
        .finish()
}

fn static_program() -> Result<String, String> {
    Ok(compile("unseen_static", &["-static"])?
        .to_str()
        .unwrap()
        .to_owned())
}

fn says(outcome: &Outcome, word: &str) -> Result<(), Failed> {
    if (outcome.stdout.clone() + &outcome.stderr).contains(word) {
        Ok(())
    } else {
        Err(format!("it does not say {word:?}:\n{}", outcome.seen()).into())
    }
}

fn doctor_ordinary() -> Result<(), Failed> {
    let outcome = doctor("ls");
    same("exit 0", &outcome.status, &outcome.seen())?;
    same("", &outcome.stderr, "stderr")?;
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let library = stage().library.display().to_string();
    let path = lines.first().unwrap_or(&"");
    let is_told = path.starts_with('/')
        && path.contains("/ls: is loaded by the dynamic loader")
        && lines.iter().any(|line| line.contains(&library))
        && lines.contains(&"ls can be intercepted")
        // What a filter that was there before leaves.
        && lines.iter().any(|line| line.starts_with("seccomp: "));
    if !is_told {
        return Err(format!(
            "of a program, its loader and the library:\n{}",
            outcome.seen()
        )
        .into());
    }
    Ok(())
}

fn doctor_static() -> Result<(), Failed> {
    let outcome = doctor(&static_program()?);
    says(&outcome, "static")?;
    if outcome.status == "exit 0" {
        return Err("a program that cannot be intercepted is not a success".into());
    }
    Ok(())
}

fn run_warns() -> Result<(), Failed> {
    // Where nothing is to be enforced.
    let run = Run::new(static_program()?).way(Way::Observe).logged();
    let outcome = run.rule("deny bind tcp *:8080").finish();
    same("bind: ok\n", &outcome.stdout, "it runs, out of sight")?;
    same("exit 0", &outcome.status, "status")?;
    says(&outcome, "static")
}

fn enforce_refuses() -> Result<(), Failed> {
    let run = Run::new(static_program()?).way(Way::Run).logged();
    let run = run.rule("mode enforce").rule("deny bind tcp *:8080");
    let outcome = run.finish();
    if outcome.status == "exit 0" || !outcome.stdout.is_empty() {
        return Err(format!("it ran:\n{}", outcome.seen()).into());
    }
    says(&outcome, "static")?;
    let outcome = run.launcher_arg("--allow-unintercepted").finish();
    same("bind: ok\n", &outcome.stdout, "--allow-unintercepted")?;
    same("exit 0", &outcome.status, "--allow-unintercepted")?;
    Ok(())
}

/// The loader of this machine's programs.
#[cfg(target_arch = "x86_64")]
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
#[cfg(not(target_arch = "x86_64"))]
const LOADER: &str = "/lib/ld-linux-aarch64.so.1";

/// A program, how it is started, and what must be said of it.
struct Case {
    name: &'static str,
    command: Vec<PathBuf>,
    /// Before the command: `setpriv …`.
    before: &'static [&'static str],
    want: Option<Class>,
}

/// Makes executables in a directory.
struct Maker(PathBuf);

impl Maker {
    fn file(&self, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// A copy of `true`.
    fn dynamic(&self, name: &str, mode: u32) -> PathBuf {
        self.file(name, &fs::read("/bin/true").unwrap(), mode)
    }

    /// One with these bytes in place of those.
    fn changed(&self, name: &str, of: &Path, from: &[u8], to: &[u8]) -> PathBuf {
        let mut bytes = fs::read(of).unwrap();
        let at = bytes.windows(from.len()).position(|w| w == from);
        let at = at.unwrap_or_else(|| panic!("{name}: {} has no such bytes", of.display()));
        bytes[at..at + to.len()].copy_from_slice(to);
        self.file(name, &bytes, 0o755)
    }

    fn script(&self, name: &str, interpreter: &Path) -> PathBuf {
        let line = format!("#!{}\n", interpreter.display());
        self.file(name, line.as_bytes(), 0o755)
    }

    /// Gives it capabilities; false where the file system has none.
    fn give_capabilities(&self, path: &Path) -> bool {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // VFS_CAP_REVISION_2, effective: CAP_NET_RAW.
        let words: [u32; 5] = [0x0200_0001, 1 << 13, 0, 0, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        // SAFETY: two C strings and as many bytes as said.
        unsafe {
            libc::setxattr(
                path.as_ptr(),
                c"security.capability".as_ptr(),
                bytes.as_ptr().cast(),
                bytes.len(),
                0,
            ) == 0
        }
    }
}

fn case(name: &'static str, command: &[&Path], want: Option<Class>) -> Case {
    Case {
        name,
        command: command.iter().map(|p| p.to_path_buf()).collect(),
        before: &[],
        want,
    }
}

fn as_root(make: &Maker) -> Result<Vec<Case>, String> {
    let dynamic = make.dynamic("dynamic", 0o755);
    let fixed = PathBuf::from(static_program()?);
    let script = make.script("script", &dynamic);
    let of_static = make.script("of_static", &fixed);
    let loader = Path::new(LOADER);
    let musl = make.changed(
        "musl",
        &dynamic,
        LOADER.as_bytes(),
        &b"/lib/ld-musl-x86_64.so.1\0\0\0\0"[..LOADER.len() + 1],
    );
    let head = fs::read(&dynamic).unwrap();
    let mut other = head[..20].to_vec();
    other[18..20].copy_from_slice(&8u16.to_le_bytes());
    let arch = make.changed("arch", &dynamic, &head[..20], &other);
    let go = make.changed(
        "go",
        &fixed,
        b"\x14\0\0\0\x03\0\0\0GNU\0",
        b"\x14\0\0\0\x04\0\0\0Go\0\0",
    );
    let text = make.file("text", b"exit 0\n", 0o755);
    let verify = Path::new("--verify");
    Ok(vec![
        case("dynamic", &[&dynamic], None),
        case("a script", &[&script], None),
        case(
            "a script of a script",
            &[&make.script("two", &script)],
            None,
        ),
        case("text", &[&text], None),
        case("static", &[&fixed], Some(Class::Static)),
        case("a static interpreter", &[&of_static], Some(Class::Static)),
        case(
            "a script of a script of that",
            &[&make.script("three", &of_static)],
            Some(Class::Static),
        ),
        case("musl", &[&musl], Some(Class::OtherLibc)),
        case("another processor", &[&arch], Some(Class::WrongArch)),
        case("go", &[&go], Some(Class::Go)),
        case("the loader", &[loader, &dynamic], None),
        case("the loader, static", &[loader, &fixed], Some(Class::Static)),
        case("the loader, asked", &[loader, verify, &dynamic], None),
        case("ldd", &[Path::new("ldd"), &dynamic], None),
    ])
}

fn as_nobody(make: &Maker) -> Result<Vec<Case>, String> {
    let nnp = &["setpriv", "--no-new-privs"][..];
    let mut cases = Vec::new();
    let under = |cases: &mut Vec<Case>, name, path: &Path, plain, restricted| {
        let mut one = case(name, &[path], plain);
        cases.push(case(name, &[path], plain));
        one.before = nnp;
        one.want = restricted;
        cases.push(one);
    };
    let setuid = make.dynamic("setuid", 0o4755);
    let setgid = make.dynamic("setgid", 0o2755);
    let hidden = make.dynamic("hidden", 0o4711);
    let script = make.script("script", &setuid);
    let is = Some(Class::Setuid);
    under(&mut cases, "set-user-ID", &setuid, is, None);
    under(&mut cases, "set-group-ID", &setgid, is, None);
    under(&mut cases, "its script", &script, is, None);
    let unreadable = Some(Class::Unreadable);
    under(&mut cases, "and unreadable", &hidden, is, unreadable);
    let closed = make.dynamic("closed", 0o711);
    under(&mut cases, "unreadable", &closed, unreadable, unreadable);
    let capable = make.dynamic("capable", 0o755);
    if make.give_capabilities(&capable) {
        let is = Some(Class::FileCaps);
        under(&mut cases, "file capabilities", &capable, is, is);
    }
    // A mount that heeds neither.
    let nosuid = Maker(make.0.join("nosuid"));
    fs::create_dir(&nosuid.0).map_err(|e| e.to_string())?;
    mount_tmpfs_of(nosuid.0.to_str().unwrap(), c"mode=755");
    let target = CString::new(nosuid.0.as_os_str().as_bytes()).unwrap();
    let flags = libc::MS_REMOUNT | libc::MS_NOSUID;
    // SAFETY: C strings and null pointers.
    let done = unsafe {
        libc::mount(
            std::ptr::null(),
            target.as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        )
    };
    if done != 0 {
        return Err(format!("remount: {}", std::io::Error::last_os_error()));
    }
    let setuid = nosuid.dynamic("setuid", 0o4755);
    cases.push(case("nosuid, set-user-ID", &[&setuid], None));
    let capable = nosuid.dynamic("capable", 0o755);
    if nosuid.give_capabilities(&capable) {
        cases.push(case("nosuid, file capabilities", &[&capable], None));
    }
    Ok(cases)
}

/// Asks doctor, run, and an exec from inside a run about each of the cases.
fn agree(uid: u32, cases: fn(&Maker) -> Result<Vec<Case>, String>) -> Result<(), Failed> {
    in_net_and_mounts(|| -> Result<(), String> {
        let dir = work_dir();
        // Bits that this file system ignores would be nothing to tell apart.
        mount_tmpfs_of(dir.to_str().unwrap(), c"mode=755");
        for case in cases(&Maker(dir))? {
            let why = case.want.map(Class::why);
            let what = |who: &str, seen: &Outcome| {
                format!("{who}, {} {:?}:\n{}", case.name, case.before, seen.seen())
            };
            let all = case.before.iter().map(OsStr::new);
            let mut all = all.chain([stage().launcher.as_os_str()]);
            let before = Run::new(all.next().unwrap()).args(all).user(uid);
            let command = case.command.iter();

            let run = before.clone().args(["doctor", "--"]);
            let outcome = run.args(command.clone()).spawn().wait();
            let can = format!("{} can be intercepted", case.command[0].display());
            let said = outcome.stdout.lines().any(|line| line == can);
            let with = why.is_none_or(|why| outcome.stdout.contains(why));
            if said != why.is_none() || !with {
                return Err(what("doctor", &outcome));
            }
            same(
                if why.is_none() { "exit 0" } else { "exit 1" },
                &outcome.status,
                &what("doctor", &outcome),
            )?;

            let enforce = before.clone().args(["run", "-r", "deny bind udp *:1"]);
            let run = enforce.clone().arg("--").args(command.clone());
            let outcome = run.spawn().wait();
            let refused = outcome.stderr.contains("bindgate: not started:");
            let with = why.is_none_or(|why| outcome.stderr.contains(why));
            if refused == why.is_none() || !with {
                return Err(what("run", &outcome));
            }

            let log = work_dir().join("log");
            let run = enforce.args(["--format", "json", "--log", log.to_str().unwrap()]);
            let run = run.args(["--", "sh", "-c", "exec \"$@\"", "sh"]);
            let outcome = run.args(command).spawn().wait();
            let records = support::log::read(&log)?;
            let of_exec = records.iter().filter(|r| r.text("call") == "exec");
            let reasons: Vec<_> = of_exec.map(|r| r.text("reason").to_owned()).collect();
            let wanted: Vec<_> = case.want.iter().map(|c| c.name().to_owned()).collect();
            if reasons != wanted || (outcome.status == "exit 126") != case.want.is_some() {
                return Err(format!("{reasons:?}: {}", what("exec", &outcome)));
            }
        }
        Ok(())
    })?;
    Ok(())
}

fn no_way_round() -> Result<(), Failed> {
    let program = compile("exec_unintercepted", &[])?;
    let source = fs::read_to_string(support::sources().join("exec_unintercepted.c"))?;
    let ways = source
        .split("strcmp(how, \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    let mut tried = 0;
    for way in ways {
        tried += 1;
        let run = || -> Result<Run, Failed> {
            let run = Run::new(&program).arg(way);
            for (dir, bytes) in [
                ("static", fs::read(static_program()?)?),
                ("broken", b"#!/nowhere\n".to_vec()),
            ] {
                let dir = run.dir().join(dir);
                fs::create_dir(&dir)?;
                Maker(dir).file("only_static", &bytes, 0o755);
            }
            Ok(run)
        };
        let plain = run()?.finish();
        if !plain.stdout.contains("bind: ok") {
            return Err(format!("{way}, plain:\n{}", plain.seen()).into());
        }
        let enforced = run()?.way(Way::Run).rule("deny bind tcp *:8081").logged();
        let outcome = enforced.finish();
        let records = outcome.records();
        let refused = records.iter().filter(|r| r.is("exec", "deny")).count();
        if !outcome.stdout.ends_with(": EACCES\n")
            || outcome.stdout.contains("bind")
            || refused != 1
            || records[0].text("reason") != "static"
        {
            return Err(format!("{way}: {records:?}\n{}", outcome.seen()).into());
        }
    }
    if tried < 18 {
        return Err(format!("only {tried} ways").into());
    }
    Ok(())
}

fn exec_rules() -> Result<(), Failed> {
    let program = static_program()?;
    let child = |rules: &[&str], command: &str| {
        let run = Run::new("sh").args(["-c", &format!("{command}; echo then $?")]);
        let run = run.way(Way::Run).logged().rule("deny bind tcp *:8081");
        let outcome = run.rules(rules).finish();
        if outcome.stderr.contains("bindgate: not started:") {
            return (outcome.stdout.clone(), Vec::new(), outcome);
        }
        let records = outcome.records();
        let execs = records.iter().filter(|r| r.text("call") == "exec");
        let execs: Vec<_> = execs
            .map(|r| {
                let rule = r.0["rule"]["number"].as_i64().unwrap_or(-1);
                let (event, verdict) = (r.text("event"), r.text("verdict"));
                format!("{event} {verdict} {rule}")
            })
            .collect();
        (outcome.stdout.clone(), execs, outcome)
    };
    let allow = format!("allow exec {program}");
    for (rules, command, stdout, records) in [
        (
            &[&*allow][..],
            &*program,
            "bind: ok\nthen 0\n",
            "unseen allow 2",
        ),
        (
            &["allow exec unseen_*"],
            &program,
            "bind: ok\nthen 0\n",
            "unseen allow 2",
        ),
        (
            &["default allow for exec"],
            &program,
            "bind: ok\nthen 0\n",
            "unseen allow 0",
        ),
        (
            &["allow exec /other"],
            &program,
            "then 126\n",
            "unseen deny -1",
        ),
        (
            &["deny exec */true", "deny exec true with ENOENT"],
            "/bin/true",
            "then 127\n",
            "decision deny 3",
        ),
        (
            &["allow exec /usr/bin/* for /nobody", "default deny for exec"],
            "/bin/true",
            "",
            "",
        ),
        (
            &["allow exec *sh", "default deny for exec"],
            "/bin/true",
            "then 126\n",
            "decision deny 0",
        ),
    ] {
        let (seen, execs, outcome) = child(rules, command);
        let what = format!("{rules:?} {command}\n{}", outcome.seen());
        same(stdout, &seen, &what)?;
        if !records.is_empty() {
            same(records, &execs.join("\n"), &what)?;
        } else if !outcome.stderr.contains("not started:") {
            return Err(what.into());
        }
    }
    let observed = Run::new("sh").args(["-c", "/bin/true; echo then $?"]);
    let observed = observed.way(Way::Observe).logged();
    let outcome = observed.rule("deny exec true").finish();
    same("then 0\n", &outcome.stdout, &outcome.seen())?;
    let records = outcome.records();
    let all: Vec<_> = records.iter().filter(|r| r.is("exec", "deny")).collect();
    if all.len() != 1 || all[0].0["observed"] != true {
        return Err(format!("{records:?}").into());
    }
    Ok(())
}

fn nested() -> Result<(), Failed> {
    let fixed = static_program()?;
    let dynamic = compile_as("unseen_static", "_dynamic", &[])?;
    let dynamic = dynamic.to_str().unwrap();
    let away = ["--let-go", "--", "env", "-u", "LD_PRELOAD", dynamic];
    for (inner, says, exit) in [
        (&["--allow-unintercepted", "--", &*fixed][..], "", "exit 78"),
        (&["--allow-unseen", "--", &fixed], "", "exit 78"),
        (
            &["-r", "default allow for exec", "--", &fixed],
            "",
            "exit 78",
        ),
        (&["-r", "allow exec **", "--", &fixed], "", "exit 78"),
        (&away, "bind: EACCES\n", "exit 0"),
        (&["--", dynamic], "bind: EACCES\n", "exit 0"),
    ] {
        let run = Run::new(&stage().launcher).args(["run", "--log", "inner.log"]);
        let run = run.args(inner).way(Way::Run).rule("deny bind tcp *:8080");
        let outcome = run.logged().finish();
        let what = format!("{inner:?}\n{}", outcome.seen());
        same(says, &outcome.stdout, &what)?;
        same(exit, &outcome.status, &what)?;
    }
    Ok(())
}

fn loader() -> Result<(), Failed> {
    let dynamic = compile_as("unseen_static", "_dynamic", &[])?;
    let run = Run::new(LOADER).arg(dynamic).way(Way::Run).logged();
    let outcome = run.rule("deny bind tcp *:8080").finish();
    same("bind: EACCES\n", &outcome.stdout, &outcome.seen())?;
    Ok(())
}

fn nonsense() -> Result<(), Failed> {
    let dynamic = compile_as("unseen_static", "_dynamic", &[])?;
    let dynamic = dynamic.to_str().unwrap();
    for value in ["BINDGATE_RUN=", "BINDGATE_RUN=0123456789abcdef.no.ticket"] {
        let run = Run::new("env").args([value, dynamic]).way(Way::Run);
        let outcome = run.logged().rule("deny bind tcp *:8080").finish();
        same("bind: EACCES\n", &outcome.stdout, &outcome.seen())?;
    }
    Ok(())
}

fn script_named() -> Result<(), Failed> {
    let program = compile_as("unseen_static", "_dynamic", &[])?;
    let run = Run::new("./of a script")
        .way(Way::Run)
        .rule("note bind any *");
    let script = Maker(run.dir().to_owned()).script("of a script", &program);
    let script = fs::canonicalize(script)?;
    let outcome = run.clone().finish();
    let shown = "unseen_static_dynamic(of a script)[";
    if !outcome.stderr.contains(shown) {
        return Err(outcome.seen().into());
    }
    for way in [Way::Run, Way::Preload] {
        let logged = run.clone().way(way).logged();
        let outcome = logged.finish();
        let records = outcome.records();
        let bind = records.iter().find(|r| r.text("call") == "bind");
        let bind = bind.ok_or_else(|| outcome.seen())?;
        same(script.to_str().unwrap(), bind.text("script"), "the script")?;
        same(
            program.to_str().unwrap(),
            bind.text("program"),
            "the program",
        )?;
    }
    let outcome = Run::new(&program).way(Way::Run).logged().finish();
    let records = outcome.records();
    if !records.iter().all(|r| r.0["script"].is_null()) {
        return Err(format!("{records:?}").into());
    }
    Ok(())
}

fn filtered() -> Result<(), Failed> {
    let run = Run::new(compile("limit_filtered_exec", &[])?).arg(static_program()?);
    let outcome = run
        .way(Way::Run)
        .rule("deny bind tcp *:8080")
        .logged()
        .finish();
    same("bind: ok\n", &outcome.stdout, &outcome.seen())?;
    Ok(())
}

fn between_users() -> Result<(), Failed> {
    let program = compile("exec_between_users", &[])?;
    let plain = Run::new(&program).user(0).finish();
    same("secure: 1\n", &plain.stdout, &plain.seen())?;
    let run = Run::new(&program).user(0).way(Way::Run).logged();
    let outcome = run.clone().rule("deny bind tcp *:8080").finish();
    same("exec: EACCES\n", &outcome.stdout, &outcome.seen())?;
    let records = outcome.records();
    same("privileged", records[0].text("reason"), "why")?;
    let outcome = run.arg("spawn").rule("deny bind tcp *:8080").finish();
    let what = "POSIX_SPAWN_RESETIDS makes the IDs the same";
    same("secure: 0\n", &outcome.stdout, what)?;
    Ok(())
}

fn own_bit() -> Result<(), Failed> {
    in_net_and_mounts(|| -> Result<(), String> {
        let dir = work_dir();
        mount_tmpfs_of(dir.to_str().unwrap(), c"mode=755");
        let program = Maker(dir).dynamic("helper", 0o4755);
        let run = Run::new(&program).user(0).way(Way::Run).logged();
        let outcome = run.clone().rule("deny bind tcp *:8080").spawn().wait();
        let advice = format!("unless it says: allow exec {}", program.display());
        if outcome.status != "exit 0" || !outcome.stderr.contains(&advice) {
            return Err(outcome.seen());
        }
        let outcome = run.spawn().wait();
        same("", &outcome.stderr, "where nothing is enforced")
    })?;
    Ok(())
}

fn enforce_refuses_child() -> Result<(), Failed> {
    let program = static_program()?;
    let run = Run::new("sh")
        .args(["-c", &format!("{program}; echo then $?")])
        .way(Way::Run);
    let run = run
        .logged()
        .rule("mode enforce")
        .rule("deny bind tcp *:8080");
    let outcome = run.finish();
    if outcome.stdout.contains("bind: ok") || !outcome.stdout.contains("then 126") {
        return Err(format!("the child ran:\n{}", outcome.seen()).into());
    }
    let outcome = run.launcher_arg("--allow-unintercepted").finish();
    same(
        "bind: ok\nthen 0\n",
        &outcome.stdout,
        "--allow-unintercepted",
    )?;
    Ok(())
}
