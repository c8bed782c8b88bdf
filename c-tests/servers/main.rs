//! Servers that nobody here wrote, with their distribution's ordinary
//! configuration and a real client.
//!
//! Each runs plain, preloaded, observed, moved, refused, hidden and moved to a
//! Unix socket, in a network namespace and mounts of its own. "The same" is:
//! exit status, stdout, stderr, `ss -lntup`, and the client's bytes.

mod debian;
mod haproxy;
mod http;
mod nginx;
mod postgresql;
mod redis;
mod scene;
mod socat;
mod sshd;

fn main() {
    support::main(|| {
        let mut trials = Vec::new();
        trials.extend(nginx::trials());
        trials.extend(redis::trials());
        trials.extend(haproxy::trials());
        trials.extend(postgresql::trials());
        trials.extend(http::trials());
        trials.extend(socat::trials());
        trials.extend(sshd::trials());
        trials.extend(debian::trials());
        trials
    })
}
