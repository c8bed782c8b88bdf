//! The ways to fill the tables, and the bind that is measured then.

use std::ffi::c_int;

use bindgate_core::model::Generation;

use crate::world::{At, PLAIN, REUSEADDR, REUSEPORT, Sort, any};

/// So many sockets of one sort, and one more bind.
pub struct Scene {
    pub name: &'static str,
    pub on: Generation,
    /// Those that are there, and where number `i` of them is.
    pub there: Sort,
    pub place: fn(u32) -> At,
    /// Who asks, for what, and what is the answer.
    pub ask: Sort,
    pub at: At,
    pub answer: Result<(), c_int>,
}

const OK: Result<(), c_int> = Ok(());
const IN_USE: Result<(), c_int> = Err(libc::EADDRINUSE);

const LINUX: Generation = Generation::Linux6_18;
const FREEBSD: Generation = Generation::FreeBsd14_3;

const DUAL: Sort = Sort {
    six: true,
    ..REUSEPORT
};
const UDP: Sort = Sort { udp: true, ..PLAIN };
const UDP_REUSEADDR: Sort = Sort {
    udp: true,
    ..REUSEADDR
};
/// FreeBSD knows no address but the host's own, of which a million are wanted.
const BINDANY: Sort = Sort {
    bindany: true,
    ..PLAIN
};

const fn loopback(last: u32, port: u16) -> At {
    At {
        ip: 0x7f00_0000 + last,
        port,
    }
}

fn distinct(i: u32) -> At {
    loopback(1 + i / 50_000, 10_000 + (i % 50_000) as u16)
}

fn distinct_wildcards(i: u32) -> At {
    any(10_000 + (i % 50_000) as u16)
}

fn one_port(i: u32) -> At {
    loopback(1 + i, 8080)
}

fn one_wildcard(_: u32) -> At {
    any(8080)
}

/// What is the same for most of them.
const SCENE: Scene = Scene {
    name: "",
    on: LINUX,
    there: PLAIN,
    place: distinct,
    ask: PLAIN,
    at: any(8080),
    answer: OK,
};

pub const SCENES: &[Scene] = &[
    Scene {
        name: "distinct ports (and addresses): one of them again",
        at: loopback(1, 10_005),
        answer: IN_USE,
        ..SCENE
    },
    Scene {
        name: "distinct ports (and addresses): a free one",
        at: any(5_000),
        ..SCENE
    },
    Scene {
        name: "one port, distinct addresses: one of them again",
        place: one_port,
        at: loopback(3, 8080),
        answer: IN_USE,
        ..SCENE
    },
    Scene {
        name: "one port, distinct addresses: one more",
        place: one_port,
        at: loopback(0x00ff_0003, 8080),
        ..SCENE
    },
    Scene {
        name: "one port, distinct addresses: the wildcard",
        place: one_port,
        answer: IN_USE,
        ..SCENE
    },
    Scene {
        name: "the same, all with SO_REUSEADDR: the wildcard",
        there: REUSEADDR,
        place: one_port,
        ask: REUSEADDR,
        ..SCENE
    },
    Scene {
        name: "one port, SO_REUSEPORT: one more",
        there: REUSEPORT,
        place: one_wildcard,
        ask: REUSEPORT,
        ..SCENE
    },
    Scene {
        name: "one port, SO_REUSEPORT: one without",
        there: REUSEPORT,
        place: one_wildcard,
        answer: IN_USE,
        ..SCENE
    },
    Scene {
        name: "one port, dual-stack [::], SO_REUSEPORT: IPv4 without",
        there: DUAL,
        place: one_wildcard,
        answer: IN_USE,
        ..SCENE
    },
    Scene {
        name: "dual-stack [::] on distinct ports: IPv4 on one of them",
        there: DUAL,
        place: distinct_wildcards,
        at: any(10_005),
        answer: IN_USE,
        ..SCENE
    },
    Scene {
        name: "UDP, one port, SO_REUSEADDR: one more",
        there: UDP_REUSEADDR,
        place: one_wildcard,
        ask: UDP_REUSEADDR,
        ..SCENE
    },
    Scene {
        name: "FreeBSD, distinct ports (and addresses): one of them again",
        on: FREEBSD,
        there: BINDANY,
        at: loopback(1, 10_005),
        answer: IN_USE,
        ..SCENE
    },
    Scene {
        name: "FreeBSD, one port, distinct addresses: one of them again",
        on: FREEBSD,
        there: BINDANY,
        place: one_port,
        ask: BINDANY,
        at: loopback(3, 8080),
        answer: IN_USE,
    },
    Scene {
        name: "FreeBSD, one port, distinct addresses: one more",
        on: FREEBSD,
        there: BINDANY,
        place: one_port,
        ask: BINDANY,
        at: loopback(0x00ff_0003, 8080),
        ..SCENE
    },
    Scene {
        name: "FreeBSD, one port, distinct addresses: the wildcard",
        on: FREEBSD,
        there: BINDANY,
        place: one_port,
        answer: IN_USE,
        ..SCENE
    },
    Scene {
        name: "FreeBSD, the same with SO_REUSEPORT: another user's wildcard",
        on: FREEBSD,
        there: Sort {
            bindany: true,
            ..REUSEPORT
        },
        place: one_port,
        ask: Sort {
            user: 1000,
            ..REUSEPORT
        },
        answer: IN_USE,
        ..SCENE
    },
    Scene {
        name: "FreeBSD, one port, SO_REUSEPORT: one more",
        on: FREEBSD,
        there: REUSEPORT,
        place: one_wildcard,
        ask: REUSEPORT,
        ..SCENE
    },
];

/// Automatic ports: a share of the range is used, and one more is asked for.
pub struct Auto {
    pub name: &'static str,
    pub on: Generation,
    pub sort: Sort,
    pub ip: u32,
    /// Ports of the range.
    pub range: u32,
}

/// Shares of the range that are used, in parts of 10,000.
pub const SHARES: [u32; 5] = [0, 5_000, 9_900, 9_950, 9_999];

/// Ports of Linux's range, and of FreeBSD's.
const LINUX_RANGE: u32 = 60_999 - 32_768 + 1;
const FREEBSD_RANGE: u32 = 65_535 - 10_000 + 1;

/// More ports than any range has.
pub const MOST_PORTS: u32 = 1 << 16;

pub const AUTO: &[Auto] = &[
    Auto {
        name: "TCP 0.0.0.0:0",
        on: LINUX,
        sort: PLAIN,
        ip: 0,
        range: LINUX_RANGE,
    },
    Auto {
        name: "TCP 127.0.0.1:0",
        on: LINUX,
        sort: PLAIN,
        ip: 0x7f00_0001,
        range: LINUX_RANGE,
    },
    Auto {
        name: "UDP 0.0.0.0:0",
        on: LINUX,
        sort: UDP,
        ip: 0,
        range: LINUX_RANGE,
    },
    Auto {
        name: "FreeBSD, TCP 127.0.0.1:0",
        on: FREEBSD,
        sort: PLAIN,
        ip: 0x7f00_0001,
        range: FREEBSD_RANGE,
    },
];
