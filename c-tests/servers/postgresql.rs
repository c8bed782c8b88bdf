//! PostgreSQL as an unprivileged user, with the configuration that initdb
//! writes: it listens on `localhost`, IPv4 and IPv6.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use libtest_mimic::Trial;

use crate::scene::{Place, Server, output};
use support::{NOBODY, Run, which, work_dir};

const POSTGRESQL: Server = Server {
    name: "postgresql",
    needs: &["postgres", "initdb", "psql", "ss"],
    port: 5432,
    prepare: || {
        let run = Run::new(which("postgres").unwrap()).user(NOBODY);
        let data = run.dir().join("data");
        output(Command::new("cp").arg("-a").arg(cluster()).arg(&data)).unwrap();
        fs::create_dir(run.dir().join("pg")).unwrap();
        output(
            Command::new("chown")
                .arg(NOBODY.to_string())
                .arg(run.dir().join("pg")),
        )
        .unwrap();
        let own = run.dir().to_owned();
        run.arg("-D").arg(data).arg("-k").arg(own)
    },
    ready: |_, process| process.stderr().contains("ready to accept connections"),
    client: |_, place| {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-A", "-U", "nobody", "-d", "postgres"]);
        match place {
            Place::Port(port) => psql.args(["-h", "127.0.0.1", "-p", &port.to_string()]),
            Place::Unix(path) => psql.arg("-h").arg(path.parent().unwrap()),
        };
        psql.args(["-c", "create table t as select generate_series(1, 5) as n"]);
        psql.args(["-c", "select sum(n), inet_server_port() from t"]);
        let text = output(&mut psql)?;
        // The port that the server believes to have, where it believes in one.
        Ok(text)
    },
    done: |_| true,
    end: libc::SIGINT,
    to_unix: &[
        ("127.0.0.1:5432", "pg/.s.PGSQL.5432"),
        ("[::1]:5432", "pg/.s.PGSQL.54326"),
    ],
};

pub fn trials() -> Vec<Trial> {
    POSTGRESQL.trials()
}

/// A fresh cluster, made once and copied.
fn cluster() -> &'static PathBuf {
    static CLUSTER: OnceLock<PathBuf> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let dir = work_dir().join("cluster");
        let mut initdb = Command::new("setpriv");
        initdb.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
        initdb.arg(which("initdb").unwrap());
        initdb.args([
            "-U",
            "nobody",
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ]);
        initdb
            .arg("-D")
            .arg(&dir)
            .env_remove("LC_ALL")
            .current_dir("/");
        output(&mut initdb).unwrap();
        dir
    })
}
