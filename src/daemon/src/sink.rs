//! Where decisions go: one [`Decision`] is made, each [`Sink`] makes of it what
//! it is for.

use bindgate_core::record::{Call, Record, Verdict, flag};
use bindgate_core::render::{
    self, Context, Detail, End, Event, Explained, Holder, Predicted, RuleRef,
};
use bindgate_os as sys;

use crate::Format;

/// A record with all that is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// The record.
    pub record: &'a Record,
    /// Path of the executable; empty if it is not known.
    pub program: &'a [u8],
    /// Path of the script that it runs; empty if it runs none.
    pub script: &'a [u8],
    /// The rule that decided.
    pub rule: Option<RuleRef<'a>>,
    /// The first `note` rule that matched.
    pub note: Option<RuleRef<'a>>,
    /// What the model says of a bind.
    pub predicted: Option<Predicted>,
    /// Who holds the address.
    pub holder: Option<&'a Holder<'a>>,
    /// Why the call failed.
    pub why: Option<&'a Explained<'a>>,
}

/// Something that is made of a run's decisions.
pub trait Sink {
    /// Takes note of a record. Does it want the decision?
    fn record(&mut self, record: &Record) -> bool;
    /// A decision that it wanted.
    fn decision(&mut self, decision: &Decision<'_>);
    /// Something that is not a decision.
    fn event(&mut self, event: &Event<'_>);
}

/// The sums of a run.
pub struct Totals(pub End);

impl Sink for Totals {
    fn record(&mut self, record: &Record) -> bool {
        let sums = &mut self.0;
        sums.records += 1;
        let observed = record.flags & flag::OBSERVED != 0;
        match (record.call, record.verdict) {
            (Call::Fault, _) => sums.faults += 1,
            (_, Verdict::Deny | Verdict::Move | Verdict::Hide) if observed => sums.observed += 1,
            (_, Verdict::Deny) => sums.denied += 1,
            (_, Verdict::Move) => sums.moved += 1,
            (_, Verdict::Hide) => sums.hidden += 1,
            (_, Verdict::Allow | Verdict::Passed) => sums.allowed += 1,
        }
        if record.flags & flag::UNSEEN != 0 {
            sums.unseen += 1;
        }
        false
    }

    fn decision(&mut self, _: &Decision<'_>) {}

    fn event(&mut self, _: &Event<'_>) {}
}

/// Lines of the log, to be handed to whoever writes them.
pub struct Log {
    format: Format,
    detail: Detail,
    colour: bool,
    /// What is not handed over yet.
    pub lines: String,
    /// Which quarter of an hour local time's distance from UTC was asked in.
    offset: (u64, i32),
}

impl Log {
    /// An empty one.
    pub fn new(format: Format, detail: Detail, colour: bool) -> Log {
        Log {
            format,
            detail,
            colour,
            lines: String::new(),
            offset: (u64::MAX, 0),
        }
    }

    /// How times in sentences are written: see [`bindgate_core::why::clock`].
    pub fn times(&mut self, time_ns: u64) -> Option<i32> {
        (self.format == Format::Text).then(|| self.offset(time_ns))
    }

    /// Local time's distance from UTC, asked once per quarter of an hour.
    fn offset(&mut self, time_ns: u64) -> i32 {
        const QUARTER: u64 = 900_000_000_000;
        if self.format == Format::Text && self.offset.0 != time_ns / QUARTER {
            let seconds = (time_ns / 1_000_000_000) as i64;
            self.offset = (time_ns / QUARTER, sys::utc_offset(seconds));
        }
        self.offset.1
    }
}

// Writing to a string does not fail.
impl Sink for Log {
    fn record(&mut self, record: &Record) -> bool {
        render::is_shown(record, self.detail)
    }

    fn decision(&mut self, d: &Decision<'_>) {
        let context = Context {
            program: d.program,
            script: d.script,
            rule: d.rule,
            note: d.note,
            predicted: d.predicted,
            holder: d.holder,
            why: d.why,
            detail: self.detail,
            colour: self.colour,
            utc_offset: self.offset(d.record.time_ns),
        };
        let _ = match self.format {
            Format::Text => render::text(&mut self.lines, d.record, &context),
            Format::Json => render::json(&mut self.lines, d.record, &context),
        };
    }

    fn event(&mut self, event: &Event<'_>) {
        let _ = match self.format {
            Format::Json => render::json_event(&mut self.lines, event),
            Format::Text => {
                let time_ns = match event {
                    Event::Lost { time_ns, .. }
                    | Event::Unused { time_ns, .. }
                    | Event::Started { time_ns, .. }
                    | Event::Isolated { time_ns, .. }
                    | Event::Described { time_ns, .. }
                    | Event::Published { time_ns, .. }
                    | Event::Hosted { time_ns, .. } => *time_ns,
                    Event::End(end) => end.time_ns,
                };
                let offset = self.offset(time_ns);
                render::text_event(&mut self.lines, event, self.colour, offset)
            }
        };
    }
}
