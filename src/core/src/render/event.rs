//! What a log says besides records.

use core::fmt::{self, Write};

use super::json::{Object, Stamp, quoted};
use super::text::{Look, Rule, clock, put};
use super::{Readable, RuleRef, SCHEMA};
use crate::addr::Addr;
use crate::judge::vsock::CID_HOST;
use crate::model::Generation;

/// Something that is not a decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// Records that will never come.
    Lost {
        /// Nanoseconds since the epoch.
        time_ns: u64,
        /// How many.
        count: u64,
        /// Why.
        why: &'static str,
    },
    /// A rule that has matched nothing.
    Unused {
        /// Nanoseconds since the epoch.
        time_ns: u64,
        /// The rule.
        rule: RuleRef<'a>,
    },
    /// The program of a run that is watched has started.
    Started {
        /// Nanoseconds since the epoch.
        time_ns: u64,
        /// Id of the run.
        run: u64,
        /// The program's process.
        pid: u32,
    },
    /// The run has a network of its own.
    Isolated {
        /// Nanoseconds since the epoch.
        time_ns: u64,
        /// Id of the run.
        run: u64,
        /// Inode of the network namespace; 0 if it is not known yet.
        network: u64,
        /// The address that stands for 127.0.0.1 in it; `None`: the run is in a
        /// network namespace of its own.
        block: Option<[u8; 4]>,
    },
    /// The run is a vsock host.
    Hosted {
        /// Nanoseconds since 1970.
        time_ns: u64,
        /// The run.
        run: u64,
        /// Its context id.
        cid: u32,
        /// The directory where it meets others, or nothing.
        fabric: &'a str,
        /// The path where a virtual machine monitor speaks, or nothing.
        uds: &'a str,
    },
    /// The run is on a host that its policy describes.
    Described {
        /// Nanoseconds since 1970.
        time_ns: u64,
        /// The run.
        run: u64,
        /// The kernel whose model rules; `None` where the kernel of the run's own
        /// network does.
        model: Option<Generation>,
        /// The policy's lines.
        lines: &'a [&'a str],
    },
    /// A port of the run's own is reached from outside.
    Published {
        /// Nanoseconds since 1970.
        time_ns: u64,
        /// The run.
        run: u64,
        /// `tcp` or `udp`.
        kind: &'a str,
        /// The port, as the run knows it.
        port: u16,
        /// Where it is reached.
        addresses: &'a [Addr],
    },
    /// The run is over, as far as this log is concerned.
    End(End),
}

/// The sums of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct End {
    /// Nanoseconds since the epoch.
    pub time_ns: u64,
    /// Id of the run.
    pub run: u64,
    /// Records read, whether or not this log shows them.
    pub records: u64,
    /// Of these: forwarded as asked.
    pub allowed: u64,
    /// Of these: refused.
    pub denied: u64,
    /// Of these: placed elsewhere.
    pub moved: u64,
    /// Of these: placed out of reach.
    pub hidden: u64,
    /// Of these: what a rule would have refused or changed under `mode observe`.
    pub observed: u64,
    /// Records that found no room or whose writer died.
    pub lost: u64,
    /// Lines that could not be written.
    pub unwritten: u64,
    /// Faults inside the shim.
    pub faults: u64,
    /// Programs that could not be seen.
    pub unseen: u64,
    /// Processes that go on after this line.
    pub left: u64,
    /// Records of processes that nobody could name: the process table was full.
    pub unnamed: u64,
}

/// Writes `event` as one JSON object and a line feed.
///
/// # Errors
/// If `w` fails.
pub fn json_event(w: &mut dyn Write, event: &Event<'_>) -> fmt::Result {
    let mut o = Object::open(w)?;
    o.bare("v", SCHEMA)?;
    match event {
        Event::Lost {
            time_ns,
            count,
            why,
        } => {
            o.string("event", "lost")?;
            o.string("time", Stamp(*time_ns))?;
            o.bare("count", count)?;
            o.string("why", why)?;
        }
        Event::Unused { time_ns, rule } => {
            o.string("event", "unused")?;
            o.string("time", Stamp(*time_ns))?;
            o.rule("rule", rule)?;
        }
        Event::Started { time_ns, run, pid } => {
            o.string("event", "started")?;
            o.string("time", Stamp(*time_ns))?;
            o.string("run", format_args!("{run:016x}"))?;
            o.bare("pid", pid)?;
        }
        Event::Isolated {
            time_ns,
            run,
            network,
            block,
        } => {
            o.string("event", "isolated")?;
            o.string("time", Stamp(*time_ns))?;
            o.string("run", format_args!("{run:016x}"))?;
            let word = if block.is_some() { "address" } else { "sealed" };
            o.string("isolate", word)?;
            o.maybe_bare("network", (*network != 0).then_some(network))?;
            let block = block.map(core::net::Ipv4Addr::from);
            o.maybe_string("block", block)?;
        }
        Event::Hosted {
            time_ns,
            run,
            cid,
            fabric,
            uds,
        } => {
            o.string("event", "hosted")?;
            o.string("time", Stamp(*time_ns))?;
            o.string("run", format_args!("{run:016x}"))?;
            o.bare("cid", cid)?;
            match *fabric {
                "" => o.maybe_bare("fabric", None::<u32>)?,
                fabric => o.string("fabric", fabric)?,
            }
            match *uds {
                "" => o.maybe_bare("uds", None::<u32>)?,
                uds => o.string("uds", uds)?,
            }
        }
        Event::Described {
            time_ns,
            run,
            model,
            lines,
        } => {
            o.string("event", "described")?;
            o.string("time", Stamp(*time_ns))?;
            o.string("run", format_args!("{run:016x}"))?;
            match model {
                Some(generation) => o.string("model", generation)?,
                None => o.maybe_bare("model", None::<u32>)?,
            }
            o.list("lines", *lines, |w, line| {
                quoted(w, Readable(line.as_bytes()))
            })?;
        }
        Event::Published {
            time_ns,
            run,
            kind,
            port,
            addresses,
        } => {
            o.string("event", "published")?;
            o.string("time", Stamp(*time_ns))?;
            o.string("run", format_args!("{run:016x}"))?;
            o.string("kind", kind)?;
            o.bare("port", port)?;
            o.list("addresses", *addresses, |w, at| quoted(w, at))?;
        }
        Event::End(end) => {
            o.string("event", "end")?;
            o.string("time", Stamp(end.time_ns))?;
            o.string("run", format_args!("{:016x}", end.run))?;
            for (name, n) in [
                ("records", end.records),
                ("allowed", end.allowed),
                ("denied", end.denied),
                ("moved", end.moved),
                ("hidden", end.hidden),
                ("observed", end.observed),
                ("lost", end.lost),
                ("unwritten", end.unwritten),
                ("faults", end.faults),
                ("unseen", end.unseen),
                ("left", end.left),
                ("unnamed", end.unnamed),
            ] {
                o.bare(name, n)?;
            }
        }
    }
    o.close()?;
    w.write_char('\n')
}

/// Writes `event` as one line, line feed included.
///
/// # Errors
/// If `w` fails.
pub fn text_event(w: &mut dyn Write, event: &Event<'_>, colour: bool, offset: i32) -> fmt::Result {
    let (time_ns, count) = match event {
        Event::Unused { time_ns, .. }
        | Event::Started { time_ns, .. }
        | Event::Isolated { time_ns, .. }
        | Event::Described { time_ns, .. }
        | Event::Published { time_ns, .. }
        | Event::Hosted { time_ns, .. } => (*time_ns, 0),
        Event::Lost { time_ns, count, .. } => (*time_ns, *count),
        Event::End(end) => (end.time_ns, end.records),
    };
    clock(w, time_ns, offset, colour)?;
    w.write_str(" bindgate: ")?;
    let s = |n: u64| if n == 1 { "" } else { "s" };
    match event {
        Event::Lost { why, .. } => {
            put(
                w,
                colour,
                Look::Bad,
                format_args!("{count} record{} lost", s(count)),
            )?;
            write!(w, ": {why}")?;
        }
        Event::Unused { rule, .. } => {
            let named = Rule("", *rule);
            put(w, colour, Look::Changed, "never matched")?;
            write!(w, ": {}  ({named})", rule.text)?;
        }
        Event::Started { pid, .. } => write!(w, "the program has started: process {pid}")?,
        Event::Isolated { block: None, .. } => {
            write!(w, "isolate=sealed: the run has a network of its own")?;
        }
        Event::Isolated {
            block: Some(one), ..
        } => {
            let one = core::net::Ipv4Addr::from(*one);
            write!(
                w,
                "isolate=address: the run has ports of its own, at {one} for 127.0.0.1"
            )?;
        }
        Event::Described { model, lines, .. } => {
            match model {
                Some(generation) => write!(w, "host: ruled by the model of {generation}")?,
                None => w.write_str("host: ruled by the kernel of the run's own network")?,
            }
            let mut gap = ": ";
            for line in *lines {
                let line = line.strip_prefix("host ").unwrap_or(line);
                write!(w, "{gap}{}", Readable(line.as_bytes()))?;
                gap = ", ";
            }
        }
        Event::Hosted {
            cid, fabric, uds, ..
        } => {
            write!(w, "vsock: the run is the host with context id {cid}")?;
            if !fabric.is_empty() {
                write!(w, " in the fabric {}", Readable(fabric.as_bytes()))?;
            }
            if !uds.is_empty() {
                let what = match *cid {
                    CID_HOST => "calls the guest",
                    _ => "the guest is called",
                };
                write!(w, "; {what} at {}", Readable(uds.as_bytes()))?;
            }
        }
        Event::Published {
            kind,
            port,
            addresses,
            ..
        } => {
            write!(w, "published: {kind} port {port} at ")?;
            for (n, at) in addresses.iter().enumerate() {
                write!(w, "{}{at}", if n == 0 { "" } else { " and " })?;
            }
        }
        Event::End(end) => {
            write!(w, "{count} decision{}", s(count))?;
            let mut gap = ": ";
            for (n, what) in [
                (end.allowed, "allowed"),
                (end.denied, "refused"),
                (end.moved, "moved"),
                (end.hidden, "hidden"),
                (end.observed, "only observed"),
                (end.lost, "lost"),
                (end.unwritten, "not written"),
                (end.faults, "faults"),
                (end.unseen, "not intercepted"),
                (end.unnamed, "of processes that were too many to name"),
            ] {
                if n > 0 {
                    write!(w, "{gap}{n} {what}")?;
                    gap = ", ";
                }
            }
            if end.left > 0 {
                let (es, go) = if end.left == 1 {
                    ("", "goes")
                } else {
                    ("es", "go")
                };
                write!(w, "; {} process{es} of the run {go} on", end.left)?;
            }
        }
    }
    w.write_char('\n')
}
