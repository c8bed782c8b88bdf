#!/usr/bin/env python3
"""scripts/compare notices what it is there to notice."""
import importlib.machinery
import importlib.util
import os
import stat
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)

import strace  # noqa: E402


def calls(*texts):
    """A line that begins with a `!` was made by the shim."""
    return [strace.Call(t.lstrip('!'), t.startswith('!')) for t in texts]


SOCKET = 'socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = 3'
BIND = 'bind(3, {sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("127.0.0.1")}, 16) = 0'
BIND_AUTO = BIND.replace('8080', '0')
ASK = '!getsockname(3, {sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("127.0.0.1")}, [128 => 16]) = 0'
EXEC = 'execve("/bin/x", ["x"], 0x7ffd0 /* 3 vars */) = 0'


class OwnCalls(unittest.TestCase):
    def faults(self, *texts, **options):
        return len(strace.own_calls(calls(*texts), **options)[1])

    def test_questions(self):
        self.assertEqual(self.faults(SOCKET, BIND_AUTO, ASK), 0)
        self.assertEqual(self.faults(SOCKET, BIND, ASK), 1)
        self.assertEqual(self.faults(SOCKET, BIND, ASK, rules=True), 0)
        self.assertEqual(self.faults(SOCKET, ASK), 1)
        self.assertEqual(self.faults(BIND_AUTO.replace('(3', '(4'), ASK), 1)

    def test_reasons(self):
        send = 'sendto(3, "x", 1, 0, NULL, 0) = 1'
        reasons, _ = strace.own_calls(calls(send, SOCKET, BIND_AUTO, ASK, send))
        self.assertEqual(dict(reasons), {'getsockname for bind': 1})

    def test_start(self):
        opened = '!openat(AT_FDCWD, "/proc/7/fd/5", O_RDWR|O_CLOEXEC) = 3'
        self.assertEqual(self.faults(EXEC, opened, '!close(3) = 0', SOCKET), 0)
        self.assertEqual(self.faults(EXEC, opened, SOCKET), 1)
        self.assertEqual(self.faults(EXEC, opened, '!exit_group(0) = ?'), 1)
        self.assertEqual(self.faults(EXEC, opened), 0)
        self.assertEqual(self.faults(EXEC, opened, '!close(3) = 0', SOCKET, opened, '!close(3) = 0', BIND), 2)

    def test_exec(self):
        looked = '!newfstatat(AT_FDCWD, "/bin/x", {st_mode=S_IFREG|0755, st_size=1, ...}, 0) = 0'
        self.assertEqual(self.faults(looked, EXEC), 0)
        self.assertEqual(self.faults(looked, SOCKET), 1)

    def test_moves(self):
        self.assertEqual(self.faults('!bind(4, {}, 16) = 0', BIND), 1)
        self.assertEqual(self.faults('!bind(4, {}, 16) = 0', BIND, rules=True, places=True), 0)


class Read(unittest.TestCase):
    def test_threads_and_authors(self):
        lines = '''\
10 [00007f0000000001] execve("/bin/x", ["x"], 0x7ffd0 /* 3 vars */) = 0
10 [00007f0000000002] openat(AT_FDCWD, "/lib/libbindgate.so", O_RDONLY|O_CLOEXEC) = 3
10 [00007f0000000002] mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_DENYWRITE, 3, 0) = 0x7fff00000000
10 [00007f0000000002] close(3)       = 0
10 [00007fff00000100] openat(AT_FDCWD, "/proc/1/fd/5", O_RDWR) = 3
10 [00007fff00000300] vfork( <unfinished ...>
11 [00007fff00000200] close(3)       = 0
10 [00007fff00000300] <... vfork resumed>) = 11
11 [00007f0000000004] dup(0)         = ? ERESTARTSYS (To be restarted if SA_RESTART is set)
11 [00007f0000000004] exit_group(0)  = ?
11 [????????????????] +++ exited with 0 +++
10 [00007f0000000005] kill(11, SIGTERM) = 0
'''
        with tempfile.NamedTemporaryFile('w') as f:
            f.write(lines)
            f.flush()
            seen = {key: [(strace.name(c.text), c.own) for c in threads]
                    for key, threads in strace.read(f.name).items()}
        self.assertEqual(seen, {
            (0,): [('execve', False), ('openat', True), ('vfork', False), ('kill', False)],
            (0, 0): [('close', True), ('exit_group', False)],
        })


class Judges(unittest.TestCase):
    """What one odd run among four of each side is taken for."""

    def verdict(self, what, *odd):
        loader = importlib.machinery.SourceFileLoader('compare', os.path.join(HERE, '..', 'compare'))
        compare = importlib.util.module_from_spec(importlib.util.spec_from_loader('compare', loader))
        loader.exec_module(compare)
        found = compare.Findings()
        again = compare.compare_view(what, [['usual']] * 4, [[x] for x in (*odd, *['usual'] * (4 - len(odd)))], found)
        self.assertFalse(again)
        return list(found.differs)

    def test_snapshots(self):
        self.assertEqual(self.verdict('fds', 'odd'), [])
        self.assertEqual(self.verdict('fds', 'odd', 'odd'), ['fds'])

    def test_results(self):
        self.assertEqual(self.verdict('stdout', 'odd'), ['stdout'])
        self.assertEqual(self.verdict('status'), [])


class Notices(unittest.TestCase):
    """A launcher that is one only by name, and changes what the program sees."""

    def compared(self, change, what, *program, options=()):
        with tempfile.TemporaryDirectory() as work:
            launcher = os.path.join(work, 'launcher')
            with open(launcher, 'w') as f:
                f.write(f'#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\n{change}\n')
            os.chmod(launcher, stat.S_IRWXU)
            run = subprocess.run([os.path.join(HERE, '..', 'compare'), '--once', '--bindgate', launcher, *options,
                                  '--', *program], capture_output=True, text=True)
            self.assertEqual(run.stderr, '')
            verdict = run.stdout.splitlines()[-1].strip()
            self.assertEqual(verdict, f'DIFFERENT: {what}' if what else 'no difference', run.stdout)
            self.assertEqual(run.returncode, 1 if what else 0)

    def test_nothing(self):
        self.compared('exec "$@"', '', 'cat', '/dev/null')

    def test_status(self):
        self.compared('"$@"; exit 3', 'status', 'true', options=['--only', 'status'])

    def test_output(self):
        self.compared('echo more; exec "$@"', 'stdout', 'true')
        self.compared('echo more >&2; exec "$@"', 'stderr', 'true')

    def test_descriptors(self):
        self.compared('exec 3</dev/null "$@"', 'fds, trace', 'cat', '/dev/null')

    def test_mappings(self):
        self.compared('LD_PRELOAD="$LD_PRELOAD libm.so.6" exec "$@"', 'maps', 'true',
                      options=['--skip', 'trace'])

    def test_calls(self):
        self.compared('exec 8</dev/null "$@"', 'trace', 'sh', '-c', 'exec 8<&-', options=['--only', 'trace'])

    def test_listening(self):
        script = 'import os, socket, sys; s = socket.create_server(("127.0.0.1", 9)); ' \
            's.set_inheritable(True); os.execvp(sys.argv[1], sys.argv[1:])'
        self.compared(f"exec python3 -c '{script}' \"$@\"", 'listening', 'sleep', '10',
                      options=['--at', '0.5', '--only', 'listening'])


if __name__ == '__main__':
    unittest.main()
