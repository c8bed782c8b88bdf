//! Where nothing can be written, or no longer: a read-only root, `/dev/shm`
//! full or away, the disk of the log full, the log's directory gone.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libtest_mimic::{Failed, Trial};

use support::{
    Outcome, Process, Run, Way, compile, in_net_and_mounts, mount_tmpfs, mount_tmpfs_of, same,
    until,
};

/// Half of the binds of a test; so many lines of text, and twice as many of
/// JSON, are more than [`ROOM`].
const HALF: usize = 400;
/// What is left of the disk of the log, in bytes.
const ROOM: usize = 16 << 10;
const DISK: usize = 1 << 20;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("a read-only root", || {
            in_net_and_mounts(|| rules_hold(read_only_root))
        }),
        Trial::test("/dev/shm is full", || {
            in_net_and_mounts(|| rules_hold(full_shm))
        }),
        Trial::test("there is no /dev/shm", || {
            in_net_and_mounts(|| rules_hold(no_shm))
        }),
    ];
    type Test = fn(&Logged) -> Result<(), Failed>;
    let tests: [(&str, Test); 4] = [
        ("the disk of the log is full", full),
        ("the disk of the log is full for a while", full_for_a_while),
        ("the log's directory is renamed", renamed),
        ("the log's directory is removed", removed),
    ];
    for (name, test) in tests {
        for way in [Way::Run, Way::Preload] {
            for json in [false, true] {
                let format = if json { "json" } else { "text" };
                let name = format!("{name}: {way:?}, {format}");
                trials.push(Trial::test(name, move || {
                    in_net_and_mounts(|| test(&Logged::new(way, json)?))
                }));
            }
        }
    }
    trials
}

// ---------------------------------------------------------------------------
// Nothing to write to

/// Refused, moved and told as anywhere, with the log on standard error.
fn rules_hold(change: fn()) -> Result<(), Failed> {
    let program = compile("scm_rights_both", &[])?;
    let runs = [Way::Preload, Way::Run].map(|way| {
        let run = Run::new(&program).way(way).env("BINDGATE_LOG", "-");
        run.rule("move bind tcp *:8080 to loopback:18080")
            .rule("deny bind tcp *:8081")
    });
    change();
    for run in runs {
        let outcome = run.finish();
        let expected = "bind: ok\n\
                        name in the child: 127.0.0.1:8080 (16 bytes)\n\
                        second bind in the child: EINVAL\n\
                        listen in the child: ok\n\
                        bind of the child's: EACCES\n\
                        name: 127.0.0.1:8080 (16 bytes)\n";
        same(expected, &outcome.stdout, &outcome.seen())?;
        same("exit 0", &outcome.status, &outcome.seen())?;
        for words in ["moved to 127.0.0.1:18080", "refused: EACCES"] {
            if !outcome.stderr.contains(words) {
                return Err(format!("the log does not say {words:?}:\n{}", outcome.seen()).into());
            }
        }
    }
    Ok(())
}

/// All mounts, also of `/tmp` and of `/dev/shm`.
fn read_only_root() {
    // struct mount_attr: what to set, what to clear, propagation, user.
    let attributes = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0];
    // SAFETY: a valid string, and memory of the size that is given.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    assert_eq!(r, 0, "mount_setattr: {}", std::io::Error::last_os_error());
    let probe = fs::write(std::env::temp_dir().join("probe"), "");
    assert_eq!(
        probe.unwrap_err().kind(),
        std::io::ErrorKind::ReadOnlyFilesystem
    );
}

fn full_shm() {
    mount_tmpfs_of("/dev/shm", c"size=4k");
    fs::write("/dev/shm/all", [0; 4096]).unwrap();
    assert!(fs::write("/dev/shm/more", "x").is_err());
}

/// A `/dev` in which there is `null` alone.
fn no_shm() {
    let null = fs::File::open("/dev/null").unwrap();
    mount_tmpfs("/dev");
    fs::write("/dev/null", "").unwrap();
    let from = std::ffi::CString::new(format!("/proc/self/fd/{}", null.as_raw_fd())).unwrap();
    // SAFETY: valid strings.
    let r = unsafe {
        libc::mount(
            from.as_ptr(),
            c"/dev/null".as_ptr(),
            std::ptr::null(),
            libc::MS_BIND,
            std::ptr::null(),
        )
    };
    assert_eq!(r, 0, "mount: {}", std::io::Error::last_os_error());
    assert!(!Path::new("/dev/shm").exists());
}

// ---------------------------------------------------------------------------
// A log that cannot be written

/// A program that binds in two halves, with its log in a directory of its own.
struct Logged {
    run: Run,
    is_run: bool,
    json: bool,
    /// The log's directory.
    dir: PathBuf,
    /// The second half begins when this file goes.
    first_half: PathBuf,
}

impl Logged {
    fn new(way: Way, json: bool) -> Result<Logged, String> {
        let run = Run::new(compile("binds_in_two_halves", &[])?);
        let run = run.arg(HALF.to_string()).way(way);
        let dir = run.dir().join("logs");
        let first_half = run.dir().join("first half");
        fs::create_dir(&dir).map_err(|e| e.to_string())?;
        let everybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(&dir, everybody).map_err(|e| e.to_string())?;
        fs::write(&first_half, "").map_err(|e| e.to_string())?;
        let (log, format) = (dir.join("log"), if json { "json" } else { "text" });
        let run = match way {
            Way::Preload => run.env("BINDGATE_LOG", &log).env("BINDGATE_FORMAT", format),
            _ => run
                .launcher_arg("--log")
                .launcher_arg(&log)
                .launcher_arg("--format")
                .launcher_arg(format)
                .launcher_arg("--wait"),
        };
        Ok(Logged {
            run,
            is_run: way == Way::Run,
            json,
            dir,
            first_half,
        })
    }

    /// Lines that so many halves leave: a bind, and in JSON its socket too.
    fn lines(&self, halves: usize) -> usize {
        halves * HALF * if self.json { 2 } else { 1 }
    }

    /// Sums at the end: in JSON always, in text where something is lost.
    fn sums(&self, lost: bool) -> usize {
        usize::from(self.is_run && (lost || self.json))
    }

    /// Runs both halves, and `between` when the first has ended.
    fn both(
        &self,
        between: impl FnOnce(&Process) -> Result<(), String>,
    ) -> Result<Outcome, String> {
        let mut process = self.run.clone().arg(&self.first_half).spawn();
        process.says("binds")?;
        between(&process)?;
        fs::remove_file(&self.first_half).map_err(|e| e.to_string())?;
        Ok(process.wait())
    }

    /// A disk with little room.
    fn fill(&self) {
        let size = std::ffi::CString::new(format!("size={DISK}")).unwrap();
        mount_tmpfs_of(self.dir.to_str().unwrap(), &size);
        fs::write(self.dir.join("filler"), vec![0; DISK - ROOM]).unwrap();
    }
}

fn text_of(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn lines_in(text: &[u8]) -> usize {
    text.iter().filter(|b| **b == b'\n').count()
}

/// What is said of so many lines that were not written; in a run by the
/// launcher, else by the program.
fn complaint(lost: usize) -> String {
    format!("stderr| bindgate: {lost} lines of the log could not be written\n")
}

/// What the program says, whatever becomes of its log.
fn said(halves: usize) -> String {
    format!("stdout| binds: {HALF}\n").repeat(halves)
}

fn full(logged: &Logged) -> Result<(), Failed> {
    logged.fill();
    let outcome = logged.run.finish();
    let log = fs::read(logged.dir.join("log"))?;
    same(&ROOM.to_string(), &log.len().to_string(), "all of the room")?;
    let lost = logged.lines(1) + logged.sums(true) - lines_in(&log);
    let expected = said(1) + &complaint(lost) + "exit 0\n";
    Ok(same(&expected, &outcome.seen(), "a full disk")?)
}

fn full_for_a_while(logged: &Logged) -> Result<(), Failed> {
    logged.fill();
    let path = logged.dir.join("log");
    let outcome = logged.both(|_| {
        until("the disk is full", || {
            fs::metadata(&path)
                .is_ok_and(|m| m.len() == ROOM as u64)
                .then_some(())
        })?;
        fs::remove_file(logged.dir.join("filler")).map_err(|e| e.to_string())
    })?;
    let log = fs::read(&path)?;
    let (before, after) = log.split_at(ROOM);
    let mut written = lines_in(before);
    // What comes later begins on a line of its own.
    let after = String::from_utf8_lossy(after);
    let after = match before.ends_with(b"\n") {
        true => Some(&*after),
        false => after.strip_prefix('\n'),
    };
    let after = after.ok_or("a line goes on in one that was cut short")?;
    let mut lost = None;
    for line in after.lines() {
        match lost_in(line, logged.json)? {
            Some(n) if lost.is_none() => lost = Some(n),
            Some(n) => return Err(format!("{n} more lost: {line}").into()),
            None => written += 1,
        }
    }
    let lost = lost.ok_or("the log does not say what it lacks")?;
    same(
        &logged.lines(2).to_string(),
        &(written + lost).to_string(),
        &format!("{written} lines and {lost} lost"),
    )?;
    let complaint = match logged.is_run {
        true => complaint(lost),
        false => String::new(),
    };
    let expected = said(2) + &complaint + "exit 0\n";
    Ok(same(&expected, &outcome.seen(), "a disk that was full")?)
}

/// How many lines this one says are not there; `None` for a decision.
fn lost_in(line: &str, json: bool) -> Result<Option<usize>, String> {
    if json {
        let line: serde_json::Value =
            serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
        let field = match line["event"].as_str() {
            Some("lost") => "count",
            Some("end") => "unwritten",
            _ => return Ok(None),
        };
        return Ok(line[field].as_u64().map(|n| n as usize));
    }
    if line.contains(" → ok") {
        return Ok(None);
    }
    let words: Vec<&str> = line.split([' ', ',']).collect();
    let number = words.windows(3).find_map(|words| match words {
        [n, "not", "written"] | [n, "records", "lost:"] => n.parse().ok(),
        _ => None,
    });
    number
        .map(Some)
        .ok_or_else(|| format!("what is this? {line}"))
}

/// The launcher goes on with the file that it has; a program that opens it for
/// each line loses the second half.
/// A log of text says so.
fn renamed(logged: &Logged) -> Result<(), Failed> {
    let gone = logged.run.dir().join("gone");
    let outcome = logged.both(|process| {
        fs::rename(&logged.dir, &gone).map_err(|e| e.to_string())?;
        if logged.is_run {
            // There is no other file to be had.
            process.signal(libc::SIGHUP);
            if !logged.json {
                let path = gone.join("log");
                let said = || text_of(&path).contains("; the log goes on here\n");
                until("the log says so", || said().then_some(()))?;
            }
        }
        Ok(())
    })?;
    let log = text_of(&gone.join("log"));
    let (kept, complaint) = match logged.is_run {
        true => (logged.lines(2) + logged.sums(false), String::new()),
        false => (logged.lines(1), complaint(logged.lines(1))),
    };
    let broken = log.lines().find(|line| match logged.json {
        true => serde_json::from_str::<serde_json::Value>(line).is_err(),
        false => !line.contains(" → ok") && !line.ends_with("; the log goes on here"),
    });
    if let Some(line) = broken {
        return Err(format!("no line of a log: {line}").into());
    }
    let expected = said(2) + &complaint + "exit 0\n";
    same(&expected, &outcome.seen(), "without its directory")?;
    let own = usize::from(logged.is_run && !logged.json);
    let seen = lines_in(log.as_bytes()) - own;
    Ok(same(&kept.to_string(), &seen.to_string(), "lines")?)
}

fn removed(logged: &Logged) -> Result<(), Failed> {
    let outcome = logged.both(|_| {
        fs::remove_dir_all(&logged.dir).map_err(|e| e.to_string())?;
        Ok(())
    })?;
    let complaint = match logged.is_run {
        true => String::new(),
        false => complaint(logged.lines(1)),
    };
    let expected = said(2) + &complaint + "exit 0\n";
    Ok(same(&expected, &outcome.seen(), "without its directory")?)
}
