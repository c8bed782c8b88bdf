//! What `bindgate` can be told to do: a file for each command.
//!
//! | module | command |
//! |---|---|
//! | [`run`] | `run`: what is set up, in which order |
//! | [`check`] | `check`: does a program do what is expected of it |
//! | [`policy`] | `policy check`, `policy show`, and the sources of rules |
//! | [`policy_diff`] | `policy diff`: what one allows and the other does not |
//! | [`doctor`] | `doctor`: can a program be intercepted, and what is lost here |
//! | [`explain`] | `explain`: what would happen to a call, and why |
//! | [`learn`] | `learn`: the tightest policy that allows what a run did |
//! | [`exec`] | `exec`: a command in a run that is there already |
//! | [`ls`] | `ls`: what is bound in each run |
//! | [`ready`] | `run --ready`: returns when the program listens |
//! | [`wait`] | `wait`: until something of a run listens |
//! | [`simulate`] | `simulate`: scripts of calls on the model, and on the kernel |
//! | [`why`] | `why`: why a bind or connect fails |
//! | [`completions`] | `completions`: for the shells |
//! | [`manual`] | `manual`: the man pages |

pub mod check;
pub mod completions;
pub mod doctor;
pub mod exec;
pub mod explain;
pub mod learn;
pub mod ls;
pub mod manual;
pub mod policy;
pub mod policy_diff;
pub mod ready;
pub mod run;
pub mod simulate;
pub mod wait;
pub mod why;
