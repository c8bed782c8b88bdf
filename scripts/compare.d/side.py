"""One run of a program, and what could be seen of it."""
import os
import re
import shutil
import signal
import subprocess
import time

import strace

# The launcher, and what stands between it and the program.
SCAFFOLD = ('bindgate', 'strace', 'unshare', 'nsenter')


def exe(pid):
    try:
        return os.path.basename(os.readlink(f'/proc/{pid}/exe'))
    except OSError:
        return ''


class Namespace:
    """A network namespace that outlives the program, so that somebody can look
    at it after."""

    def __init__(self):
        space = ['unshare', '-n'] if os.geteuid() == 0 else ['unshare', '-rn']
        self.holder = subprocess.Popen(space + ['sh', '-c', 'ip link set lo up; echo; exec sleep 100000'],
                                       stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        self.enter = ['nsenter', '-t', str(self.holder.pid), '-n'] + \
            (['-U', '--preserve-credentials'] if os.geteuid() else []) + ['--']

    def listening(self):
        ss = subprocess.run(self.enter + ['ss', '-Hlntup'], capture_output=True, text=True)
        out = []
        for line in ss.stdout.splitlines():
            line = re.sub(r'pid=\d+', 'pid=PID', ' '.join(line.split()))
            # Ports that the kernel chose.
            out.append(re.sub(r':(3276[89]|327[7-9]\d|32[89]\d\d|3[3-9]\d{3}|[45]\d{4}|60\d{3})\b', ':AUTO', line))
        return sorted(out)

    def members(self):
        space = os.stat(f'/proc/{self.holder.pid}/ns/net').st_ino
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                if os.stat(f'/proc/{pid}/ns/net').st_ino == space and int(pid) != self.holder.pid:
                    yield int(pid)
            except OSError:
                pass

    def end(self):
        for pid in self.members():
            if exe(pid) != 'bindgate':
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
        self.holder.kill()
        self.holder.wait()


class Side:
    """What one run of the program left."""

    def __init__(self, args, work, name, preloaded, traced):
        self.args = args
        self.dir = os.path.join(work, name)
        os.makedirs(self.dir)
        # Programs change their user.
        os.chmod(self.dir, 0o777)
        self.listening = self.snapshot = None
        # The same path on every side: it shows up in outputs.
        cwd = args.directory or os.path.join(work, 'cwd')
        if not args.directory:
            shutil.rmtree(cwd, ignore_errors=True)
            os.makedirs(os.path.join(cwd, 'tmp'))
            for made in cwd, os.path.join(cwd, 'tmp'):
                os.chmod(made, 0o777)
        env = dict(os.environ, PYTHONHASHSEED='0', PYTHONDONTWRITEBYTECODE='1')
        if not args.directory:
            env.update(TMPDIR=os.path.join(cwd, 'tmp'), HOME=cwd)
        for key in [k for k in env if k.startswith(('BINDGATE', 'LD_'))]:
            del env[key]
        command = list(args.program)
        if traced:
            command = ['strace'] + strace.OPTIONS + ['-o', os.path.join(self.dir, 'trace')] + command
        elif 'fds' in args.what or 'maps' in args.what:
            env['LD_PRELOAD'] = os.path.join(work, 'witness.so')
            env['WITNESS'] = os.path.join(self.dir, '.witness.')
        if preloaded:
            rules = args.rule or ['mode observe']
            command = [args.bindgate, 'run', '--log', os.path.join(self.dir, 'log')] + \
                [x for r in rules for x in ('-r', r)] + ['--'] + command
        space = Namespace()
        try:
            with open(os.path.join(self.dir, 'stdout'), 'wb') as out, \
                    open(os.path.join(self.dir, 'stderr'), 'wb') as err, open(args.input) as inp:
                start = time.monotonic()
                p = subprocess.Popen(space.enter + command, stdin=inp, stdout=out, stderr=err, cwd=cwd, env=env,
                                     start_new_session=True)
                if args.at is not None:
                    self.at(space, traced, p)
                try:
                    self.status = p.wait(max(1, args.limit - (time.monotonic() - start)))
                except subprocess.TimeoutExpired:
                    self.status = 'did not end in time'
                    os.killpg(p.pid, signal.SIGKILL)
                    p.wait()
                self.seconds = time.monotonic() - start
                if self.listening is None:
                    self.listening = space.listening()
        finally:
            space.end()

    @staticmethod
    def state(space):
        """The program's processes, and what each has open."""
        out = {}
        for pid in space.members():
            try:
                if exe(pid) not in SCAFFOLD:
                    out[pid] = sorted(os.listdir(f'/proc/{pid}/fd'))
            except OSError:
                pass
        return out

    def at(self, space, traced, p):
        """Looks at the living program, and ends it: after that time, and when
        nothing of it has changed for half as long."""
        time.sleep(self.args.at)
        before, now = None, self.state(space)
        while p.poll() is None and (before != now or not now):
            time.sleep(self.args.at / 2)
            before, now = now, self.state(space)
        ours = [pid for pid in sorted(space.members()) if exe(pid) not in SCAFFOLD]
        if not traced:
            self.listening = space.listening()
            self.snapshot = []
            for pid in ours:
                try:
                    lines = [f'fd {fd} ' + os.readlink(f'/proc/{pid}/fd/{fd}')
                             for fd in sorted(os.listdir(f'/proc/{pid}/fd'), key=int)] + ['maps']
                    with open(f'/proc/{pid}/maps') as f:
                        lines += [line.strip() for line in f]
                    self.snapshot.append(lines)
                except OSError:
                    pass
        if ours:
            os.kill(ours[0], signal.SIGTERM)

    def read(self, name):
        with open(os.path.join(self.dir, name), 'rb') as f:
            text = f.read().decode('utf-8', 'backslashreplace')
        text = re.sub(r'0x[0-9a-f]{4,}', 'PTR', text)
        text = re.sub(r'\b\d+(\.\d+)? ?(s|ms|us|sec|secs|seconds)\b', 'TIME', text)
        for pattern in self.args.ignore:
            text = re.sub(pattern, '', text, flags=re.MULTILINE)
        return text.splitlines()

    def witnessed(self):
        if self.snapshot is not None:
            return self.snapshot
        out = []
        names = [n for n in os.listdir(self.dir) if n.startswith('.witness.')]
        for name in sorted(names, key=lambda n: int(n.rsplit('.', 1)[1])):
            with open(os.path.join(self.dir, name), errors='backslashreplace') as f:
                out.append([line.rstrip('\n') for line in f])
        return out

    def fds(self):
        out = []
        for lines in self.witnessed():
            mine = []
            for line in lines:
                if line.startswith('fd '):
                    line = re.sub(r'\[\d+\]', '', line).replace(self.dir, 'DIR')
                    mine.append(re.sub(r'/proc/\d+/', '/proc/PID/', re.sub(r'/tmp/[\w./-]+', 'TMP', line)))
            out.append(' | '.join(sorted(mine, key=lambda s: int(s.split()[1]))))
        # Processes in any order, and no matter how many: those that are killed
        # leave nothing.
        return sorted(set(out))

    def maps(self):
        """What is mapped with which rights, without addresses and sizes."""
        out = []
        for lines in self.witnessed():
            mine = set()
            for line in lines[lines.index('maps') + 1:] if 'maps' in lines else []:
                f = line.split(None, 5)
                if len(f) < 5:
                    continue
                path = f[5].strip() if len(f) > 5 else '(anonymous)'
                if not re.search(r'^/memfd:bindgate|libbindgate(_plain)?\.so|libgcc_s\.so|/witness\.so', path):
                    mine.add(f'{f[1]} ' + re.sub(r'/tmp/[\w./-]+', 'TMP', path))
            # None: it was killed while it wrote them down.
            if mine:
                out.append(' | '.join(sorted(mine)))
        return sorted(set(out))

    def trace(self):
        return strace.read(os.path.join(self.dir, 'trace'))
