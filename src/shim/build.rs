//! Chooses the linker of the library.

use std::env;
use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    // lld, which rustc takes on x86-64, keeps std's panic machinery and its
    // reader of debugging information for the sake of unwind tables that
    // nothing uses: twice the size of all the rest. GNU ld drops them.
    let gnu_ld = || {
        let version = Command::new("ld.bfd")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        version.is_ok_and(|status| status.success())
    };
    if target("ARCH") == "x86_64" && target("ENV") == "gnu" && gnu_ld() {
        println!("cargo::rustc-cdylib-link-arg=-fuse-ld=bfd");
    }
    // Every process of a run maps the library: as two parts, not as four, and
    // without the loader's last step, which makes a third of the second one
    // read-only again and costs a page of memory. What it would guard is no
    // more than our own table of functions is, which has to be writable.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,noseparate-code,-z,norelro");
}
