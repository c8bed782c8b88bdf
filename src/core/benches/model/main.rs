//! What the model's answers cost as its tables fill, beside the running kernel.
//!
//! `cargo bench -p bindgate-core --bench model`; `-- --sizes 10,1000` takes
//! other sizes, `-- --only TEXT` the rows with that in their name, `--
//! --model` leaves the kernel out, `-- --no-count` the instructions. The
//! kernel's sockets live in a network namespace of their own (root).
//! Instructions are counted by callgrind, if valgrind is installed.
//!
//! | file | what |
//! |---|---|
//! | `scenes` | how the tables are filled, and the bind that is measured: the rows |
//! | `measure` | by the clock, and by callgrind |
//! | `world` | what a row asks of whoever answers: sockets, binds |
//! | `of_model`, `of_kernel` | the two that answer |

mod measure;
mod of_kernel;
mod of_model;
mod scenes;
mod world;

use bindgate_core::model::{Generation, Host, OwnedNet};
use of_kernel::{Kernel, own_namespace};
use of_model::{Model, touch};
use scenes::{AUTO, MOST_PORTS, SCENES, SHARES};

const SIZES: [u32; 4] = [10, 1_000, 100_000, 1_000_000];

/// What was asked for.
struct Asked {
    sizes: Vec<u32>,
    only: String,
    counts: bool,
    kernel: Result<(), String>,
}

fn asked(args: &[String]) -> Asked {
    let has = |flag: &str| args.iter().any(|a| a == flag);
    let after = |flag: &str| {
        let i = args.iter().position(|a| a == flag)?;
        args.get(i + 1)
    };
    Asked {
        sizes: after("--sizes").map_or(SIZES.to_vec(), |s| {
            s.split(',').map(|n| n.parse().unwrap()).collect()
        }),
        only: after("--only").cloned().unwrap_or_default(),
        counts: !has("--no-count"),
        kernel: if has("--model") {
            Err("not asked".to_owned())
        } else {
            own_namespace()
        },
    }
}

impl Asked {
    fn counted(&self, what: &str, n: u32) -> Option<f64> {
        self.counts
            .then(|| measure::instructions(what, n))
            .flatten()
    }

    /// The kernel's time, where it is the one that the row is about.
    fn kernel(
        &self,
        on: Generation,
        ask: impl FnOnce(&mut Kernel) -> Result<f64, String>,
    ) -> Result<f64, String> {
        if on.is_freebsd() {
            return Err("-".to_owned());
        }
        self.kernel.clone()?;
        ask(&mut Kernel::default())
    }
}

/// Rows of one system with the model's tables, large enough and touched.
fn with_tables(on: Generation, sockets: u32, rows: impl FnOnce(&mut OwnedNet)) {
    let mut owned = OwnedNet::new(Host::loopback(on), sockets + 100);
    touch(&mut Model::on(owned.net()));
    rows(&mut owned);
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "--counted") {
        measure::counted(&args[1..]);
        return;
    }
    let asked = asked(&args);
    let most = asked.sizes.iter().copied().max().unwrap_or(0);
    let systems = [Generation::Linux6_18, Generation::FreeBsd14_3];
    println!("scene | sockets | instructions | model | kernel");
    for on in systems {
        with_tables(on, most, |owned| {
            for (i, scene) in SCENES.iter().enumerate() {
                if scene.on != on || !scene.name.contains(&asked.only) {
                    continue;
                }
                let mut base = None;
                for &n in &asked.sizes {
                    let model = measure::scene(&mut Model::on(owned.net()), scene, n);
                    let counted = asked.counted(&i.to_string(), n);
                    let kernel = asked.kernel(on, |k| measure::scene(k, scene, n));
                    let used = n.to_string();
                    row(scene.name, &used, counted, &mut base, &model, &kernel);
                }
            }
        });
    }
    for on in systems {
        with_tables(on, MOST_PORTS, |owned| {
            for (i, auto) in AUTO.iter().enumerate() {
                if auto.on != on || !auto.name.contains(&asked.only) {
                    continue;
                }
                let mut base = None;
                for share in SHARES {
                    let n = auto.range * share / 10_000;
                    let model = measure::auto(&mut Model::on(owned.net()), auto, n);
                    let counted = asked.counted(&format!("auto{i}"), n);
                    let kernel = asked.kernel(on, |k| measure::auto(k, auto, n));
                    let used = format!("{} % used", f64::from(share) / 100.0);
                    row(auto.name, &used, counted, &mut base, &model, &kernel);
                }
            }
        });
    }
}

fn row(
    name: &str,
    size: &str,
    instructions: Option<f64>,
    base: &mut Option<f64>,
    model: &Result<f64, String>,
    kernel: &Result<f64, String>,
) {
    let counted = instructions.map_or("-".to_owned(), |n| {
        let base = *base.get_or_insert(n);
        format!("{n:.0} ({:.2} x)", n / base)
    });
    println!(
        "{name} | {size} | {counted} | {} | {}",
        cell(model),
        cell(kernel)
    );
}

fn cell(r: &Result<f64, String>) -> String {
    match r {
        Ok(ns) if *ns >= 1_000_000.0 => format!("{:.1} ms", ns / 1e6),
        Ok(ns) if *ns >= 10_000.0 => format!("{:.0} µs", ns / 1e3),
        Ok(ns) => format!("{ns:.0} ns"),
        Err(e) => e.clone(),
    }
}
