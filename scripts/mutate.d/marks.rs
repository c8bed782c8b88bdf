//! Marks in the sources: branches that the running kernel cannot show broken,
//! and why.
//!
//! * `// mutants: KIND: REASON` is for the item, statement, arm or expression
//!   that begins on the next line of code,
//! * ``// mutants: KIND `CODE`: REASON`` for what stands there as CODE alone,
//! * `//! mutants: KIND: REASON` for the whole file.
//!
//! A mark hides nothing: its branches are broken like the others, and listed
//! under its kind with the reason if nobody notices.

use proc_macro2::{LineColumn, Span};
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{Arm, Expr, ImplItemFn, ItemFn, Stmt};

/// The kinds that there are; a mark of another is a mistake.
const KINDS: [&str; 7] = [
    "holder",
    "faster",
    "generation",
    "machine",
    "scribbled",
    "drawn",
    "told",
];

struct Mark {
    from: LineColumn,
    to: LineColumn,
    /// What is meant, if not all of it, without blanks.
    code: Option<String>,
    text: String,
}

#[derive(Default)]
pub struct Marks(Vec<Mark>);

/// Where everything begins and ends that a mark may be for.
#[derive(Default)]
struct Places {
    all: Vec<(LineColumn, LineColumn)>,
    told: Vec<Span>,
}

impl Places {
    fn add(&mut self, from: Span, to: Span) {
        self.all.push((from.start(), to.end()));
    }
}

/// Only tells which checks were passed.
fn is_told(stmt: &Stmt) -> bool {
    let Stmt::Expr(Expr::MethodCall(call), Some(_)) = stmt else {
        return false;
    };
    call.method == "pass" && matches!(&*call.receiver, Expr::Path(p) if p.path.is_ident("cx"))
}

impl VisitMut for Places {
    fn visit_item_fn_mut(&mut self, item: &mut ItemFn) {
        self.add(item.vis.span(), item.block.span());
        self.add(item.sig.span(), item.block.span());
        visit_mut::visit_item_fn_mut(self, item);
    }

    fn visit_impl_item_fn_mut(&mut self, item: &mut ImplItemFn) {
        self.add(item.vis.span(), item.block.span());
        self.add(item.sig.span(), item.block.span());
        visit_mut::visit_impl_item_fn_mut(self, item);
    }

    fn visit_stmt_mut(&mut self, stmt: &mut Stmt) {
        self.add(stmt.span(), stmt.span());
        visit_mut::visit_stmt_mut(self, stmt);
    }

    fn visit_arm_mut(&mut self, arm: &mut Arm) {
        self.add(arm.span(), arm.span());
        visit_mut::visit_arm_mut(self, arm);
    }

    fn visit_expr_mut(&mut self, e: &mut Expr) {
        self.add(e.span(), e.span());
        if let Expr::If(x) = e
            && x.else_branch.is_none()
            && x.then_branch.stmts.iter().all(is_told)
        {
            self.told.push(x.cond.span());
        }
        visit_mut::visit_expr_mut(self, e);
    }
}

/// Kind, code, reason.
fn parse(mark: &str) -> (String, Option<String>, String) {
    let (kind, reason) = match mark.split_once('`') {
        Some((kind, rest)) => {
            let (code, reason) = rest.split_once("`:").expect("a reason");
            return (kind.trim().into(), Some(code.into()), reason.trim().into());
        }
        None => mark.split_once(':').expect("a reason"),
    };
    (kind.trim().into(), None, reason.trim().into())
}

fn dense(code: &str) -> String {
    code.chars().filter(|c| !c.is_whitespace()).collect()
}

impl Marks {
    /// Those of one source.
    pub fn read(text: &str, file: &mut syn::File) -> Marks {
        let mut places = Places::default();
        places.visit_file_mut(file);
        let mut marks = Vec::new();
        for span in &places.told {
            marks.push(Mark {
                from: span.start(),
                to: span.end(),
                code: None,
                text: "told: nothing hangs on it but which checks are named".into(),
            });
        }
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (i, line) in lines.iter().enumerate() {
            let whole = line.strip_prefix("//! mutants: ");
            let Some(mark) = whole.or(line.strip_prefix("// mutants: ")) else {
                continue;
            };
            let (kind, code, reason) = parse(mark);
            assert!(KINDS.contains(&kind.as_str()), "{line}");
            let code_line = |l: &&str| !l.starts_with("//") && !l.starts_with("#[");
            let at = i
                + 2
                + lines[i + 1..]
                    .iter()
                    .position(|l| code_line(&l))
                    .unwrap_or(0);
            let starts = || places.all.iter().filter(|(from, _)| from.line == at);
            let (from, to) = match whole {
                Some(_) => (LineColumn { line: 0, column: 0 }, end()),
                None => (
                    starts().map(|p| p.0).min().expect("a mark before nothing"),
                    starts().map(|p| p.1).max().expect("a mark before nothing"),
                ),
            };
            marks.push(Mark {
                from,
                to,
                code: code.as_deref().map(dense),
                text: format!("{kind}: {reason}"),
            });
        }
        Marks(marks)
    }

    /// The mark of what stands here; `-` if it has none.
    pub fn of(&self, at: LineColumn, code: &str) -> &str {
        let mut marks = self.0.iter();
        let mark = marks.find(|m| {
            m.from <= at && at < m.to && m.code.as_ref().is_none_or(|c| *c == dense(code))
        });
        mark.map_or("-", |m| &m.text)
    }
}

fn end() -> LineColumn {
    LineColumn {
        line: usize::MAX,
        column: 0,
    }
}
