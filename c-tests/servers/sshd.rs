//! sshd with Debian's configuration: re-executes itself for each client, and
//! puts children into a sandbox that kills on unexpected system calls.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::OnceLock;

use libtest_mimic::Trial;

use crate::scene::{Place, Server, output, ports};
use support::{Run, mount_tmpfs, until, work_dir};

const SSHD: Server = Server {
    name: "sshd",
    needs: &["sshd", "ssh", "ssh-keygen", "socat", "ss"],
    port: 22,
    prepare: || {
        mount_tmpfs("/run");
        fs::create_dir("/run/sshd").unwrap();
        fs::set_permissions("/run/sshd", fs::Permissions::from_mode(0o755)).unwrap();
        mount_tmpfs("/root/.ssh");
        fs::set_permissions("/root/.ssh", fs::Permissions::from_mode(0o700)).unwrap();
        let (private, public) = keys();
        fs::write(KEY, private).unwrap();
        fs::set_permissions(KEY, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write("/root/.ssh/authorized_keys", public).unwrap();
        Run::new("/usr/sbin/sshd").args(["-D", "-e"])
    },
    ready: |_, process| process.stderr().contains("Server listening on :: port"),
    client: |_, place| match place {
        Place::Port(port) => ssh(*port),
        Place::Unix(path) => {
            let mut relay = Command::new("socat")
                .arg("TCP4-LISTEN:2222")
                .arg(format!("UNIX-CONNECT:{}", path.display()))
                .spawn()
                .map_err(|e| format!("socat: {e}"))?;
            until("the relay listens", || {
                ports().contains(":2222 ").then_some(())
            })?;
            let answer = ssh(2222);
            relay.wait().map_err(|e| e.to_string())?;
            answer
        }
    },
    done: |process| process.stderr().contains("Disconnected from user"),
    end: libc::SIGTERM,
    to_unix: &[("0.0.0.0:22", "ssh.sock"), ("exactly [::]:22", "ssh6.sock")],
};

const KEY: &str = "/root/.ssh/test_key";

/// A command on the other side: its output; its status must be there too.
fn ssh(port: u16) -> Result<String, String> {
    let result = Command::new("ssh")
        .args(["-F", "none", "-i", KEY, "-o", "BatchMode=yes"])
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ])
        .args(["-p", &port.to_string(), "root@127.0.0.1"])
        .arg("echo hello; echo there >&2; exit 7")
        .output()
        .map_err(|e| format!("ssh: {e}"))?;
    let text = String::from_utf8_lossy(&result.stdout).into_owned();
    if result.status.code() == Some(7) {
        Ok(text)
    } else {
        let errors = String::from_utf8_lossy(&result.stderr);
        Err(format!("ssh: {}\n{text}{errors}", result.status))
    }
}

/// The client's keys: the same for every run, as they are in the messages.
fn keys() -> &'static (Vec<u8>, Vec<u8>) {
    static KEYS: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let file = work_dir().join("key");
        let mut keygen = Command::new("ssh-keygen");
        output(
            keygen
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&file),
        )
        .unwrap();
        (
            fs::read(&file).unwrap(),
            fs::read(file.with_extension("pub")).unwrap(),
        )
    })
}

pub fn trials() -> Vec<Trial> {
    SSHD.trials()
}
