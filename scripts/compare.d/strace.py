"""What strace saw of a program, thread by thread, and which calls the shim
made.

`strace -i` writes down where each call was made. The shim makes its own calls
from inside its library and forwards those of the program to libc, so that the
two are told apart by address. Its own calls must be of those that rule 10 (in
`src/shim/src/lib.rs`) names; any other one is found.
"""
import collections
import os
import re

OPTIONS = ['-f', '-i', '-qq', '-s', '200', '-e', 'trace=network,desc,%process', '-e', 'signal=none']

LINE = re.compile(r'(\d+) +\[([0-9a-f?]+)\] (.*)')
RESUMED = re.compile(r'<\.\.\. \w+ resumed>\s?')
PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
# What the loader opens because of the preload.
LOADED = re.compile(r'/libbindgate(_plain)?\.so"|/libgcc_s\.so\.1"|/witness\.so"')
FORKS = ('clone', 'clone3', 'fork', 'vfork')
EXECS = ('execve', 'execveat')
# Calls that bind a socket or may do so.
BINDS = ('bind', 'listen', 'connect', 'sendto', 'sendmsg', 'sendmmsg')
# Reading of files, before an exec.
READS = ('open', 'openat', 'read', 'pread64', 'readlink', 'readlinkat', 'newfstatat', 'fstat', 'stat', 'statx', 'access',
         'faccessat', 'faccessat2', 'close', 'mmap', 'getxattr', 'getdents64', 'getcwd', 'lseek')

Call = collections.namedtuple('Call', 'text own')


def name(text):
    return text.partition('(')[0]


def descriptor(text):
    m = re.match(r'\w+\((\d+)[,)<]', text)
    return m and m.group(1)


def result(text):
    m = re.search(r'\) += (-?\w+)', text)
    return m and m.group(1)


class Image:
    """What a process has mapped and opened since its last exec."""

    def __init__(self, parent=None):
        self.own = list(parent.own) if parent else []
        self.loading = {}

    def made(self, at):
        return any(start <= at < end for start, end in self.own)

    def loads(self, text):
        """Does this call belong to the loading of libraries, the shim's too?"""
        what, fd, got = name(text), descriptor(text), result(text)
        if what in ('open', 'openat', 'newfstatat', 'access', 'readlink') and LOADED.search(text):
            if what.startswith('open') and got and got.isdigit():
                self.loading[got] = 'libbindgate' in text
            return True
        if what == 'mmap' and text.count(', ') >= 5:
            f = text.split(', ')
            if 'MAP_ANONYMOUS' in f[3] and 'MAP_FIXED' in f[3]:
                return self.made(int(f[0][5:], 16))
            if f[3] == 'MAP_PRIVATE|MAP_ANONYMOUS':
                # The loader's list of libraries and the threads' variables: a
                # few pages, more or fewer. malloc maps from 128 KiB on.
                return int(f[1]) <= 65536
            if f[4] not in self.loading:
                return False
            if self.loading[f[4]] and got and got.startswith('0x') and f[0] == 'mmap(NULL':
                self.own.append((int(got, 16), int(got, 16) + int(f[1])))
            return True
        if fd in self.loading:
            if what == 'close':
                del self.loading[fd]
            return True
        return False


def read(path):
    """The calls of each thread. A thread's key says how it came to be: the
    n-th child of the m-th child …, so that it is the same on each run."""
    lines, made_by, unfinished = [], {}, {}
    if not os.path.exists(path):
        return {}
    with open(path, errors='backslashreplace') as f:
        for line in f:
            m = LINE.match(line.rstrip('\n'))
            if not m:
                continue
            tid, at, text = m.groups()
            if text.endswith('<unfinished ...>'):
                text = text[:-len('<unfinished ...>')].rstrip()
                unfinished[tid] = len(lines)
                lines.append([tid, at, text])
                continue
            resumed = RESUMED.match(text)
            if resumed:
                if tid not in unfinished:
                    continue
                entry = lines[unfinished.pop(tid)]
                glue = ' ' if entry[2].endswith(',') else ''
                entry[2] += glue + text[resumed.end():]
                text = entry[2]
            else:
                lines.append([tid, at, text])
    # In the order of the calls that made them: who runs first is chance.
    born = collections.Counter()
    for tid, _, text in lines:
        child = result(text) if name(text) in FORKS else None
        if child and child.isdigit() and child != '0' and child not in made_by:
            made_by[child] = tid, born[tid]
            born[tid] += 1
    keys, images, threads = {}, {}, {}
    for tid, at, text in lines:
        if tid not in keys:
            parent, n = made_by.get(tid, (None, len(keys)))
            keys[tid] = keys.get(parent, ()) + (n,)
            # A thread has the memory of its process; a copy does, as what is
            # loaded later is no shim.
            images[tid] = Image(images.get(parent))
            threads[keys[tid]] = []
        image = images[tid]
        # Interrupted calls are made again.
        if text.startswith(('+++', '---')) or '= ? ERESTART' in text:
            continue
        if image.loads(text):
            continue
        # vfork(2) returns twice, so the hook itself makes the program's call.
        own = at[0] != '?' and image.made(int(at, 16)) and name(text) != 'vfork'
        threads[keys[tid]].append(Call(text, own))
        if name(text) in EXECS and result(text) == '0':
            images[tid] = Image()
    def named(text):
        return re.sub(r'\b\d+\b', lambda m: 'PID' if m.group() in keys else m.group(), text)
    return {key: [Call(named(c.text), c.own) for c in calls] for key, calls in threads.items()}


def may_ask(text, rules):
    """Does a decision or a record about this call need a question?"""
    if name(text) == 'bind' and not rules:
        # Without rules: only where the kernel chooses.
        return bool(re.search(r'htons\(0\)|svm_port=(VMADDR_PORT_ANY|0xffffffff)|sa_family=AF_UNIX\}|nl_pid=0', text)) or \
            not re.search(r'AF_INET|AF_UNIX|AF_VSOCK', text)
    return name(text) in BINDS


def own_calls(calls, rules=False, places=False):
    """Judges the shim's calls in a thread: how often each reason held, and
    those that have none. `rules`: the run has some. `places`: some of them
    move or hide."""
    reasons, faults = collections.Counter(), []
    i, started, fresh = 0, False, True
    while i < len(calls):
        if not calls[i].own:
            if name(calls[i].text) in EXECS and result(calls[i].text) == '0':
                started = False
            i += 1
            continue
        j = i
        while j < len(calls) and calls[j].own:
            j += 1
        before = calls[i - 1].text if i else ''
        # posix_spawn maps a stack before it forks.
        k = j + 1 if j < len(calls) and 'MAP_STACK' in calls[j].text else j
        after = calls[k].text if k < len(calls) else ''
        stretch = [c.text for c in calls[i:j]]
        at_start = not started and any('execve' in c.text for c in calls[:i])
        started = True
        open_ = {}
        for text in stretch:
            what, fd, got = name(text), descriptor(text), result(text)
            question = what in ('getsockname', 'getsockopt')
            # A signal handler may have come between. The nearest is first.
            near = question and [c.text for c in calls[max(0, i - 8):i][::-1] + calls[j:j + 8]
                                 if not c.own and descriptor(c.text) == fd and may_ask(c.text, rules)]
            if near:
                reasons[f'{what} for {name(near[0])}'] += 1
            elif places and any(name(n) in BINDS + ('accept', 'accept4') for n in (before, after)):
                reasons['for a move or hide'] += 1
            elif at_start:
                reasons['start'] += 1
            elif name(after) in EXECS + FORKS and what in READS:
                reasons['exec'] += 1
            elif what.startswith('exit'):
                reasons['exit'] += 1
            else:
                faults.append(text)
            if what in ('open', 'openat', 'socket') and got and got.isdigit():
                open_[got] = text
            elif what == 'recvmsg':
                for got in re.findall(r'cmsg_data=\[([\d, ]+)\]', text):
                    open_.update({n: text for n in got.split(', ')})
            elif what == 'close':
                open_.pop(fd, None)
        # Who was killed in the middle of the shim's calls leaves nothing open.
        if j < len(calls) or name(calls[-1].text).startswith('exit'):
            faults += [f'left open: {text}' for text in open_.values()]
        i = j
    return reasons, faults


def blurred(text):
    """What of a call may be compared between two runs."""
    text = re.sub(r', 0x\w+ /\* \d+ vars? \*/', ', ENVIRONMENT', text)
    text = re.sub(r'0x[0-9a-f]+|NULL', 'PTR', text)
    text = re.sub(r'htons\((\d+)\)', lambda m: m.group(0) if int(m.group(1)) < 20000 else 'htons(PORT)', text)
    text = re.sub(r'(child_tidptr|child_tid|parent_tid|tls|stack|st_size|st_mtime\w*|st_ino)=[^,}]+', r'\1', text)
    if re.match(r'(clone3?|v?fork|wait4|waitid|getpid|t?g?kill|pidfd_\w+)\(', text):
        text = re.sub(r'PID|\d{2,}', 'N', text)
    if re.match(r'p?(poll|select|epoll_p?wait2?|ppoll|pselect6)', text):
        text = re.sub(r'\d{2,}', 'N', text)
    text = PATH.sub(lambda m: m.group(0) if re.fullmatch(r'[a-z]{,8}', m.group(1)) else '"…"', text)
    text = text.replace('"…"...', '"…"')
    return re.sub(r',\s*', ', ', re.sub(r'\s+= ', ' = ', text))


def shape(text):
    """Name and outcome: what remains comparable in a thread that races."""
    m = re.search(r'= (-1 E\w+)', text)
    return f'{name(text)} {m.group(1) if m else "ok"}'
