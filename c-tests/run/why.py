import os, socket, struct, subprocess, sys, time

LAUNCHER = os.environ.get("LAUNCHER", "")
REUSEADDR, REUSEPORT, V6ONLY, FREEBIND = (1, 2, 1), (1, 15, 1), (41, 26, 1), (0, 15, 1)
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
kept = []


def new(at, kind=TCP, on=()):
    family = socket.AF_INET
    if isinstance(at, str):
        family = socket.AF_UNIX
    elif ":" in at[0]:
        family = socket.AF_INET6
    s = socket.socket(family, kind)
    for option in on:
        s.setsockopt(*option)
    return s


def bound(at, kind=TCP, on=(), listen=False):
    s = new(at, kind, on)
    s.bind(at)
    if listen:
        s.listen()
    kept.append(s)
    return s


def listens(at, on=()):
    return bound(at, on=on, listen=True)


def let_go(s):
    kept.remove(s)
    s.close()


# The other side may take its time to acknowledge a FIN: until then it is FIN_WAIT1.
def acknowledged(port):
    def rows():
        with open("/proc/net/tcp6") as file:
            return [line.split() for line in file][1:]

    while any(row[1].endswith(f":{port:04X}") and row[3] == "04" for row in rows()):
        time.sleep(0.005)


def fails(at, kind=TCP, on=()):
    s = new(at, kind, on)
    try:
        s.bind(at)
        print("bound", at)
    except OSError:
        pass
    s.close()


def refused(at):
    s = new(at)
    try:
        s.connect(at)
        print("connected", at)
    except OSError:
        pass
    s.close()


def child(name, part):
    """A process that does this, and stays until this one ends."""
    ready, done = os.pipe()
    stay, go = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(go)
        part()
        os.write(done, b".")
        os.read(stay, 1)
        os._exit(0)
    os.close(done)
    os.close(stay)
    kept.append(go)
    os.read(ready, 1)
    named(name, pid)
    return pid


def named(name, pid=None):
    print("pid", name, pid or os.getpid(), flush=True)


def why(*call, uid=None):
    """What `bindgate why` says of a call, without all that is not asked for here."""
    def become():
        if uid is not None:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
    words = [LAUNCHER, "why", *" ".join(call).split()]
    said = subprocess.run(words, capture_output=True, text=True, preexec_fn=become)
    print(said.stdout, end="")
    print(said.stderr, end="", flush=True)


named("ME")
