//! `bindgate explain` beside the sockets of this machine: whose they are.

use libtest_mimic::{Failed, Trial};

use crate::python;
use support::{NOBODY, same, stage};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("explain names the holder", holders),
        Trial::test("explain: a holder that may not be looked at", foreign),
        Trial::test("explain knows the machine's own CID", own_cid),
    ]
}

/// Sockets of this process, and what `explain` says of calls beside them: its
/// result, and the line that names a holder.
const SCRIPT: &str = "
import os, socket, subprocess
tcp, udp, unix = socket.socket(), socket.socket(type=socket.SOCK_DGRAM), socket.AF_UNIX
tcp.bind(('127.0.0.1', 20200))
udp.bind(('0.0.0.0', 20201))
listener = socket.create_server(('::1', 20202), family=socket.AF_INET6)
names = [socket.socket(unix) for _ in range(2)]
names[0].bind('\\0explained')
names[0].listen()
names[1].bind(os.getcwd() + '/socket')
me = os.path.basename(os.readlink('/proc/self/exe'))
def explain(*call):
    words = os.environ['LAUNCHER'], 'explain', ' '.join(call)
    said = subprocess.run(words, capture_output=True, text=True).stdout
    said = said.replace(f'{me}[{os.getpid()}]', 'ME').replace(os.getcwd(), 'HERE')
    print(*[line.strip() for line in said.splitlines() if 'held by' in line or '  result' in line], sep='; ')
";

fn holders() -> Result<(), Failed> {
    let calls = "
explain('bind tcp 127.0.0.1:20200')
explain('bind tcp 0.0.0.0:20200')
explain('bind tcp 127.0.0.2:20200')
explain('bind udp 127.0.0.1:20201')
explain('bind tcp [::1]:20202')
explain('bind tcp 127.0.0.1:20202')
explain('bind unix unix:@explained')
explain('bind unix-dgram unix:@explained')
explain('bind unix unix:@another')
explain('bind unix unix:' + os.getcwd() + '/socket')
listener.close(); names[1].close()
explain('bind tcp [::1]:20202')
explain('bind unix unix:' + os.getcwd() + '/socket')
";
    let outcome = python(&format!("{SCRIPT}{calls}"))
        .env("LAUNCHER", &stage().launcher)
        .finish();
    let expected = "\
        held by ME at 127.0.0.1:20200, bound; result    EADDRINUSE\n\
        held by ME at 127.0.0.1:20200, bound; result    EADDRINUSE\n\
        result    ok 127.0.0.2:20200\n\
        held by ME at 0.0.0.0:20201, bound; result    EADDRINUSE\n\
        held by ME at [::1]:20202, listening; result    EADDRINUSE\n\
        result    ok 127.0.0.1:20202\n\
        held by ME at unix:@explained, listening; result    EADDRINUSE\n\
        result    ok unix:@explained\n\
        result    ok unix:@another\n\
        held by ME at unix:HERE/socket, bound; result    EADDRINUSE\n\
        result    ok [::1]:20202\n\
        result    EADDRINUSE\n";
    same("exit 0", &outcome.status, &outcome.seen())?;
    Ok(same(expected, &outcome.stdout, "explain")?)
}

/// Of another user's socket the user and the inode are known.
fn foreign() -> Result<(), Failed> {
    let script = format!(
        "{SCRIPT}
os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
explain('bind tcp 127.0.0.1:20200')
"
    );
    let run = python(&script).user(0);
    let outcome = run.env("LAUNCHER", &stage().launcher).finish();
    same("exit 0", &outcome.status, &outcome.seen())?;
    let said = &outcome.stdout;
    let held = "held by a process of uid 0 (socket ";
    if said.starts_with(held) && said.ends_with("at 127.0.0.1:20200, bound; result    EADDRINUSE\n")
    {
        return Ok(());
    }
    Err(outcome.seen().into())
}

/// What `explain` says about the machine's own CID and about another one, and what
/// the kernel says, where the machine is a guest. Nothing but binds.
fn own_cid() -> Result<(), Failed> {
    let calls = "
import errno, fcntl
def bind(cid):
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as s:
        try:
            s.bind((cid, 39000))
        except OSError as e:
            return errno.errorcode[e.errno]
        return f'ok vsock:{cid}:39000'
try:
    # IOCTL_VM_SOCKETS_GET_LOCAL_CID
    with open('/dev/vsock') as device:
        cid = int.from_bytes(fcntl.ioctl(device, 0x7b9, bytes(4)), 'little')
except OSError:
    cid = 0
if 2 < cid < 0xffffffff:
    print('of a guest')
    for cid in cid, cid + 1:
        print('  result   ', bind(cid), sep=' ')
        explain(f'bind vsock vsock:{cid}:39000')
";
    let outcome = python(&format!("{SCRIPT}{calls}"))
        .env("LAUNCHER", &stage().launcher)
        .finish();
    same("exit 0", &outcome.status, &outcome.seen())?;
    let lines: Vec<_> = outcome.stdout.lines().map(str::trim).collect();
    match lines.as_slice() {
        // Nobody is there to tell the CID.
        [] => Ok(()),
        ["of a guest", own, said, other, said_of_other] => {
            let is_own = own.starts_with("result    ok vsock:");
            let is_other = *other == "result    EADDRNOTAVAIL";
            same("true true", &format!("{is_own} {is_other}"), "the kernel")?;
            same(own, said, "the own CID")?;
            Ok(same(other, said_of_other, "another CID")?)
        }
        _ => Err(outcome.seen().into()),
    }
}
