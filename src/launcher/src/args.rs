//! The command line: what clap reads, and what the rest of the launcher wants.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use bindgate_core::render::Detail;
use clap::error::ErrorKind;
use clap::{
    ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint,
};

use crate::Failure;
use crate::publish::Publish;

/// Decide what an unmodified program may do with socket() and bind().
///
/// bindgate starts a program with a small library in front of libc. The
/// library intercepts each socket() and bind() of the program and of everything
/// that it starts. As the rules say, it lets the call pass, refuses it or
/// redirects it, and it logs each decision with its reason.
#[derive(Parser, Debug)]
#[command(name = "bindgate", version, max_term_width = 90, after_long_help = EXAMPLES.0)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

/// Texts that follow the options. clap would wrap them, and half an example is
/// another command: it gets their marks alone.
const EXAMPLES: (&str, &str) = (
    "@EXAMPLES@",
    "\
Examples:
  See what a program binds, without changing anything:
      bindgate run -- python3 -m http.server 8000

  Let a server have \"port 80\" without being root:
      bindgate run -r 'move bind tcp *:80 to loopback:8080' -- nginx

  Let any server have its port below 1024 as any user, 10000 higher up:
      bindgate run --low-ports -- nginx -g 'daemon off;'

  As root: a server that has port 80 and never was root:
      bindgate run --user www-data -r 'allow bind tcp *:80' -- ./server

  Say what a program may bind, and refuse the rest:
      bindgate run -r 'allow bind tcp loopback:1024-65535' \\
          -r 'default deny for bind' -- ./server

  Run a test suite beside others that use the same ports:
      bindgate run --isolate -- make test

  A server in a run with ports of its own, for a browser outside it:
      bindgate run --isolate --publish 18080:8080 -- npm start

  See what is bound in each run, and run a command in one:
      bindgate ls
      bindgate exec RUN -- curl http://localhost:8080/

  See why a port cannot be had, and why a program's binds and connects fail:
      bindgate why tcp :8080
      bindgate why -- ./server
  Write the policy that a server needs, and run it under that:
      bindgate learn -o web.policy -- nginx -g 'daemon off;'
      bindgate run --policy web.policy -- nginx -g 'daemon off;'

  In CI: fail if anything was refused, and keep the log as JSON lines:
      bindgate run --policy ci.policy --fail-on deny \\
          --format json --log binds.json -- make test

  Look before you run:
      bindgate policy check web.policy
      bindgate doctor -- /usr/bin/ping",
);

const RUN_HELP: (&str, &str) = (
    "@RUN@",
    "\
Rules:
  One rule per line; the first that matches decides. bindgate-policy(5) is the
  whole language. --policy and -r count in the order in which they are given;
  then come the environment variables BINDGATE_RULES (rules) and
  BINDGATE_POLICY (a file).

      allow bind tcp loopback:1024-65535
      deny  bind udp *:53            with EADDRINUSE
      move  bind tcp *:80            to loopback:8080   # seems to be :80
      move  bind vsock *:5000        to unix:/run/app-%p.sock
      hide  bind tcp exactly [::]:*                     # only seems bound
      default deny EACCES for bind
      mode observe                                      # record only

Exit status:
  The program's own. If a signal ended the program, the same signal ends
  bindgate. Before there is a program, or instead of its 0:
    2    the command line is wrong
    71   the run could not be set up
    73   the log cannot be opened
    77   --fail-on deny: something was refused, and the program ended with 0
    78   the policy has errors, or the program cannot be held to it
    126  the program was found but could not be started
    127  the program was not found

Environment:
  BINDGATE_RULES, BINDGATE_POLICY   rules after those of the command line
  BINDGATE_LIBRARY                  the library, if it is not next to bindgate
  BINDGATE_DEBUG                    messages about bindgate itself: debug, trace
  NO_COLOR                          no colours on a terminal

Signals:
  A signal that is sent to bindgate alone is passed on to the program. With
  --log, SIGHUP is not: it makes bindgate reopen the log file after a rotation.",
);

/// What follows the options of `bindgate wait`.
pub const WAIT_HELP: (&str, &str) = (
    "@WAIT@",
    "\
Examples:
  Start a server, go on when it listens:
      bindgate run -q -- ./server &
      bindgate wait tcp :8080 --timeout 30s && curl http://localhost:8080/

  bindgate wait tcp 127.0.0.1:8080     where a client of that address is served
  bindgate wait tcp '[::1]:8080'       the same for IPv6
  bindgate wait udp :53                bound
  bindgate wait unix:/run/app.sock
  bindgate wait vsock '*:5000'

Exit status:
  0  something of a run listens there
  1  the time was up, or the run has ended
  2  the command line is wrong, or there is no such run",
);

/// What follows the options of `bindgate check`.
pub const CHECK_HELP: (&str, &str) = (
    "@CHECK@",
    "\
Expectations:
  Lines of a policy, or -e. docs/check.md is the whole language.

      expect listen tcp 127.0.0.1:8080 within 5s
      expect option reuseaddr on tcp *:8080 before bind
      forbid bind any 0.0.0.0:*
      forbid socket raw
      expect retry bind tcp *:8080 after EADDRINUSE
      expect no listener at exit
      expect exit 0

Example:
  A server that must be on loopback, and try again where its port is busy:
      bindgate check -r 'deny bind tcp *:8080 with EADDRINUSE times 1' \\
          -e 'expect retry bind tcp *:8080 after EADDRINUSE' \\
          -e 'expect listen tcp 127.0.0.1:8080 within 5s' \\
          --report text --report junit=check.xml -- ./server

Exit status:
  0  everything holds
  1  something does not, or cannot be told: a program that cannot be
     intercepted, records that were lost
  2  the policy or the command line is wrong, or there was no program",
);

/// Puts the texts where clap left their marks.
pub fn laid_out(help: &str) -> String {
    let with = |help: String, (mark, text): (&str, &str)| help.replace(mark, text);
    [EXAMPLES, RUN_HELP, WAIT_HELP, CHECK_HELP]
        .into_iter()
        .fold(help.to_string(), with)
}

/// What clap knows of the command line.
pub fn command() -> clap::Command {
    Cli::command()
}

#[derive(Subcommand, Debug)]
enum Sub {
    /// Run a program under a policy and log each decision
    Run(RunArgs),
    /// Check or show a policy without running anything
    Policy {
        #[command(subcommand)]
        what: PolicySub,
    },
    /// Check whether bindgate can intercept a program, and how to fix it if not
    Doctor {
        /// Check for this library instead of the one that `run` would use
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        library: Option<PathBuf>,
        /// The program and its arguments, looked up as `run` does
        #[arg(
            value_name = "PROGRAM",
            required = true,
            trailing_var_arg = true,
            value_hint = ValueHint::CommandWithArguments
        )]
        program: Vec<OsString>,
    },
    /// List what is bound in each run of this user; root sees all runs
    Ls(crate::commands::ls::Ls),
    /// Run a command in a run: under its policy, and in its network
    Exec(crate::commands::exec::Exec),
    /// Run a program and say whether it does what is expected of it
    Check(Box<crate::commands::check::Args>),
    /// Wait until something of a run listens at an address
    Wait(crate::commands::wait::Wait),
    /// Play a script of socket calls on a model of the kernel's bind tables
    Simulate(crate::commands::simulate::Simulate),
    /// Say what would happen to a bind, and which rule and check decide
    Explain(crate::commands::explain::Explain),
    /// Say why a bind or connect fails: on this machine, in a program, or from a log
    Why(crate::commands::why::Why),
    /// Run a program and write the tightest policy that allows what it did
    Learn(Box<crate::commands::learn::Learn>),
    /// Write the manual pages into a directory, or the first to standard output
    #[command(hide = true)]
    Man {
        /// The directory
        directory: Option<PathBuf>,
    },
    /// Write completions for a shell to standard output
    #[command(hide = true)]
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

#[derive(Subcommand, Debug)]
enum PolicySub {
    /// Report errors, warnings and hints; the exit status is 78 for errors
    Check {
        /// Policy files, in order; - is standard input
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
    /// Say what one policy allows and the other does not
    Diff(crate::commands::policy_diff::Diff),
    /// Print the rules as bindgate reads them, numbered as in the log
    Show {
        /// Policy files, in order; - is standard input
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
}

/// Options that say where a program runs, and as whom: `run` has them, and what starts
/// one for it.
#[derive(Args, Debug)]
pub struct Place {
    /// Give the run ports of its own; `sealed`: a network of its own, with nothing
    /// outside
    #[arg(
        long,
        value_name = "NETWORK",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "address"
    )]
    pub isolate: Option<Isolate>,
    /// Put servers that may not have a port below 1024 at that port + N, where the run's
    /// programs reach them by the port that they asked for
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10000",
        value_parser = clap::value_parser!(u16).range(1..=64512)
    )]
    pub low_ports: Option<u16>,
    /// Start the program as another user, which root can; a port below 1024 that an
    /// `allow bind` rule names is bound for it
    #[arg(long, value_name = "USER|UID[:GID]", value_hint = ValueHint::Username)]
    pub user: Option<String>,
    /// Allow programs that deliberately drop LD_PRELOAD to leave the run
    #[arg(long)]
    pub let_go: bool,
    /// Be the vsock host with this context id, also where there is no AF_VSOCK
    #[arg(long, value_name = "CID", value_parser = clap::value_parser!(u32).range(2..=4_294_967_294))]
    pub cid: Option<u32>,
    /// Meet other vsock hosts in this directory, or in one of this name
    #[arg(long, value_name = "NAME|DIR", value_hint = ValueHint::DirPath)]
    pub fabric: Option<OsString>,
    /// Have a virtual machine monitor's Unix socket on the other side: the run is the
    /// host (CID 2) unless --cid says that it is the guest
    #[arg(long, value_name = "PATH", conflicts_with = "fabric", value_hint = ValueHint::AnyPath)]
    pub vsock_uds: Option<OsString>,
    /// Have a plain Unix socket for this port of the other side, or for it
    #[arg(long, value_name = "PORT=PATH", conflicts_with = "fabric")]
    pub vsock_port: Vec<OsString>,
    /// Tell programs that the guest has this context id [default: 3]
    #[arg(long, value_name = "CID", value_parser = clap::value_parser!(u32).range(3..=4_294_967_294))]
    pub vsock_guest: Option<u32>,
    /// Keep the ports of automatic binds for the run after their sockets are closed,
    /// so that "find a free port, then start a server there" does not lose its race
    /// [default: 512 ports; with --isolate 256, unless told 0]
    #[arg(
        long,
        value_name = "PORTS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "512",
        value_parser = clap::value_parser!(u16).range(0..=4096)
    )]
    pub lease: Option<u16>,
}

impl Place {
    /// As they go on to `bindgate run`.
    pub fn words(&self) -> Vec<OsString> {
        let with = |name: &str, value: &dyn Display| OsString::from(format!("--{name}={value}"));
        let of_os = |name: &str, value: &OsString| {
            let mut word = OsString::from(format!("--{name}="));
            word.push(value);
            word
        };
        let isolate = self.isolate.and_then(|network| network.to_possible_value());
        let mut words = Vec::new();
        words.extend(isolate.map(|v| with("isolate", &v.get_name())));
        words.extend(self.low_ports.map(|v| with("low-ports", &v)));
        words.extend(self.user.as_ref().map(|v| with("user", v)));
        words.extend(self.let_go.then(|| "--let-go".into()));
        words.extend(self.cid.map(|v| with("cid", &v)));
        words.extend(self.fabric.as_ref().map(|v| of_os("fabric", v)));
        words.extend(self.vsock_uds.as_ref().map(|v| of_os("vsock-uds", v)));
        words.extend(self.vsock_port.iter().map(|v| of_os("vsock-port", v)));
        words.extend(self.vsock_guest.map(|v| with("vsock-guest", &v)));
        words.extend(self.lease.map(|v| with("lease", &v)));
        words
    }
}

#[derive(Args, Debug)]
#[command(
    after_long_help = RUN_HELP.0,
    override_usage = "bindgate run [OPTIONS] [--] <PROGRAM> [ARG]..."
)]
struct RunArgs {
    /// Read rules from a file; may be given more than once
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    policy: Vec<PathBuf>,
    /// Add one rule, written as in a policy file
    #[arg(long, short, value_name = "RULE", allow_hyphen_values = true)]
    rule: Vec<String>,
    /// Change nothing; record what would happen
    #[arg(long)]
    observe: bool,
    #[command(flatten)]
    place: Place,
    /// Append the log to a file instead of writing it to standard error
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    log: Option<PathBuf>,
    /// Format of the log; docs/log.md describes the JSON
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Log only what was refused or changed
    #[arg(long, short, conflicts_with = "verbose")]
    quiet: bool,
    /// Log everything, with the stages passed and the check that decided
    #[arg(long, short)]
    verbose: bool,
    /// Wait until the last process of the run has ended
    #[arg(long, conflicts_with = "exec")]
    wait: bool,
    /// Become the program instead of waiting for it: the process id is the same
    #[arg(long)]
    exec: bool,
    /// Have each call wait until its line is written: why a call failed is then looked up
    /// while the program stands still
    #[arg(long)]
    sync: bool,
    /// Exit with 77 if anything was refused and the program exited with 0
    #[arg(long, value_name = "WHAT", conflicts_with = "exec")]
    fail_on: Option<FailOn>,
    /// List the rules that never matched, at the end of the log
    #[arg(long)]
    unused: bool,
    /// Return with 0 as soon as the run listens there, and leave the program to itself;
    /// PLACE is as in `bindgate wait`
    #[arg(long, value_name = "PLACE", conflicts_with_all = ["exec", "wait", "fail_on"])]
    ready: Option<String>,
    /// How long that may take, as 30s, 500ms or 2m
    #[arg(
        long,
        value_name = "TIME",
        default_value = "30s",
        requires = "ready",
        value_parser = crate::commands::wait::time
    )]
    ready_timeout: std::time::Duration,
    /// Record each listen() and the program's start, in a run with this id
    #[arg(long, value_name = "ID", hide = true, value_parser = run_id)]
    watched: Option<u64>,
    /// Start programs that cannot be intercepted, even if the policy enforces
    #[arg(long, alias = "allow-unseen")]
    allow_unintercepted: bool,
    /// With --isolate, have a port of the run reached from outside it, at another port or
    /// address if that is said: 8080, 18080:8080, 127.0.0.1:18080:8080, [::1]:18080:8080,
    /// each with /udp for UDP; 0:8080 takes any port that is free. The address is 127.0.0.1
    /// and ::1 unless it is said: 0.0.0.0:8080:8080 is for other machines, too
    #[arg(long, value_name = "[[ADDRESS:]PORT:]PORT[/udp]")]
    publish: Vec<Publish>,
    /// The program and its arguments
    #[arg(
        value_name = "PROGRAM",
        required = true,
        trailing_var_arg = true,
        value_hint = ValueHint::CommandWithArguments
    )]
    command: Vec<OsString>,
}

/// The id of a run: 16 hex digits.
fn run_id(text: &str) -> Result<u64, String> {
    let id = u64::from_str_radix(text, 16).ok();
    id.filter(|id| *id != 0 && text.len() == 16)
        .ok_or_else(|| "expected 16 hex digits".into())
}

/// How the log is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// One line each, for people
    Text,
    /// One JSON object a line
    Json,
}

impl From<Format> for bindgate_daemon::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

/// The network that a run has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Isolate {
    /// A network namespace: the same ports in any number of runs, and nothing
    /// outside can be reached
    Sealed,
    /// Ports of its own on addresses of 127.0.0.0/8: the same ones in any number of
    /// runs, and the network outside is still there
    Address,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum FailOn {
    /// Any refusal
    Deny,
}

/// Rules from the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RuleSource {
    /// `--policy`
    File(PathBuf),
    /// `-r`
    Text(String),
    /// Another option, by its name.
    Option(&'static str, String),
}

impl RuleSource {
    /// These rules as `run` takes them.
    pub fn words(rules: &[RuleSource]) -> Vec<OsString> {
        let word = |rule: &RuleSource| match rule {
            RuleSource::File(path) => Some(["--policy".into(), path.into()]),
            RuleSource::Text(text) => Some(["-r".into(), text.into()]),
            RuleSource::Option(..) => None,
        };
        rules.iter().filter_map(word).flatten().collect()
    }
}

/// `bindgate run`, read.
#[derive(Debug)]
pub struct Run {
    /// `--policy` and `-r` in the order in which they were given.
    pub rules: Vec<RuleSource>,
    /// `--observe`
    pub observe: bool,
    /// `--isolate=sealed`
    pub is_sealed: bool,
    /// `--low-ports`
    pub low_ports: Option<u16>,
    /// `--isolate`
    pub has_own_ports: bool,
    /// `--user`
    pub user: Option<String>,
    /// `--log`; `None` is standard error.
    pub log: Option<PathBuf>,
    /// `--format`
    pub format: Format,
    /// `-q`, `-v`
    pub detail: Detail,
    /// `--wait`
    pub wait: bool,
    /// `--exec`
    pub exec: bool,
    /// `--sync`
    pub sync: bool,
    /// `--fail-on deny`
    pub fail_on_deny: bool,
    /// `--unused`
    pub unused: bool,
    /// `--ready`, and how long that may take.
    pub ready: Option<(String, std::time::Duration)>,
    /// The run's id, where it is not to be any.
    pub id: Option<u64>,
    /// `--watched`
    pub watched: bool,
    /// `--let-go`
    pub let_go: bool,
    /// `--allow-unintercepted`
    pub allow_unintercepted: bool,
    /// `--cid`, `--fabric` and what else says which vsock host it is.
    pub vsock: Vsock,
    /// `--lease`: how many ports.
    pub lease: Option<u16>,
    /// `--publish`
    pub publish: Vec<Publish>,
    /// The program and its arguments, at least one.
    pub command: Vec<OsString>,
}

/// `bindgate doctor`, read.
#[derive(Debug)]
pub struct Doctor {
    /// The program and its arguments, at least one.
    pub command: Vec<OsString>,
    /// `--library`
    pub library: Option<PathBuf>,
}

/// Which vsock host a run is.
#[derive(Debug, Default)]
pub struct Vsock {
    /// `--cid`
    pub cid: Option<u32>,
    /// `--fabric`
    pub fabric: Option<OsString>,
    /// `--vsock-uds`
    pub uds: Option<OsString>,
    /// `--vsock-port`
    pub ports: Vec<OsString>,
    /// `--vsock-guest`
    pub guest: Option<u32>,
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// `run`
    Run(Box<Run>),
    /// `policy check`
    PolicyCheck(Vec<PathBuf>),
    /// `policy show`
    Show(Vec<PathBuf>),
    /// `policy diff`
    Diff(crate::commands::policy_diff::Diff),
    /// `doctor`
    Doctor(Doctor),
    /// `exec`
    Exec(crate::commands::exec::Exec),
    /// `check`
    Check(Box<crate::commands::check::Args>),
    /// `wait`
    Wait(crate::commands::wait::Wait),
    /// `ls`
    Ls(crate::commands::ls::Ls),
    /// `simulate`
    Simulate(crate::commands::simulate::Simulate),
    /// `explain`
    Explain(crate::commands::explain::Explain),
    /// `why`
    Why(crate::commands::why::Why),
    /// `learn`
    Learn(Box<crate::commands::learn::Learn>),
    /// `man`
    Man(Option<PathBuf>),
    /// `completions`
    Completions(clap_complete::Shell),
}

/// Reads the command line. Help and version count as failures with status 0.
pub fn parse(arguments: Vec<OsString>) -> Result<Command, Failure> {
    let said = |error: clap::Error| {
        let _ = match error.kind() {
            ErrorKind::DisplayHelp => std::io::stdout().write_all(help(&error).as_bytes()),
            _ => error.print(),
        };
        Failure::say(error.exit_code(), "")
    };
    let matches = Cli::command()
        .try_get_matches_from(arguments)
        .map_err(said)?;
    let cli = Cli::from_arg_matches(&matches).map_err(said)?;
    Ok(match cli.command {
        Sub::Run(run) => {
            let order = matches
                .subcommand_matches("run")
                .map_or_else(Vec::new, rule_order);
            Command::Run(Box::new(run.read(order)))
        }
        Sub::Policy { what } => match what {
            PolicySub::Check { files } => Command::PolicyCheck(files),
            PolicySub::Show { files } => Command::Show(files),
            PolicySub::Diff(args) => Command::Diff(args),
        },
        Sub::Doctor { library, program } => Command::Doctor(Doctor {
            command: program,
            library,
        }),
        Sub::Ls(args) => Command::Ls(args),
        Sub::Exec(args) => Command::Exec(args),
        Sub::Check(mut args) => {
            args.rules = matches
                .subcommand_matches("check")
                .map_or_else(Vec::new, rule_order);
            Command::Check(args)
        }
        Sub::Wait(args) => Command::Wait(args),
        Sub::Simulate(args) => Command::Simulate(args),
        Sub::Explain(mut args) => {
            args.rules = matches
                .subcommand_matches("explain")
                .map_or_else(Vec::new, rule_order);
            Command::Explain(args)
        }
        Sub::Why(mut args) => {
            args.rules = matches
                .subcommand_matches("why")
                .map_or_else(Vec::new, rule_order);
            Command::Why(args)
        }
        Sub::Learn(mut args) => {
            args.rules = matches
                .subcommand_matches("learn")
                .map_or_else(Vec::new, rule_order);
            Command::Learn(args)
        }
        Sub::Man { directory } => Command::Man(directory),
        Sub::Completions { shell } => Command::Completions(shell),
    })
}

/// The help text, with colours where a person reads it.
fn help(error: &clap::Error) -> String {
    let coloured = std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let rendered = error.render();
    laid_out(&match coloured {
        true => rendered.ansi().to_string(),
        false => rendered.to_string(),
    })
}

/// `--policy` and `-r` by their places on the command line: clap keeps the
/// order of each, but not between the two.
fn rule_order(matches: &ArgMatches) -> Vec<RuleSource> {
    let mut found = Vec::new();
    if let (Some(at), Some(files)) = (
        matches.indices_of("policy"),
        matches.get_many::<PathBuf>("policy"),
    ) {
        found.extend(at.zip(files.map(|f| RuleSource::File(f.clone()))));
    }
    if let (Some(at), Some(rules)) = (
        matches.indices_of("rule"),
        matches.get_many::<String>("rule"),
    ) {
        found.extend(at.zip(rules.map(|r| RuleSource::Text(r.clone()))));
    }
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, rule)| rule).collect()
}

impl RunArgs {
    fn read(self, rules: Vec<RuleSource>) -> Run {
        Run {
            rules,
            observe: self.observe,
            is_sealed: self.place.isolate == Some(Isolate::Sealed),
            low_ports: self.place.low_ports,
            has_own_ports: self.place.isolate == Some(Isolate::Address),
            user: self.place.user,
            log: self.log.filter(|f| f != Path::new("-")),
            format: self.format,
            detail: match (self.quiet, self.verbose) {
                (true, _) => Detail::Quiet,
                (_, true) => Detail::Verbose,
                _ => Detail::Normal,
            },
            wait: self.wait,
            exec: self.exec,
            sync: self.sync,
            fail_on_deny: self.fail_on == Some(FailOn::Deny),
            unused: self.unused,
            ready: self.ready.map(|place| (place, self.ready_timeout)),
            id: self.watched,
            watched: self.watched.is_some(),
            let_go: self.place.let_go,
            allow_unintercepted: self.allow_unintercepted,
            vsock: Vsock {
                cid: self.place.cid,
                fabric: self.place.fabric,
                uds: self.place.vsock_uds,
                ports: self.place.vsock_port,
                guest: self.place.vsock_guest,
            },
            lease: self.place.lease,
            publish: self.publish,
            command: self.command,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Run {
        match parse(line.split(' ').map(OsString::from).collect()).unwrap() {
            Command::Run(run) => *run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn rules_keep_the_order_of_the_command_line() {
        let run = run("bindgate run -r a -p f1 --rule b --policy=f2 -r c -- prog");
        let text = |t: &str| RuleSource::Text(t.into());
        let file = |t: &str| RuleSource::File(t.into());
        assert_eq!(
            run.rules,
            [text("a"), file("f1"), text("b"), file("f2"), text("c")]
        );
    }

    #[test]
    fn what_follows_the_program_is_the_programs() {
        let run = run("bindgate run -q prog --observe -- -v");
        assert_eq!(run.command, ["prog", "--observe", "--", "-v"]);
        assert_eq!((run.detail, run.observe), (Detail::Quiet, false));
    }

    #[test]
    fn no_line_of_an_example_is_wrapped() {
        for (arguments, text) in [
            ("bindgate --help", EXAMPLES.1),
            ("bindgate run --help", RUN_HELP.1),
            ("bindgate wait --help", WAIT_HELP.1),
            ("bindgate check --help", CHECK_HELP.1),
        ] {
            let error = Cli::command()
                .term_width(40)
                .try_get_matches_from(arguments.split(' '))
                .unwrap_err();
            assert!(help(&error).contains(text), "{arguments}");
            assert!(text.lines().all(|l| l.chars().count() <= 80), "{arguments}");
        }
    }

    #[test]
    fn a_dash_is_standard_error() {
        assert_eq!(run("bindgate run --log - prog").log, None);
        assert_eq!(run("bindgate run --log x prog").log, Some("x".into()));
    }
}
