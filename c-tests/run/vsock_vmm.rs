//! `run --vsock-uds` and `--vsock-port`: a virtual machine monitor on the other side.

use libtest_mimic::{Failed, Trial};

use super::vsock::script;
use support::{Below, NOBODY, same};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("vsock monitor: a program calls the guest", || {
            calls(None, None)
        }),
        Trial::test("vsock monitor: without AF_VSOCK", || {
            calls(None, Some(Below::NoVsock))
        }),
        Trial::test("vsock monitor: a handshake has its time as a whole", slow),
        Trial::test("vsock monitor: the guest calls a program", called),
        Trial::test("vsock monitor: a socket for each port", ports),
        Trial::test("vsock monitor: a run inside has the same one", nested),
    ];
    if support::has_nobody() {
        trials.push(Trial::test("vsock monitor: as nobody", || {
            calls(Some(NOBODY), None)
        }));
    }
    trials
}

/// Speaks for a guest at `vm.sock`; what it does depends on the port.
const MONITOR: &str = "\
import socket, threading, time
listener = socket.socket(socket.AF_UNIX)
listener.bind('vm.sock')
listener.listen(50)
kept = []
def serve(c):
    line = b''
    while not line.endswith(b'\\n'):
        byte = c.recv(1)
        if not byte: return
        line += byte
    verb, port = line.split()
    assert verb == b'CONNECT' and line == b'CONNECT %s\\n' % port
    if port == b'52': c.sendall(b'OK 1073741824\\nBANNER')
    elif port == b'53':
        c.sendall(b'OK 10')
        time.sleep(0.05)
        c.sendall(b'73741824\\nBANNER')
    elif port == b'54': c.close()
    elif port == b'55': c.sendall(b'NO 1\\n')
    elif port == b'56':
        for byte in b'OK 1073741824\\n':
            try: c.sendall(bytes([byte]))
            except OSError: return
            time.sleep(0.1)
    elif port == b'57': c.sendall(b'OK'); kept.append(c)
    elif port == b'58': c.sendall(b'O' * 100)
    else:
        c.sendall(b'OK 1\\n')
        c.sendall(c.recv(100).upper())
while True: threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()";

/// The beginning of each program that calls.
const STREAM: &str = "\
import socket, ctypes, struct, time, os, select
def stream(): return socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
def limit(s, seconds, micros):
    value = struct.pack('@ll', seconds, micros)
    assert ctypes.CDLL(None).setsockopt(s.fileno(), 40, 6, value, len(value)) == 0
";

/// Starts the monitor, runs some lines, and ends it.
const WITH_MONITOR: &str = "\
python3 -c \"$MONITOR\" & monitor=$!; until_there vm.sock
$B run -q --vsock-uds vm.sock -- python3 -c \"$STREAM$PROGRAM\"; echo $?; kill $monitor";

fn calls(user: Option<u32>, below: Option<Below>) -> Result<(), Failed> {
    const PROGRAM: &str = "
for port in 52, 53, 54, 55, 58, 5000:
    s = stream()
    try:
        s.connect((7, port))
        if port == 5000: s.sendall(b'hello')
        print(port, s.getpeername(), s.getsockname()[0] == socket.VMADDR_CID_ANY, s.recv(6))
    except OSError as e: print(port, e.strerror)
    if port == 54:
        s.connect((7, 52))
        print('again', s.getpeername(), s.recv(6))
for port in 53, 54:
    s = stream()
    s.setblocking(False)
    watch = select.epoll(); watch.register(s, select.EPOLLOUT | select.EPOLLIN)
    print(port, os.strerror(s.connect_ex((7, port))), s.getblocking())
    if port == 53: print(watch.poll(0) != [], s.recv(6))
s = stream()
s.bind((socket.VMADDR_CID_ANY, 9000))
print(s.connect_ex((7, 54)), s.getsockname(), s.connect_ex((7, 52)), s.recv(6))
os.rename('vm.sock', 'gone')
print(os.strerror(stream().connect_ex((7, 52))))
print(os.strerror(stream().connect_ex((1, 52))), os.strerror(stream().connect_ex((2, 52))))";
    let mut run = script(WITH_MONITOR)
        .env("MONITOR", MONITOR)
        .env("STREAM", STREAM)
        .env("PROGRAM", PROGRAM)
        .below(below);
    if let Some(user) = user {
        run = run.user(user);
    }
    let expected = "stdout| 52 (7, 52) True b'BANNER'\n\
                    stdout| 53 (7, 53) True b'BANNER'\n\
                    stdout| 54 Connection reset by peer\n\
                    stdout| again (7, 52) b'BANNER'\n\
                    stdout| 55 Connection reset by peer\n\
                    stdout| 58 Connection reset by peer\n\
                    stdout| 5000 (7, 5000) True b'HELLO'\n\
                    stdout| 53 Operation now in progress False\n\
                    stdout| True b'BANNER'\n\
                    stdout| 54 Connection reset by peer False\n\
                    stdout| 104 (4294967295, 9000) 0 b'BANNER'\n\
                    stdout| No such device\n\
                    stdout| Connection reset by peer Connection reset by peer\n\
                    stdout| 0\n\
                    exit 0\n";
    Ok(same(
        expected,
        &run.finish().seen(),
        "calls through a monitor",
    )?)
}

/// The connect time-out is for the whole answer: a byte now and then does not
/// prolong it, and an answer within it is waited for.
fn slow() -> Result<(), Failed> {
    const PROGRAM: &str = "
for port in 56, 57:
    s = stream()
    limit(s, 0, 300000)
    s.settimeout(5)
    s.setblocking(port == 56)
    start = time.monotonic()
    print(os.strerror(s.connect_ex((3, port))), 0.3 <= time.monotonic() - start < 1.2)
limit(s, 60, 0)
print(s.connect_ex((3, 56)) in (0, 115), s.getpeername())";
    let outcome = script(WITH_MONITOR)
        .env("MONITOR", MONITOR)
        .env("STREAM", STREAM)
        .env("PROGRAM", PROGRAM)
        .finish();
    let expected = "stdout| Connection timed out True\n\
                    stdout| Connection timed out True\n\
                    stdout| True (3, 56)\n\
                    stdout| 0\n\
                    exit 0\n";
    Ok(same(expected, &outcome.seen(), "slow handshakes")?)
}

fn called() -> Result<(), Failed> {
    const PROGRAM: &str = "
listeners = []
for cid, port in (socket.VMADDR_CID_ANY, 5000), (2, 5001):
    s = stream()
    s.bind((cid, port)); s.listen()
    listeners.append(s)
    for other in socket.VMADDR_CID_ANY, 2, 1:
        try: stream().bind((other, port)); print('bound twice')
        except OSError as e: assert e.errno == 98, e
    guest = socket.socket(socket.AF_UNIX)
    guest.connect('vm.sock_%d' % port)
    c, (from_cid, from_port) = s.accept()
    print(s.getsockname(), from_cid, c.getpeername() == (from_cid, from_port), c.getsockname())
    guest.sendall(b'hello')
    c.sendall(c.recv(5).upper())
    print(guest.recv(5))
here = stream()
here.connect((2, 5000))
print(here.getpeername(), listeners[0].accept()[1][0], sorted(os.listdir()))
print(os.strerror(stream().connect_ex((1, 5002))))
os.sys.stdout.flush()
os._exit(0)";
    // What was killed leaves files behind, which are nobody's.
    const NEXT: &str = "
s = stream()
s.bind((2, 5000)); s.listen()
print(s.getsockname())";
    let outcome = script(
        "$B run -q --vsock-uds vm.sock --vsock-guest 9 -- python3 -c \"$STREAM$PROGRAM\"\n\
         $B run -q --vsock-uds vm.sock -- python3 -c \"$STREAM$NEXT\"",
    )
    .env("STREAM", STREAM)
    .env("NEXT", NEXT)
    .env("PROGRAM", PROGRAM)
    .finish();
    let expected = "stdout| (4294967295, 5000) 9 True (2, 5000)\n\
                    stdout| b'HELLO'\n\
                    stdout| (2, 5001) 9 True (2, 5001)\n\
                    stdout| b'HELLO'\n\
                    stdout| (2, 5000) 1 ['vm.sock_5000', 'vm.sock_5001']\n\
                    stdout| Connection reset by peer\n\
                    stdout| (2, 5000)\n\
                    exit 0\n";
    Ok(same(expected, &outcome.seen(), "calls of a guest")?)
}

/// libkrun's and vfkit's sockets, seen from the host and from a guest.
fn ports() -> Result<(), Failed> {
    const PROGRAM: &str = "
import sys
other = int(sys.argv[1])
print(os.strerror(stream().connect_ex((other, 5000))))
s = stream()
s.bind((socket.VMADDR_CID_ANY, 5000)); s.listen()
there = socket.socket(socket.AF_UNIX)
there.connect('port')
c, (cid, port) = s.accept()
print(cid, c.getpeername() == (cid, port), c.getsockname())
s.close()
os.unlink('port')
there = socket.socket(socket.AF_UNIX)
there.bind('port'); there.listen()
c = stream()
c.connect((other, 5000))
c.sendall(b'hello')
print(c.getpeername(), there.accept()[0].recv(5))
s = stream(); s.bind((1, 7000)); s.listen()
c = stream(); c.connect((1, 7000))
print(s.accept()[1][0], sorted(os.listdir()))";
    let outcome = script(
        "$B run -q --vsock-port 5000=port --vsock-port 5001=q -- python3 -c \"$STREAM$PROGRAM\" 3\n\
         rm port; $B run -q --cid 9 --vsock-port 5000=port -- python3 -c \"$STREAM$PROGRAM\" 2",
    )
    .env("STREAM", STREAM)
    .env("PROGRAM", PROGRAM)
    .finish();
    let expected = "stdout| Connection reset by peer\n\
                    stdout| 3 True (2, 5000)\n\
                    stdout| (3, 5000) b'hello'\n\
                    stdout| 1 ['port']\n\
                    stdout| Connection reset by peer\n\
                    stdout| 2 True (9, 5000)\n\
                    stdout| (2, 5000) b'hello'\n\
                    stdout| 1 ['port']\n\
                    exit 0\n";
    Ok(same(expected, &outcome.seen(), "sockets of ports")?)
}

fn nested() -> Result<(), Failed> {
    let outcome = script(
        "$B run -q --vsock-uds ../${PWD##*/}/vm.sock -- $B run -q --vsock-uds ./vm.sock -- echo same\n\
         $B run -q --vsock-uds vm.sock -- $B run -q --vsock-uds other.sock -- echo other\n\
         $B run -q --vsock-uds $(printf %095d 1) -- true 2>/dev/null; echo $?\n\
         $B run -q --vsock-port 5000 -- true 2>/dev/null; echo $?",
    )
    .finish();
    let expected = "stdout| same\n\
                    stdout| 2\n\
                    stdout| 2\n\
                    stderr| bindgate: the run around this one is the vsock host with context id 2: \
                    a run inside is on the same host\n\
                    exit 0\n";
    Ok(same(expected, &outcome.seen(), "a run inside")?)
}
