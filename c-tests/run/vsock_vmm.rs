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
        Trial::test("vsock monitor: a guest is called", || guest(None, None)),
        Trial::test("vsock monitor: a guest without AF_VSOCK", || {
            guest(None, Some(Below::NoVsock))
        }),
        Trial::test("vsock monitor: a full queue is answered at once", full),
        Trial::test("vsock monitor: a guest and its host are two runs", both),
        Trial::test("vsock monitor: a path is answered by one", taken),
        Trial::test("vsock monitor: a run inside has the same one", nested),
    ];
    if support::has_nobody() {
        trials.push(Trial::test("vsock monitor: as nobody", || {
            calls(Some(NOBODY), None)
        }));
        trials.push(Trial::test("vsock monitor: a guest as nobody", || {
            guest(Some(NOBODY), None)
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

/// Speaks to the guest's side as Firecracker's clients do.
const TOOL: &str = "\
import socket, time, os
def dial(text):
    s = socket.socket(socket.AF_UNIX)
    s.connect('vm.sock')
    s.sendall(text)
    return s
def line(s):
    text = b''
    while not text.endswith(b'\\n'):
        try: byte = s.recv(1)
        except ConnectionResetError: byte = b''
        if not byte: break
        text += byte
    return text
def rest(s):
    text = b''
    while piece := s.recv(100): text += piece
    return text
";

/// A server's side is written to a file: two programs print in any order.
const GUEST: &str = "
s = stream()
s.bind((socket.VMADDR_CID_ANY, 5000)); s.listen()
open('ready', 'w').close()
with open('server', 'w') as log:
    for turn in range(6):
        select.select([s], [], [])
        c, peer = s.accept()
        domain = c.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)
        print(peer[0], peer == c.getpeername(), c.getsockname(), domain, os.get_inheritable(c.fileno()),
              c.getblocking(), file=log)
        data = b''
        try:
            while piece := c.recv(100): data += piece
            c.sendall(data.upper())
        except (BrokenPipeError, ConnectionResetError): print('gone with', data, file=log)
        c.close()
s.close()
print(os.strerror(stream().connect_ex((2, 6000))), file=open('client', 'w'))
open('closed', 'w').close()
while not os.path.exists('vm.sock_6000'): time.sleep(0.01)
c = stream()
while c.connect_ex((2, 6000)): time.sleep(0.01)
c.sendall(repr((c.getpeername(), c.getsockname()[0])).encode())";

/// Bytes behind the line stay, whoever stalls is in nobody's way, and a client may
/// have hung up before it is accepted.
fn guest(user: Option<u32>, below: Option<Below>) -> Result<(), Failed> {
    const CLIENT: &str = "
for text in b'CONNECT 5999\\n', b'HELLO 5000\\n', b'CONNECT\\n', b'CONNECT 5000 ' + b'x' * 50: print(line(dial(text)))
stalls = [dial(text) for text in (b'', b'CONN', b'CONNECT 50')]
early = dial(b'CONNECT 5000\\nearly')
print(line(early))
early.sendall(b' and late')
early.shutdown(socket.SHUT_WR)
print(rest(early))
once = dial(b'CONNECT 5000\\nonce')
once.shutdown(socket.SHUT_WR)
print(line(once), rest(once))
dial(b'CONNECT 5000\\ngone').close()
for s, text in zip(stalls, (b'connect 5000\\n', b'ECT 5000\\n', b'00\\n')):
    s.sendall(text + b'stalled')
    s.shutdown(socket.SHUT_WR)
    print(line(s)[:7], rest(s))
while not os.path.exists('closed'): time.sleep(0.01)
print(line(dial(b'CONNECT 5000\\n')))
there = socket.socket(socket.AF_UNIX)
there.bind('vm.sock_6000'); there.listen()
print(there.accept()[0].recv(100).decode())";
    let mut run = script(
        "$B run -q --cid 3 --vsock-uds vm.sock -- python3 -c \"$STREAM$GUEST\" & until_there ready\n\
         python3 -c \"$TOOL$CLIENT\"; wait $!; echo $?; sort server | uniq -c | sed 's/^ *//'; cat client\n\
         while [ -e vm.sock ]; do sleep 0.01; done; ls",
    )
    .env("STREAM", STREAM)
    .env("GUEST", GUEST)
    .env("TOOL", TOOL)
    .env("CLIENT", CLIENT)
    .below(below);
    if let Some(user) = user {
        run = run.user(user);
    }
    let expected = "stdout| b''\n\
                    stdout| b''\n\
                    stdout| b''\n\
                    stdout| b''\n\
                    stdout| b'OK 1073741824\\n'\n\
                    stdout| b'EARLY AND LATE'\n\
                    stdout| b'OK 1073741825\\n' b'ONCE'\n\
                    stdout| b'OK 1073' b'STALLED'\n\
                    stdout| b'OK 1073' b'STALLED'\n\
                    stdout| b'OK 1073' b'STALLED'\n\
                    stdout| b''\n\
                    stdout| ((2, 6000), 4294967295)\n\
                    stdout| 0\n\
                    stdout| 6 2 True (3, 5000) 40 False True\n\
                    stdout| 1 gone with b'gone'\n\
                    stdout| Connection reset by peer\n\
                    stdout| client\n\
                    stdout| closed\n\
                    stdout| ready\n\
                    stdout| server\n\
                    stdout| vm.sock_6000\n\
                    exit 0\n";
    Ok(same(expected, &run.finish().seen(), "a guest")?)
}

fn full() -> Result<(), Failed> {
    const FULL: &str = "
s = stream()
s.bind((3, 5000)); s.listen(1)
open('ready', 'w').close()
while not os.path.exists('go'): time.sleep(0.01)
for _ in range(2): s.accept()[0].sendall(b'hello')";
    const CLIENT: &str = "
held, refused = [], []
for _ in range(12):
    start = time.monotonic()
    s = dial(b'CONNECT 5000\\n')
    if line(s): held.append(s)
    else: refused.append(time.monotonic() - start)
print(len(held), len(refused), min(refused) < 0.01)
open('go', 'w').close()
print([s.recv(5) for s in held])";
    let outcome = script(
        "$B run -q --cid 3 --vsock-uds vm.sock -- python3 -c \"$STREAM$FULL\" & until_there ready\n\
         python3 -c \"$TOOL$CLIENT\"; wait $!; echo $?",
    )
    .env("STREAM", STREAM)
    .env("FULL", FULL)
    .env("TOOL", TOOL)
    .env("CLIENT", CLIENT)
    .finish();
    let expected = "stdout| 2 10 True\n\
                    stdout| [b'hello', b'hello']\n\
                    stdout| 0\n\
                    exit 0\n";
    Ok(same(expected, &outcome.seen(), "a full queue")?)
}

fn both() -> Result<(), Failed> {
    const GUEST: &str = "
s = stream(); s.bind((socket.VMADDR_CID_ANY, 5000)); s.listen()
open('ready', 'w').close()
c, peer = s.accept()
back = stream(); back.connect((2, int(c.recv(10))))
back.sendall(c.recv(100) + b' and back')";
    const HOST: &str = "
s = stream(); s.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY)); s.listen()
c = stream(); c.connect((3, 5000))
c.sendall(b'%10d' % s.getsockname()[1]); c.sendall(b'there')
b, peer = s.accept()
print(peer[0], b.recv(100))";
    let outcome = script(
        "$B run -q --cid 3 --vsock-uds vm.sock -- python3 -c \"$STREAM$GUEST\" & until_there ready\n\
         $B run -q --vsock-uds vm.sock -- python3 -c \"$STREAM$HOST\"; wait $!; echo $?",
    )
    .env("STREAM", STREAM)
    .env("GUEST", GUEST)
    .env("HOST", HOST)
    .finish();
    let expected = "stdout| 3 b'there and back'\n\
                    stdout| 0\n\
                    exit 0\n";
    Ok(same(expected, &outcome.seen(), "a guest and its host")?)
}

fn taken() -> Result<(), Failed> {
    let outcome = script(
        "$B run -q --cid 3 --vsock-uds vm.sock -- sh -c 'touch ready; until [ -e end ]; do sleep 0.01; done' & \
         until_there ready\n\
         $B run -q --cid 4 --vsock-uds vm.sock -- true 2>&1 | sed \"s:$PWD:DIR:\"\n\
         touch end; wait; $B run -q --cid 4 --vsock-uds vm.sock -- ls vm.sock\n\
         while [ -e vm.sock ]; do sleep 0.01; done; ls\n\
         $B run -q --isolate=sealed --cid 4 --vsock-uds vm.sock -- true 2>/dev/null; echo $?",
    )
    .finish();
    let expected = "stdout| bindgate: the socket DIR/vm.sock is taken: somebody else is there\n\
                    stdout| vm.sock\n\
                    stdout| end\n\
                    stdout| ready\n\
                    stdout| 2\n\
                    exit 0\n";
    Ok(same(expected, &outcome.seen(), "a path that is taken")?)
}
