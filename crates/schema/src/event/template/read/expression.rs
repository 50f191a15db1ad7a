//! Expressions: what they use, what they are, and their operands wrapped.

use minijinja::machinery::Span;
use minijinja::machinery::ast::{self, BinOpKind, CallArg, CompareOpKind, Expr, Spanned};

use super::super::filters::{FILTERS, FUNCTIONS, NUMBER, NUMBERS, NUMERIC_FILTERS, TESTS, TEXT};
use super::super::scope::{EVENT, EVENTS, What};
use super::{Read, Reader};

impl<'a> Reader<'a> {
    /// An expression whose value goes where nobody follows it.
    pub(super) fn value(&mut self, expr: &Expr<'a>) -> Read<Expr<'a>> {
        let (expr, what) = self.expr(expr)?;
        self.use_whole(if what == What::Events { What::Event } else { what });
        Ok(expr)
    }

    /// An expression that is asked only whether it is true.
    pub(super) fn condition(&mut self, expr: &Expr<'a>) -> Read<Expr<'a>> {
        self.expr(expr).map(|(expr, _)| expr)
    }

    fn number(&mut self, expr: &Expr<'a>) -> Read<Expr<'a>> {
        Ok(wrapped(self.value(expr)?, NUMBER))
    }

    pub(super) fn expr(&mut self, expr: &Expr<'a>) -> Read<(Expr<'a>, What)> {
        let any = |expr| Ok((expr, What::Any));
        match expr {
            Expr::Var(node) => self.variable(node),
            Expr::Const(node) => {
                any(Expr::Const(Spanned::new(ast::Const { value: node.value.clone() }, node.span())))
            }
            Expr::GetAttr(node) => {
                let (inner, what) = self.expr(&node.expr)?;
                let found = self.member(what, node.name, node.span())?;
                Ok((
                    Expr::GetAttr(Spanned::new(ast::GetAttr { expr: inner, name: node.name }, node.span())),
                    found,
                ))
            }
            Expr::GetItem(node) => {
                let (inner, what) = self.expr(&node.expr)?;
                let found = match (&node.subscript_expr, what) {
                    (_, What::Events) => What::Event,
                    (Expr::Const(index), _) if index.value.as_str().is_some() => {
                        let name = index.value.as_str().unwrap_or_default();
                        self.member(what, name, node.span())?
                    }
                    _ => {
                        self.use_whole(what);
                        What::Any
                    }
                };
                let subscript_expr = self.number(&node.subscript_expr)?;
                Ok((
                    Expr::GetItem(Spanned::new(ast::GetItem { expr: inner, subscript_expr }, node.span())),
                    found,
                ))
            }
            Expr::Slice(node) => {
                let (inner, what) = self.expr(&node.expr)?;
                let mut bound =
                    |expr: &Option<Expr<'a>>| expr.as_ref().map(|expr| self.number(expr)).transpose();
                let (start, stop, step) = (bound(&node.start)?, bound(&node.stop)?, bound(&node.step)?);
                let slice = ast::Slice { expr: inner, start, stop, step };
                Ok((Expr::Slice(Spanned::new(slice, node.span())), what))
            }
            Expr::UnaryOp(node) => {
                let (op, inner) = match node.op {
                    ast::UnaryOpKind::Not => (ast::UnaryOpKind::Not, self.condition(&node.expr)?),
                    ast::UnaryOpKind::Neg => (ast::UnaryOpKind::Neg, self.number(&node.expr)?),
                };
                any(Expr::UnaryOp(Spanned::new(ast::UnaryOp { op, expr: inner }, node.span())))
            }
            Expr::BinOp(node) => any(self.binary(node)?),
            Expr::Compare(node) => any(self.compare(node)?),
            Expr::IfExpr(node) => {
                let test_expr = self.condition(&node.test_expr)?;
                let true_expr = self.guarded(|reader| reader.value(&node.true_expr))?;
                let false_expr = node
                    .false_expr
                    .as_ref()
                    .map(|expr| self.guarded(|reader| reader.value(expr)))
                    .transpose()?;
                any(Expr::IfExpr(Spanned::new(ast::IfExpr { test_expr, true_expr, false_expr }, node.span())))
            }
            Expr::Filter(node) => self.filter(node),
            Expr::Test(node) => any(self.test(node)?),
            Expr::Call(node) => any(self.call(node)?),
            Expr::List(node) => {
                let items = node.items.iter().map(|item| self.value(item)).collect::<Read<_>>()?;
                any(Expr::List(Spanned::new(ast::List { items }, node.span())))
            }
            Expr::Tuple(node) => {
                let items = node.items.iter().map(|item| self.value(item)).collect::<Read<_>>()?;
                any(Expr::Tuple(Spanned::new(ast::Tuple { items }, node.span())))
            }
            Expr::Map(node) => {
                let keys = node.keys.iter().map(|key| self.value(key)).collect::<Read<_>>()?;
                let values = node.values.iter().map(|value| self.value(value)).collect::<Read<_>>()?;
                any(Expr::Map(Spanned::new(ast::Map { keys, values }, node.span())))
            }
        }
    }

    pub(super) fn variable(&mut self, node: &Spanned<ast::Var<'a>>) -> Read<(Expr<'a>, What)> {
        let own = self.scopes.iter().rev().find_map(|scope| scope.get(node.id).copied());
        let what = match own {
            Some(what) => what,
            None if node.id == EVENTS => {
                self.uses.events = true;
                What::Events
            }
            None => {
                let Some(name) = EVENT.iter().find(|name| **name == node.id) else {
                    return self.unknown_name(node.id, node.span(), true);
                };
                let place = self.place(node.span());
                self.uses.members.insert(name);
                self.uses.outer.entry(name).or_insert(place);
                What::member(name)
            }
        };
        Ok((Expr::Var(Spanned::new(ast::Var { id: node.id }, node.span())), what))
    }

    /// A member of what is known.
    pub(super) fn member(&mut self, what: What, name: &str, span: Span) -> Read<What> {
        match what {
            What::Event => {
                let Some(name) = EVENT.iter().find(|known| **known == name) else {
                    return self.unknown_name(name, span, false);
                };
                self.uses.members.insert(name);
                Ok(What::member(name))
            }
            What::Row(row) => {
                self.uses.row_mut(row).names.insert(name.to_owned());
                self.note(Some(row), name, span);
                Ok(What::Any)
            }
            What::Events | What::Changed | What::Loop | What::Any => Ok(What::Any),
        }
    }

    fn binary(&mut self, node: &Spanned<ast::BinOp<'a>>) -> Read<Expr<'a>> {
        let (left, right) = match node.op {
            BinOpKind::ScAnd | BinOpKind::ScOr => {
                let left = self.value(&node.left)?;
                (left, self.guarded(|reader| reader.value(&node.right))?)
            }
            BinOpKind::Concat => {
                (wrapped(self.value(&node.left)?, TEXT), wrapped(self.value(&node.right)?, TEXT))
            }
            BinOpKind::In => {
                let left = self.number(&node.left)?;
                (left, self.container(&node.left, &node.right)?)
            }
            BinOpKind::Eq
            | BinOpKind::Ne
            | BinOpKind::Lt
            | BinOpKind::Lte
            | BinOpKind::Gt
            | BinOpKind::Gte
            | BinOpKind::Add
            | BinOpKind::Sub
            | BinOpKind::Mul
            | BinOpKind::Div
            | BinOpKind::FloorDiv
            | BinOpKind::Rem
            | BinOpKind::Pow => (self.number(&node.left)?, self.number(&node.right)?),
        };
        Ok(Expr::BinOp(Spanned::new(ast::BinOp { op: node.op, left, right }, node.span())))
    }

    fn compare(&mut self, node: &Spanned<ast::Compare<'a>>) -> Read<Expr<'a>> {
        let mut left = &node.expr;
        let expr = self.number(left)?;
        let mut ops = Vec::with_capacity(node.ops.len());
        for op in &node.ops {
            let expr = match op.op {
                CompareOpKind::In | CompareOpKind::NotIn => self.container(left, &op.expr)?,
                CompareOpKind::Eq
                | CompareOpKind::Ne
                | CompareOpKind::Lt
                | CompareOpKind::Lte
                | CompareOpKind::Gt
                | CompareOpKind::Gte => self.number(&op.expr)?,
            };
            ops.push(ast::CompareOp { op: op.op, expr });
            left = &op.expr;
        }
        Ok(Expr::Compare(Spanned::new(ast::Compare { expr, ops }, node.span())))
    }

    /// What something is sought in; `'total' in changed` names a column.
    fn container(&mut self, sought: &Expr<'a>, expr: &Expr<'a>) -> Read<Expr<'a>> {
        let (container, what) = self.expr(expr)?;
        match (sought, what) {
            (Expr::Const(name), What::Changed) if name.value.as_str().is_some() => {
                self.note(None, name.value.as_str().unwrap_or_default(), name.span());
            }
            _ => self.use_whole(what),
        }
        Ok(wrapped(container, NUMBERS))
    }

    fn filter(&mut self, node: &Spanned<ast::Filter<'a>>) -> Read<(Expr<'a>, What)> {
        self.word("filter", node.name, FILTERS, node.span())?;
        let Some(inner) = &node.expr else {
            return self.refused(node.span(), "a filter without a value", "write it behind a value");
        };
        let (inner, what) = match node.name {
            "default" | "d" => self.guarded(|reader| reader.expr(inner))?,
            "first" | "last" => self.expr(inner).map(|(expr, what)| (expr, what.element()))?,
            name if NUMERIC_FILTERS.contains(&name) => {
                let wrapper = if matches!(name, "sum" | "min" | "max") { NUMBERS } else { NUMBER };
                (wrapped(self.value(inner)?, wrapper), What::Any)
            }
            "length" | "count" => {
                let (expr, what) = self.expr(inner)?;
                self.use_whole(what);
                (expr, What::Any)
            }
            _ => (self.value(inner)?, What::Any),
        };
        let args = self.arguments(&node.args, NUMERIC_FILTERS.contains(&node.name))?;
        let filter = ast::Filter { name: node.name, expr: Some(inner), args };
        Ok((Expr::Filter(Spanned::new(filter, node.span())), what))
    }

    fn test(&mut self, node: &Spanned<ast::Test<'a>>) -> Read<Expr<'a>> {
        self.word("test", node.name, TESTS, node.span())?;
        let expr = match node.name {
            "defined" | "undefined" => self.guarded(|reader| reader.condition(&node.expr))?,
            "none" | "true" | "false" => self.condition(&node.expr)?,
            _ => self.number(&node.expr)?,
        };
        let args = self.arguments(&node.args, true)?;
        Ok(Expr::Test(Spanned::new(ast::Test { name: node.name, expr, args }, node.span())))
    }

    fn call(&mut self, node: &Spanned<ast::Call<'a>>) -> Read<Expr<'a>> {
        let expr = match &node.expr {
            Expr::Var(name) => {
                self.word("function", name.id, FUNCTIONS, name.span())?;
                Expr::Var(Spanned::new(ast::Var { id: name.id }, name.span()))
            }
            Expr::GetAttr(method) => {
                let (inner, what) = self.expr(&method.expr)?;
                if what != What::Loop || !matches!(method.name, "cycle" | "changed") {
                    return self.refused(method.span(), "a method", "write a filter: {{ value | upper }}");
                }
                Expr::GetAttr(Spanned::new(ast::GetAttr { expr: inner, name: method.name }, method.span()))
            }
            other => return self.refused(other.span(), "a call", "write a filter: {{ value | upper }}"),
        };
        let args = self.arguments(&node.args, true)?;
        Ok(Expr::Call(Spanned::new(ast::Call { expr, args }, node.span())))
    }

    fn arguments(&mut self, args: &[CallArg<'a>], numbers: bool) -> Read<Vec<CallArg<'a>>> {
        let mut read = |expr: &Expr<'a>| if numbers { self.number(expr) } else { self.value(expr) };
        args.iter()
            .map(|arg| {
                Ok(match arg {
                    CallArg::Pos(expr) => CallArg::Pos(read(expr)?),
                    CallArg::Kwarg(name, expr) => CallArg::Kwarg(name, read(expr)?),
                    CallArg::PosSplat(expr) => CallArg::PosSplat(read(expr)?),
                    CallArg::KwargSplat(expr) => CallArg::KwargSplat(read(expr)?),
                })
            })
            .collect()
    }
}

/// An expression behind a filter of ours, for values that the engine's operators do not know.
fn wrapped<'a>(expr: Expr<'a>, filter: &'static str) -> Expr<'a> {
    if matches!(expr, Expr::Const(_)) {
        return expr;
    }
    let span = expr.span();
    Expr::Filter(Spanned::new(ast::Filter { name: filter, expr: Some(expr), args: Vec::new() }, span))
}
