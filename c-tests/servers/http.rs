//! Web servers that come with languages: Python's, node's with a cluster of
//! workers, Java's.

use std::fs;

use libtest_mimic::Trial;

use crate::scene::{Server, get};
use support::Run;

const PYTHON: Server = Server {
    name: "python",
    needs: &["python3", "curl", "ss"],
    port: 8000,
    prepare: || {
        let run = Run::new("/usr/bin/python3").args(["-u", "-m", "http.server"]);
        fs::write(run.dir().join("file.txt"), "hello\n").unwrap();
        run
    },
    ready: |_, process| process.stdout().contains("Serving HTTP"),
    client: |_, place| {
        let page = get(place, "/file.txt")?;
        Ok(page
            .lines()
            .filter(|l| !l.starts_with("Last-Modified"))
            .collect::<Vec<_>>()
            .join("\n"))
    },
    done: |_| true,
    end: libc::SIGINT,
    to_unix: &[("*:8000", "web.sock")],
};

const CLUSTER: &str = "
const cluster = require('cluster');
const http = require('http');
if (cluster.isPrimary) {
  let listening = 0;
  const workers = [cluster.fork(), cluster.fork()];
  cluster.on('listening', (_, address) => {
    if (++listening == 2) console.log('ready on port', address.port);
  });
  cluster.once('message', (_, error) => console.error('cannot listen:', error));
  // Not before the last is gone: one that still starts would write to nobody.
  let left = workers.length;
  cluster.on('exit', (_, code) => { if (--left == 0) process.exit(code); });
  process.on('SIGTERM', () => workers.forEach((w) => w.process.kill('SIGTERM')));
} else {
  const server = http.createServer((request, response) => {
    const { address, port } = server.address();
    response.end(`I am on ${address} port ${port}, you are ${request.socket.remoteFamily}\\n`);
  });
  server.on('error', (error) => process.send(error.message, () => process.exit(4)));
  server.listen(8000, '0.0.0.0');
  process.on('SIGTERM', () => process.exit(5));
}
";

const NODE: Server = Server {
    name: "node",
    needs: &["node", "curl", "ss"],
    port: 8000,
    prepare: || {
        let run = Run::new("node").arg("cluster.js");
        fs::write(run.dir().join("cluster.js"), CLUSTER).unwrap();
        run
    },
    ready: |_, process| process.stdout().contains("ready"),
    client: |_, place| Ok(get(place, "/")? + &get(place, "/")?),
    done: |_| true,
    end: libc::SIGTERM,
    to_unix: &[("*:8000", "web.sock")],
};

const JAVA_PROGRAM: &str = r#"
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

public class Server {
    public static void main(String[] args) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(8000), 0);
        server.createContext("/", exchange -> {
            byte[] text = ("I am on port " + exchange.getLocalAddress().getPort() + "\n").getBytes();
            exchange.sendResponseHeaders(200, text.length);
            exchange.getResponseBody().write(text);
            exchange.close();
        });
        server.start();
        System.out.println("ready on " + server.getAddress());
    }
}
"#;

const JAVA: Server = Server {
    name: "java",
    needs: &["java", "curl", "ss"],
    port: 8000,
    prepare: || {
        let run = Run::new("java").args(["-XX:TieredStopAtLevel=1", "-Xmx64m", "Server.java"]);
        fs::write(run.dir().join("Server.java"), JAVA_PROGRAM).unwrap();
        run
    },
    ready: |_, process| process.stdout().contains("ready"),
    client: |_, place| get(place, "/"),
    done: |_| true,
    end: libc::SIGTERM,
    to_unix: &[("*:8000", "web.sock")],
};

pub fn trials() -> Vec<Trial> {
    [PYTHON, NODE, JAVA]
        .iter()
        .flat_map(Server::trials)
        .collect()
}
