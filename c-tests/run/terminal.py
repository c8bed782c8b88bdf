"""Runs a command on a terminal of its own and acts as the person before it.

usage: terminal.py COMMAND STEPS

COMMAND is a JSON list of words. STEPS is a JSON list of pairs: ["see", TEXT]
waits until TEXT has appeared since the last step, ["type", TEXT] types,
["end", ""] waits for the command's end. Afterwards everything that was seen
is printed, and how the command ended.
"""

import json
import os
import pty
import select
import signal
import sys
import time

command, steps = json.loads(sys.argv[1]), json.loads(sys.argv[2])
pid, terminal = pty.fork()
if pid == 0:
    # A shell without job control starts what is in the background with these
    # two ignored.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], command)

seen = ""
position = 0


class Patience:
    """As in support/patience.rs: time of a quiet machine, but for less of it,
    so that it is this program that tells what was seen."""

    def __init__(self):
        self.left = 0.8 * float(os.environ.get("BINDGATE_TEST_PATIENCE", 120))
        self.last = time.monotonic()

    def is_over(self):
        now = time.monotonic()
        self.left -= (now - self.last) / max(1, os.getloadavg()[0] / os.cpu_count())
        self.last = now
        return self.left < 0


def read(seconds):
    """More of what appears; False at the end."""
    global seen
    if not select.select([terminal], [], [], seconds)[0]:
        return True
    try:
        data = os.read(terminal, 65536)
    except OSError:  # nobody is left on the other side
        return False
    seen += data.decode(errors="replace")
    return bool(data)


def fail(why):
    print(f"{why}\nseen so far: {seen!r}")
    os.kill(pid, 9)
    sys.exit(1)


for action, text in steps:
    patience = Patience()
    if action == "type":
        position = len(seen)
        os.write(terminal, text.encode())
    elif action == "see":
        while (found := seen.find(text, position)) < 0:
            if not read(0.1) or patience.is_over():
                fail(f"never seen: {text!r}")
        position = found + len(text)
    elif action == "end":
        while read(0.1):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            if patience.is_over():
                fail("it does not end")

# Until nobody is left on the other side.
patience = Patience()
while read(0.1):
    if patience.is_over():
        fail("somebody keeps the terminal")
_, status = os.waitpid(pid, 0)
print(seen.replace("\r\n", "\n"))
if os.WIFSIGNALED(status):
    print(f"signal {os.WTERMSIG(status)}")
else:
    print(f"exit {os.WEXITSTATUS(status)}")
