//! The command line: what clap reads, and what the rest of the launcher wants.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use bindgate_core::render::Detail;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::{Failure, exit};

/// Decide what an unmodified program may do with socket() and bind().
///
/// bindgate starts a program with a small library in front of libc. The
/// library looks at each socket() and bind() of the program and of everything
/// that it starts, lets it pass, refuses it, or moves it elsewhere, as the
/// rules say, and logs each decision with its reason.
#[derive(Parser, Debug)]
#[command(name = "bindgate", version, max_term_width = 90, after_long_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

const EXAMPLES: &str = "\
Examples:
  See what a program binds, without changing anything:
      bindgate run -- python3 -m http.server 8000

  Let a server have \"port 80\" without being root:
      bindgate run -r 'move bind tcp *:80 to loopback:8080' -- nginx

  Say what a program may bind, and refuse the rest:
      bindgate run -r 'allow bind tcp loopback:1024-65535' -r 'default deny for bind' -- ./server

  In CI: fail if anything was refused, keep the log as JSON lines:
      bindgate run --policy ci.policy --fail-on deny --format json --log binds.json -- make test

  Look before you run:
      bindgate policy check web.policy
      bindgate doctor -- /usr/bin/ping";

const RUN_HELP: &str = "\
Rules:
  One rule a line, the first that matches decides. --policy and -r count in
  the order in which they are given; then come the environment variables
  BINDGATE_RULES (rules) and BINDGATE_POLICY (a file).

      allow bind tcp loopback:1024-65535
      deny  bind udp *:53            with EADDRINUSE
      move  bind tcp *:80            to loopback:8080    # getsockname still says :80
      move  bind vsock *:5000        to unix:/run/app-%p.sock
      hide  bind tcp exactly [::]:*                      # the program thinks it is bound
      default deny EACCES for bind
      mode observe                                       # only record

Exit status:
  The program's own; if a signal ended the program, the same signal ends
  bindgate. Before there is a program, or instead of its 0:
    2    wrong use of the command line
    71   the run could not be set up
    73   the log cannot be opened
    77   --fail-on deny: something was refused, and the program ended with 0
    78   the policy is broken, or the program cannot be held to it
    126  the program was found but could not be started
    127  the program was not found

Environment:
  BINDGATE_RULES, BINDGATE_POLICY   rules behind those of the command line
  BINDGATE_LIBRARY                  the library, if it is not near bindgate
  BINDGATE_DEBUG                    what bindgate says of itself: debug, trace
  NO_COLOR                          no colours on a terminal

Signals:
  What is sent to bindgate alone goes on to the program. With --log, SIGHUP
  does not: it makes bindgate open the log file anew, after a rotation.";

#[derive(Subcommand, Debug)]
enum Sub {
    /// Run a program under a policy and log its decisions
    Run(RunArgs),
    /// Check or show a policy, without running anything
    Policy {
        #[command(subcommand)]
        what: PolicySub,
    },
    /// Say whether a program can be seen at all, and if not, what to do
    Doctor {
        /// Judge as for this library instead of the one that `run` would use
        #[arg(long, value_name = "FILE")]
        library: Option<PathBuf>,
        /// The program, looked up as `run` would
        #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
        program: Vec<OsString>,
    },
    /// Play a script of socket calls on the model of the kernel's bind tables
    Simulate(super::simulate::Simulate),
    /// Say what would happen to a bind, and which rule and check decide
    Explain(super::explain::Explain),
    /// Write the manual pages into a directory, or the first to standard output
    #[command(hide = true)]
    Man {
        /// Where to
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
    /// Report errors and warnings; ends with 78 if there are errors
    Check {
        /// Policy files, in order; - is standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the rules as they are understood, numbered as in the log
    Show {
        /// Policy files, in order; - is standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Args, Debug)]
#[command(
    after_long_help = RUN_HELP,
    override_usage = "bindgate run [OPTIONS] [--] <PROGRAM> [ARG]..."
)]
struct RunArgs {
    /// Read rules from a file; may be given more than once
    #[arg(long, short, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// One more rule, as a policy file would have it
    #[arg(long, short, value_name = "RULE", allow_hyphen_values = true)]
    rule: Vec<String>,
    /// Change nothing, record what would happen
    #[arg(long)]
    observe: bool,
    /// Append the log to a file instead of standard error
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How the log is written; docs/log.md describes the JSON
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Log only what was refused or changed
    #[arg(long, short, conflicts_with = "verbose")]
    quiet: bool,
    /// Log everything, with the stages passed and the deciding check
    #[arg(long, short)]
    verbose: bool,
    /// Wait until the last process of the run is gone
    #[arg(long, conflicts_with = "exec")]
    wait: bool,
    /// Become the program instead of waiting for it: same process id
    #[arg(long)]
    exec: bool,
    /// End with 77 if anything was refused and the program ended with 0
    #[arg(long, value_name = "WHAT", conflicts_with = "exec")]
    fail_on: Option<FailOn>,
    /// Let a program that drops the preload on purpose go
    #[arg(long)]
    let_go: bool,
    /// Start programs that cannot be seen, in spite of an enforcing policy
    #[arg(long)]
    allow_unseen: bool,
    /// The program and its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
    command: Vec<OsString>,
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
}

/// `bindgate run`, read.
#[derive(Debug)]
pub struct Run {
    /// `--policy` and `-r` in the order in which they were given.
    pub rules: Vec<RuleSource>,
    /// `--observe`
    pub observe: bool,
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
    /// `--fail-on deny`
    pub fail_on_deny: bool,
    /// `--let-go`
    pub let_go: bool,
    /// `--allow-unseen`
    pub allow_unseen: bool,
    /// The program and its arguments, at least one.
    pub command: Vec<OsString>,
}

/// `bindgate doctor`, read.
#[derive(Debug)]
pub struct Doctor {
    /// The program.
    pub program: OsString,
    /// `--library`
    pub library: Option<PathBuf>,
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// `run`
    Run(Box<Run>),
    /// `policy check`
    Check(Vec<PathBuf>),
    /// `policy show`
    Show(Vec<PathBuf>),
    /// `doctor`
    Doctor(Doctor),
    /// `simulate`
    Simulate(super::simulate::Simulate),
    /// `explain`
    Explain(super::explain::Explain),
    /// `man`
    Man(Option<PathBuf>),
    /// `completions`
    Completions(clap_complete::Shell),
}

/// Reads the command line. Help and version count as failures with status 0.
pub fn parse(arguments: Vec<OsString>) -> Result<Command, Failure> {
    let said = |error: clap::Error| {
        let _ = error.print();
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
            PolicySub::Check { files } => Command::Check(files),
            PolicySub::Show { files } => Command::Show(files),
        },
        Sub::Doctor { library, program } => Command::Doctor(Doctor {
            program: program.into_iter().next().unwrap_or_default(),
            library,
        }),
        Sub::Simulate(args) => Command::Simulate(args),
        Sub::Explain(mut args) => {
            args.rules = matches
                .subcommand_matches("explain")
                .map_or_else(Vec::new, rule_order);
            Command::Explain(args)
        }
        Sub::Man { directory } => Command::Man(directory),
        Sub::Completions { shell } => Command::Completions(shell),
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
            log: self.log.filter(|f| f != Path::new("-")),
            format: self.format,
            detail: match (self.quiet, self.verbose) {
                (true, _) => Detail::Quiet,
                (_, true) => Detail::Verbose,
                _ => Detail::Normal,
            },
            wait: self.wait,
            exec: self.exec,
            fail_on_deny: self.fail_on == Some(FailOn::Deny),
            let_go: self.let_go,
            allow_unseen: self.allow_unseen,
            command: self.command,
        }
    }
}

/// Writes the manual pages: one for each command, or the first one to
/// standard output.
pub fn man(directory: Option<&Path>) -> Result<i32, Failure> {
    let failed = |e: std::io::Error| Failure::new(exit::SYSTEM, "manual pages", e);
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    match directory {
        Some(directory) => pages(&command, directory).map_err(failed)?,
        None => std::io::stdout()
            .write_all(&page(&command).map_err(failed)?)
            .map_err(failed)?,
    }
    Ok(0)
}

fn pages(command: &clap::Command, directory: &Path) -> std::io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    std::fs::write(directory.join(format!("{name}.1")), page(command)?)?;
    command
        .get_subcommands()
        .filter(|c| !c.is_hide_set())
        .try_for_each(|c| pages(c, directory))
}

/// One page. What follows the options in `--help` is laid out already: it
/// stays as it is, under headings of its own.
fn page(command: &clap::Command) -> std::io::Result<Vec<u8>> {
    let after = command.get_after_long_help().map(ToString::to_string);
    let command = command.clone().after_long_help("");
    let man = clap_mangen::Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(&mut page)?;
    }
    if command.get_subcommands().any(|c| !c.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let mut open = false;
    for line in after.as_deref().unwrap_or("").lines() {
        match line.strip_suffix(':').filter(|l| !l.starts_with(' ')) {
            Some(heading) => {
                let end = if open { ".fi\n" } else { "" };
                writeln!(page, "{end}.SH {}\n.nf", heading.to_uppercase())?;
                open = true;
            }
            // `\\&` keeps a leading dot or quote from being a request.
            None => writeln!(page, "\\&{}", line.replace('\\', "\\e").replace('-', "\\-"))?,
        }
    }
    page.extend_from_slice(if open { b".fi\n" } else { b"" });
    page.extend_from_slice(b".SH SEE ALSO\n\\fBld.so\\fR(8), \\fBbind\\fR(2), \\fBsocket\\fR(2)\n");
    Ok(page)
}

/// Writes completions for a shell.
pub fn completions(shell: clap_complete::Shell) -> Result<i32, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bindgate", &mut script);
    std::io::stdout()
        .write_all(&script)
        .map_err(|e| Failure::new(exit::SYSTEM, "standard output", e))?;
    Ok(0)
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
    fn a_dash_is_standard_error() {
        assert_eq!(run("bindgate run --log - prog").log, None);
        assert_eq!(run("bindgate run --log x prog").log, Some("x".into()));
    }
}
