//! The stage: launcher and library as installed, the C programs, directories
//! to work in.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that everybody can read, laid out as an installation.
pub struct Stage {
    pub(super) root: PathBuf,
    /// The launcher.
    pub launcher: PathBuf,
    /// The library.
    pub library: PathBuf,
    /// The library for the launcher's own architecture: another one than
    /// `library` if the programs are emulated.
    pub native: PathBuf,
    /// Held as long as the stage is used.
    _lock: fs::File,
}

static STAGE: OnceLock<Stage> = OnceLock::new();

/// The stage, made on first use.
pub fn stage() -> &'static Stage {
    STAGE.get_or_init(|| {
        remove_abandoned();
        let (root, lock) = root();
        let open = |path: &Path, mode| {
            fs::create_dir_all(path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for dir in ["bin", "lib", "c"] {
            open(&root.join(dir), 0o755);
        }
        open(&root.join("w"), 0o1777);
        let exe = std::env::current_exe().unwrap();
        let copy = |from: &Path, to: PathBuf| {
            fs::copy(from, &to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
            to
        };
        let native = exe.with_file_name("libbindgate.so");
        let emulated = std::env::var_os("BINDGATE_TEST_LIBRARY").map(PathBuf::from);
        let library = emulated.unwrap_or_else(|| native.clone());
        copy(
            &library.with_file_name("libbindgate_plain.so"),
            root.join("lib/libbindgate_plain.so"),
        );
        Stage {
            launcher: copy(
                // Cargo builds it for the tests, into the directory above theirs.
                &exe.with_file_name("../bindgate"),
                root.join("bin/bindgate"),
            ),
            library: copy(&library, root.join("lib/libbindgate.so")),
            native: copy(&native, root.join("lib/native.so")),
            root,
            _lock: lock,
        }
    })
}

const LOCK: &str = "lock";

/// The directory, and its lock. Its name is our pid, or, where a process of
/// another pid namespace has that one too, a number that no pid is.
fn root() -> (PathBuf, fs::File) {
    const MOST_PIDS: u32 = 1 << 22;
    for number in (std::process::id()..).step_by(MOST_PIDS as usize) {
        let root = std::env::temp_dir().join(format!("bg{number}"));
        fs::create_dir_all(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        let lock = fs::File::create(root.join(LOCK)).unwrap();
        if is_lockable(&lock) && root.join(LOCK).exists() {
            return (root, lock);
        }
    }
    panic!("no directory is free for the tests");
}

/// Takes the lock, if nobody has it.
fn is_lockable(lock: &fs::File) -> bool {
    // SAFETY: an open file.
    unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

/// Removes the stages of harnesses that were killed.
fn remove_abandoned() {
    for entry in fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("bg"));
        let is_stage = number.is_some_and(|n| n.parse::<u32>().is_ok());
        if is_stage
            && let Ok(lock) = fs::File::open(entry.path().join(LOCK))
            && is_lockable(&lock)
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Removes the stage, if there is one.
pub fn clear() {
    if let Some(stage) = STAGE.get() {
        let _ = fs::remove_dir_all(&stage.root);
    }
}

/// A new empty directory that everybody can write to.
pub fn work_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let dir = stage()
        .root
        .join(format!("w/{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

/// The directory of the C programs.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compiles `c-tests/NAME.c` and returns the program. `flags` come last.
pub fn compile(name: &str, flags: &[&str]) -> Result<PathBuf, String> {
    compile_to(stage().root.join("c").join(name), name, flags)
}

/// Compiles `c-tests/NAME.c` and returns the library, `NAME.so` in the
/// directory of the programs.
pub fn compile_library(name: &str) -> Result<PathBuf, String> {
    let library = stage().root.join("c").join(name).with_extension("so");
    compile_to(library, name, &["-shared", "-fPIC"])
}

/// The same to a program that is called `NAME` and `suffix`.
pub fn compile_as(name: &str, suffix: &str, flags: &[&str]) -> Result<PathBuf, String> {
    let program = stage().root.join("c").join(format!("{name}{suffix}"));
    compile_to(program, name, flags)
}

/// Compiles `c-tests/support/NAME.c` to a program that nothing is preloaded into.
pub fn helper(name: &str) -> Result<PathBuf, String> {
    let source = format!("support/{name}");
    compile_to(stage().root.join("bin").join(name), &source, &["-static"])
}

fn compile_to(program: PathBuf, name: &str, flags: &[&str]) -> Result<PathBuf, String> {
    if program.exists() {
        return Ok(program);
    }
    let unfinished = program.with_extension(format!("{:?}", std::thread::current().id()));
    let output = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
        .args([
            "-std=c11",
            "-D_GNU_SOURCE",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-g",
            "-O1",
        ])
        .arg("-pthread")
        .arg(sources().join(name).with_extension("c"))
        .arg("-o")
        .arg(&unfinished)
        .args(flags)
        .output()
        .map_err(|e| format!("cc: {e}"))?;
    if !output.status.success() {
        return Err(format!("cc:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    fs::rename(&unfinished, &program).map_err(|e| e.to_string())?;
    Ok(program)
}

/// The program's path, if it is installed.
pub fn which(program: &str) -> Option<PathBuf> {
    let dirs = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    let postgresql = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let all = dirs
        .into_iter()
        .chain(postgresql.map(|version| version.path().join("bin")));
    all.map(|dir| dir.join(program)).find(|path| path.exists())
}
