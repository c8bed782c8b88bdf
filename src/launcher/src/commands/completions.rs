//! Completions for shells.

use std::io::Write;

use clap_complete::Shell;

use crate::args;
use crate::{Failure, exit};

/// Writes completions for a shell to standard output.
pub fn completions(shell: Shell) -> Result<i32, Failure> {
    std::io::stdout()
        .write_all(&script(shell))
        .map_err(|e| Failure::new(exit::SYSTEM, "standard output", e))?;
    Ok(0)
}

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "bindgate", &mut script);
    if shell == Shell::Bash {
        let with_values = options_with_values().join("|");
        script.extend_from_slice(BASH.replace("@OPTIONS@", &with_values).as_bytes());
    }
    if shell == Shell::Fish {
        script.extend_from_slice(FISH.as_bytes());
    }
    script
}

/// The options of `run` and `doctor` whose value is the next word.
fn options_with_values() -> Vec<String> {
    let command = args::command();
    let commands = command.get_subcommands();
    let commands = commands.filter(|c| matches!(c.get_name(), "run" | "doctor"));
    let options = commands.flat_map(clap::Command::get_arguments);
    let is_next = |a: &&clap::Arg| a.get_action().takes_values() && !a.is_require_equals_set();
    let options = options.filter(|a| !a.is_positional()).filter(is_next);
    let names = options.flat_map(|a| {
        let short = a.get_short().map(|c| format!("-{c}"));
        short
            .into_iter()
            .chain(a.get_long().map(|l| format!("--{l}")))
    });
    names.collect()
}

/// What the generator for fish does not know; fish has a function for it.
const FISH: &str = r#"
complete -c bindgate -x -n "__fish_bindgate_using_subcommand run" \
    -a "(__fish_complete_subcommand --fcs-skip=2)"
complete -c bindgate -x -n "__fish_bindgate_using_subcommand doctor" \
    -a "(__fish_complete_subcommand --fcs-skip=2)"
complete -c bindgate -x -n "__fish_bindgate_using_subcommand exec" \
    -a "(__fish_complete_subcommand --fcs-skip=3)"
"#;

/// What the generator for bash does not know: after the options of `run` and
/// `doctor`, and the run of `exec`, comes a command line of its own.
const BASH: &str = r#"
_bindgate_command() {
    local at=2 word
    case ${COMP_WORDS[1]} in
    run | doctor) ;;
    exec) at=3 ;;
    *) at=$((COMP_CWORD + 1)) ;;
    esac
    while ((at < COMP_CWORD)); do
        word=${COMP_WORDS[at]}
        case $word in
        --)
            ((at++))
            break
            ;;
        @OPTIONS@)
            ((at++))
            [[ ${COMP_WORDS[at]} == = ]] && ((at++))
            ((at++))
            ;;
        -*)
            ((at++))
            [[ ${COMP_WORDS[at]} == = ]] && ((at += 2))
            ;;
        *) break ;;
        esac
    done
    if ((at > COMP_CWORD)) || { ((at == COMP_CWORD)) && [[ $2 == -* ]]; }; then
        _bindgate "$@"
    elif declare -F _command_offset >/dev/null; then
        _command_offset $at
    elif ((at == COMP_CWORD)); then
        COMPREPLY=($(compgen -c -- "$2"))
    else
        COMPREPLY=($(compgen -f -- "$2"))
    fi
}
complete -F _bindgate_command -o bashdefault -o default bindgate
"#;

#[cfg(test)]
mod tests {
    use super::*;

    /// What bash offers for the last word of a line.
    fn offered(words: &[&str]) -> Vec<String> {
        let path = std::env::temp_dir().join(format!("bindgate-bash-{}", std::process::id()));
        std::fs::write(&path, script(Shell::Bash)).unwrap();
        let ask = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                   _bindgate_command bindgate \"${COMP_WORDS[COMP_CWORD]}\" \
                   \"${COMP_WORDS[COMP_CWORD - 1]}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
        let out = std::process::Command::new("bash")
            .args(["--norc", "-c", ask, "bash"])
            .arg(&path)
            .args(words)
            .output()
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        text.lines().map(str::to_string).collect()
    }

    #[test]
    fn bash_completes_the_program() {
        let has = |words: &[&str], want: &str| offered(words).iter().any(|w| w == want);
        assert!(has(&["bindgate", "run", "-r", "x", "prin"], "printf"));
        assert!(has(
            &["bindgate", "run", "--policy", "=", "x", "--", "prin"],
            "printf"
        ));
        assert!(has(&["bindgate", "doctor", "prin"], "printf"));
        assert!(has(&["bindgate", "run", "--obs"], "--observe"));
        assert!(has(&["bindgate", "run", "-q", "--obs"], "--observe"));
        assert!(has(&["bindgate", "run", "--format", "js"], "json"));
        assert!(!has(&["bindgate", "run", "-r", "prin"], "printf"));
        assert!(has(&["bindgate", "pol"], "policy"));
        assert!(has(&["bindgate", "exec", "1a38", "prin"], "printf"));
        assert!(has(&["bindgate", "exec", "1a38", "--", "prin"], "printf"));
        assert!(has(&["bindgate", "ls", "--wa"], "--watch"));
        let sealed = ["bindgate", "run", "--isolate", "=", "sealed", "--", "prin"];
        assert!(has(&sealed, "printf"));
    }

    #[test]
    fn zsh_and_fish_complete_the_program() {
        let text = |shell| String::from_utf8(script(shell)).unwrap();
        assert!(text(Shell::Zsh).contains("The program and its arguments:_cmdambivalent"));
        assert!(text(Shell::Fish).contains("(__fish_complete_subcommand --fcs-skip=2)"));
    }
}
