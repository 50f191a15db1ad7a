//! Statements, and the texts between them.

use std::collections::HashMap;

use minijinja::machinery::ast::{self, Expr, Spanned, Stmt};

use super::super::error::{Place, TemplateError};
use super::super::scope::What;
use super::{Read, Reader};

impl<'a> Reader<'a> {
    fn statements(&mut self, statements: &[Stmt<'a>]) -> Read<Vec<Stmt<'a>>> {
        statements.iter().map(|statement| self.statement(statement)).collect()
    }

    fn scoped(&mut self, names: HashMap<&'a str, What>, body: &[Stmt<'a>]) -> Read<Vec<Stmt<'a>>> {
        self.scopes.push(names);
        let body = self.statements(body);
        self.scopes.pop();
        body
    }

    pub(super) fn statement(&mut self, statement: &Stmt<'a>) -> Read<Stmt<'a>> {
        Ok(match statement {
            Stmt::Template(node) => Stmt::Template(Spanned::new(
                ast::Template { children: self.statements(&node.children)? },
                node.span(),
            )),
            Stmt::EmitRaw(node) => {
                if let Some((at, problem)) = (self.check)(node.raw) {
                    let offset = node.span().start_offset as usize + at;
                    return Err(TemplateError { place: Place::of(self.text, offset), problem });
                }
                Stmt::EmitRaw(Spanned::new(ast::EmitRaw { raw: node.raw }, node.span()))
            }
            Stmt::EmitExpr(node) => {
                let expr = self.value(&node.expr)?;
                Stmt::EmitExpr(Spanned::new(ast::EmitExpr { expr }, node.span()))
            }
            Stmt::IfCond(node) => {
                let expr = self.condition(&node.expr)?;
                let true_body = self.guarded(|reader| reader.scoped(HashMap::new(), &node.true_body))?;
                let false_body = self.guarded(|reader| reader.scoped(HashMap::new(), &node.false_body))?;
                Stmt::IfCond(Spanned::new(ast::IfCond { expr, true_body, false_body }, node.span()))
            }
            Stmt::ForLoop(node) => self.for_loop(node)?,
            Stmt::WithBlock(node) => {
                let (mut assignments, mut names) = (Vec::new(), HashMap::new());
                for (target, expr) in &node.assignments {
                    let (expr, what) = self.expr(expr)?;
                    let target = self.target(target, what, &mut names)?;
                    assignments.push((target, expr));
                }
                let body = self.scoped(names, &node.body)?;
                Stmt::WithBlock(Spanned::new(ast::WithBlock { assignments, body }, node.span()))
            }
            Stmt::Set(node) => {
                let (expr, what) = self.expr(&node.expr)?;
                let mut names = HashMap::new();
                let target = self.target(&node.target, what, &mut names)?;
                self.scopes.last_mut().expect("there is an outermost scope").extend(names);
                Stmt::Set(Spanned::new(ast::Set { target, expr }, node.span()))
            }
            Stmt::SetBlock(node) => {
                let instead = "write {% set name = expression %}";
                return self.refused(node.span(), "a block that is set", instead);
            }
            Stmt::AutoEscape(node) => {
                let instead = "values are escaped for the content type; write | raw for one that must not be";
                return self.refused(node.span(), "autoescape", instead);
            }
            Stmt::FilterBlock(node) => {
                return self.refused(node.span(), "a filter block", "write the filter behind each value");
            }
            Stmt::Do(node) => return self.refused(node.span(), "do", "write {{ expression }}"),
        })
    }

    fn for_loop(&mut self, node: &Spanned<ast::ForLoop<'a>>) -> Read<Stmt<'a>> {
        if node.recursive {
            return self.refused(node.span(), "a recursive loop", "write one loop within the other");
        }
        let (iter, what) = self.expr(&node.iter)?;
        self.use_whole(what);
        let mut names = HashMap::from([("loop", What::Loop)]);
        let target = self.target(&node.target, what.element(), &mut names)?;
        self.scopes.push(names.clone());
        let filter_expr = node.filter_expr.as_ref().map(|expr| self.condition(expr)).transpose();
        self.scopes.pop();
        let filter_expr = filter_expr?;
        // Every request has events, but not every list an element.
        let sure = what == What::Events && filter_expr.is_none();
        self.guards += usize::from(!sure);
        let body = self.scoped(names, &node.body);
        self.guards -= usize::from(!sure);
        let else_body = self.guarded(|reader| reader.scoped(HashMap::new(), &node.else_body))?;
        let node_ = ast::ForLoop { target, iter, filter_expr, recursive: false, body: body?, else_body };
        Ok(Stmt::ForLoop(Spanned::new(node_, node.span())))
    }

    /// A name that is given a value, or several.
    fn target(&mut self, expr: &Expr<'a>, what: What, names: &mut HashMap<&'a str, What>) -> Read<Expr<'a>> {
        Ok(match expr {
            Expr::Var(node) => {
                names.insert(node.id, what);
                Expr::Var(Spanned::new(ast::Var { id: node.id }, node.span()))
            }
            Expr::List(node) => {
                self.use_whole(what);
                let items =
                    node.items.iter().map(|item| self.target(item, What::Any, names)).collect::<Read<_>>()?;
                Expr::List(Spanned::new(ast::List { items }, node.span()))
            }
            Expr::Tuple(node) => {
                self.use_whole(what);
                let items =
                    node.items.iter().map(|item| self.target(item, What::Any, names)).collect::<Read<_>>()?;
                Expr::Tuple(Spanned::new(ast::Tuple { items }, node.span()))
            }
            other => return self.refused(other.span(), "a member as the target of set", "set a name"),
        })
    }
}
