//! Rewrites Rust sources so that each of their branches can be broken while
//! the program runs: `mutate LIST FILE…` changes the files in place and lists
//! what can be broken, one a line: number, mark, file, line, what.
//!
//! * A condition becomes `m(N, condition)`, which turns round if N is broken:
//!   of `if`, `while` and guards, of each side of `&&` and `||`, every
//!   comparison, `matches!`, and calls that by their name answer yes or no.
//! * An arm of a `match` that ends with `_` gets the guard `m(N, true)`.
//! * A statement that is a call on `self` and gives nothing becomes
//!   `if m(N, true) { … }`.
//!
//! What only names checks for the reader (`cx.pass`, `cx.holder`) is left. A
//! condition on which nothing else hangs is marked `told`. Other marks stand in
//! the sources (`marks.rs`).

mod marks;

use std::fmt::Write as _;

use marks::Marks;
use proc_macro2::Span;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{Arm, BinOp, Block, Expr, ItemConst, ItemFn, ItemMod, Pat, PatGuard, Stmt, parse_quote};

struct Mutate {
    file: String,
    next: u32,
    list: String,
    marks: Marks,
}

fn is_wrapped(e: &Expr) -> bool {
    match e {
        Expr::Call(call) => match &*call.func {
            Expr::Path(p) => p.path.segments.iter().any(|s| s.ident == "mutant"),
            _ => false,
        },
        Expr::Paren(p) => is_wrapped(&p.expr),
        Expr::Unary(u) => is_wrapped(&u.expr),
        _ => false,
    }
}

/// Joins conditions: its sides are broken, not itself.
fn is_joint(e: &Expr) -> bool {
    match e {
        Expr::Binary(b) => matches!(b.op, BinOp::And(_) | BinOp::Or(_)),
        Expr::Paren(p) => is_joint(&p.expr),
        Expr::Let(_) => true,
        _ => false,
    }
}

fn answers_yes_or_no(e: &Expr) -> bool {
    match e {
        Expr::Binary(b) => matches!(
            b.op,
            BinOp::Eq(_) | BinOp::Ne(_) | BinOp::Lt(_) | BinOp::Le(_) | BinOp::Gt(_) | BinOp::Ge(_)
        ),
        Expr::MethodCall(c) => {
            let name = c.method.to_string();
            name.starts_with("is_")
                || ["any", "all", "contains", "has_device", "has_v6"].contains(&name.as_str())
        }
        Expr::Macro(m) => m.mac.path.is_ident("matches"),
        _ => false,
    }
}

impl Mutate {
    fn number(&mut self, span: Span, what: &str, code: &impl ToTokens) -> u32 {
        self.next += 1;
        let code: String = code.to_token_stream().to_string();
        let code: String = code.replace('\n', " ").chars().take(100).collect();
        let _ = writeln!(
            self.list,
            "{}\t{}\t{}\t{}\t{what}\t{code}",
            self.next,
            self.marks.of(span.start(), &code),
            self.file,
            span.start().line
        );
        self.next
    }

    /// `span` is where it stood before anything in it was broken.
    fn condition(&mut self, e: &mut Expr, span: Span) {
        if is_wrapped(e) || is_joint(e) || matches!(e, Expr::Lit(_)) {
            return;
        }
        let n = self.number(span, "not", e);
        *e = parse_quote!(crate::model::mutant::m(#n, #e));
    }
}

/// Tests and constants stay as they are.
fn is_test(attrs: &[syn::Attribute]) -> bool {
    attrs
        .iter()
        .any(|a| a.path().is_ident("cfg") || a.path().is_ident("test"))
}

impl VisitMut for Mutate {
    fn visit_item_const_mut(&mut self, _: &mut ItemConst) {}
    fn visit_impl_item_const_mut(&mut self, _: &mut syn::ImplItemConst) {}

    fn visit_item_mod_mut(&mut self, item: &mut ItemMod) {
        if !is_test(&item.attrs) {
            visit_mut::visit_item_mod_mut(self, item);
        }
    }

    fn visit_item_fn_mut(&mut self, item: &mut ItemFn) {
        if item.sig.constness.is_none() {
            visit_mut::visit_item_fn_mut(self, item);
        }
    }

    fn visit_impl_item_fn_mut(&mut self, item: &mut syn::ImplItemFn) {
        if item.sig.constness.is_none() {
            visit_mut::visit_impl_item_fn_mut(self, item);
        }
    }

    fn visit_expr_mut(&mut self, e: &mut Expr) {
        let span = e.span();
        let inner: Vec<Span> = match e {
            Expr::If(x) => vec![x.cond.span()],
            Expr::While(x) => vec![x.cond.span()],
            Expr::Binary(x) => vec![x.left.span(), x.right.span()],
            Expr::Match(x) => x.arms.iter().map(|a| arm_span(&a.pat)).collect(),
            _ => Vec::new(),
        };
        visit_mut::visit_expr_mut(self, e);
        match e {
            Expr::If(x) => self.condition(&mut x.cond, inner[0]),
            Expr::While(x) => self.condition(&mut x.cond, inner[0]),
            Expr::Binary(x) if matches!(x.op, BinOp::And(_) | BinOp::Or(_)) => {
                self.condition(&mut x.left, inner[0]);
                self.condition(&mut x.right, inner[1]);
            }
            Expr::Match(x) => {
                let open = x.arms.last().is_some_and(|a| matches!(a.pat, Pat::Wild(_)));
                let last = x.arms.len();
                for (i, arm) in x.arms.iter_mut().enumerate() {
                    self.arm(arm, inner[i], open && i + 1 < last);
                }
            }
            _ => {}
        }
        if answers_yes_or_no(e) && !is_wrapped(e) {
            self.condition(e, span);
        }
    }

    fn visit_block_mut(&mut self, block: &mut Block) {
        let spans: Vec<Span> = block.stmts.iter().map(Spanned::span).collect();
        visit_mut::visit_block_mut(self, block);
        for (stmt, span) in block.stmts.iter_mut().zip(spans) {
            let Stmt::Expr(Expr::MethodCall(call), Some(_)) = stmt else {
                continue;
            };
            let on_self = matches!(&*call.receiver, Expr::Path(p) if p.path.is_ident("self"));
            if on_self {
                let n = self.number(span, "without", call);
                *stmt = parse_quote!(if crate::model::mutant::m(#n, true) { #stmt });
            }
        }
    }
}

impl Mutate {
    fn arm(&mut self, arm: &mut Arm, span: Span, may_fall: bool) {
        match &mut arm.pat {
            Pat::Guard(pat) => self.condition(&mut pat.guard, span),
            pat if may_fall => {
                let n = self.number(span, "never", pat);
                let inner = std::mem::replace(pat, Pat::Verbatim(Default::default()));
                *pat = Pat::Guard(PatGuard {
                    attrs: Vec::new(),
                    pat: Box::new(inner),
                    if_token: Default::default(),
                    guard: Box::new(parse_quote!(crate::model::mutant::m(#n, true))),
                });
            }
            _ => {}
        }
    }
}

/// Where an arm's guard stands, or its pattern if it has none.
fn arm_span(pat: &Pat) -> Span {
    match pat {
        Pat::Guard(pat) => pat.guard.span(),
        pat => pat.span(),
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let list = args.next().expect("mutate LIST FILE...");
    let mut mutate = Mutate {
        file: String::new(),
        next: 0,
        list: String::new(),
        marks: Marks::default(),
    };
    for path in args {
        let text = std::fs::read_to_string(&path).expect("a source");
        let mut file = syn::parse_file(&text).expect("Rust");
        mutate.file.clone_from(&path);
        mutate.marks = Marks::read(&text, &mut file);
        mutate.visit_file_mut(&mut file);
        let text = file.into_token_stream().to_string();
        std::fs::write(&path, text).expect("the source again");
    }
    std::fs::write(list, mutate.list).expect("the list");
}
