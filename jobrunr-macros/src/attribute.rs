//! What stands between the parentheses of `#[job(…)]`.

use std::time::Duration;

use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream, Parser as _};
use syn::punctuated::Punctuated;
use syn::{Expr, ExprLit, Ident, Lit, LitStr, Path, Token};

use crate::errors::Errors;
use crate::rules::{MAX_LABELS, Rule};
use crate::time_span;

const KEYS: &str =
    "`type`, `name`, `labels`, `queue`, `priority`, `retries`, `timeout`, `aliases` and `crate`";

/// The attribute, read. What was wrong in it is left out.
#[derive(Default)]
pub(crate) struct JobAttribute {
    pub(crate) job_type: Option<LitStr>,
    pub(crate) name: Option<LitStr>,
    pub(crate) labels: Option<Vec<LitStr>>,
    pub(crate) queue: Option<LitStr>,
    pub(crate) priority: Option<i32>,
    pub(crate) retries: Option<u32>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) aliases: Vec<LitStr>,
    krate: Option<Path>,
}

impl JobAttribute {
    /// Reads the tokens between the parentheses.
    pub(crate) fn read(tokens: proc_macro2::TokenStream, errors: &mut Errors) -> Self {
        let mut attribute = Self::default();
        let entries = Punctuated::<Entry, Token![,]>::parse_terminated.parse2(tokens);
        let mut seen: Vec<String> = Vec::new();
        for entry in errors.take(entries).into_iter().flatten() {
            let key = entry.key.unraw().to_string();
            if seen.contains(&key) {
                errors.push(syn::Error::new(entry.key.span(), format!("`{key}` is given twice")));
                continue;
            }
            let set = attribute.set(&key, &entry, errors);
            errors.take(set);
            seen.push(key);
        }
        attribute
    }

    /// The path of the crate that the generated code is to use.
    pub(crate) fn krate(&self) -> Path {
        self.krate.clone().unwrap_or_else(|| syn::parse_quote!(::jobrunr))
    }

    fn set(&mut self, key: &str, entry: &Entry, errors: &mut Errors) -> syn::Result<()> {
        match key {
            "type" => self.job_type = Some(entry.named(Rule::JobType)?),
            "name" => self.name = Some(entry.text()?),
            "labels" => self.labels = Some(labels(entry, errors)?),
            "queue" => self.queue = Some(entry.named(Rule::Queue)?),
            "priority" => self.priority = Some(entry.number("a whole number, such as 10 or -5")?),
            "retries" => self.retries = Some(entry.number("a number from 0 on, such as 3")?),
            "timeout" => self.timeout = Some(entry.time_span()?),
            "aliases" => self.aliases = aliases(entry, errors)?,
            "crate" => self.krate = Some(entry.path()?),
            _ => {
                let complaint = format!("unknown key `{key}`: the keys are {KEYS}");
                return Err(syn::Error::new(entry.key.span(), complaint));
            }
        }
        Ok(())
    }
}

fn labels(entry: &Entry, errors: &mut Errors) -> syn::Result<Vec<LitStr>> {
    let mut labels = entry.texts("[\"mail\", \"tenant:{tenant}\"]")?;
    if let Some(first_too_many) = labels.get(MAX_LABELS) {
        let complaint = format!("a job carries at most {MAX_LABELS} labels, not {}", labels.len());
        errors.push(syn::Error::new(first_too_many.span(), complaint));
        labels.truncate(MAX_LABELS);
    }
    Ok(labels)
}

fn aliases(entry: &Entry, errors: &mut Errors) -> syn::Result<Vec<LitStr>> {
    let mut aliases = entry.texts("[\"old-name\"]")?;
    aliases.retain(|alias| errors.take(checked(alias, Rule::JobType)).is_some());
    Ok(aliases)
}

/// One `key = value`.
pub(crate) struct Entry {
    key: Ident,
    value: Expr,
}

impl Parse for Entry {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let key = input.call(Ident::parse_any)?;
        if !input.peek(Token![=]) {
            return Err(syn::Error::new(key.span(), format!("write `{key} = …`")));
        }
        input.parse::<Token![=]>()?;
        let mut value = input.parse()?;
        // What a macro of the user's puts in stands in a group that nobody sees.
        while let Expr::Group(group) = value {
            value = *group.expr;
        }
        Ok(Self { key, value })
    }
}

impl Entry {
    /// The key, without `r#`.
    pub(crate) fn key(&self) -> String {
        self.key.unraw().to_string()
    }

    pub(crate) fn key_span(&self) -> proc_macro2::Span {
        self.key.span()
    }

    pub(crate) const fn value(&self) -> &Expr {
        &self.value
    }

    pub(crate) fn refused<T>(&self, how: &str) -> syn::Result<T> {
        let key = self.key.unraw();
        Err(syn::Error::new_spanned(&self.value, format!("`{key}` is {how}")))
    }

    pub(crate) fn text(&self) -> syn::Result<LitStr> {
        match literal_text(&self.value) {
            Some(text) => Ok(text),
            None => self.refused("a text: write it between double quotes"),
        }
    }

    pub(crate) fn named(&self, rule: Rule) -> syn::Result<LitStr> {
        let text = self.text()?;
        checked(&text, rule)?;
        Ok(text)
    }

    fn texts(&self, example: &str) -> syn::Result<Vec<LitStr>> {
        let texts = match &self.value {
            Expr::Array(array) => array.elems.iter().map(literal_text).collect(),
            _ => None,
        };
        match texts {
            Some(texts) => Ok(texts),
            None => self.refused(&format!("a list of texts: write `{example}`")),
        }
    }

    fn number<N: std::str::FromStr<Err: std::fmt::Display>>(&self, what: &str) -> syn::Result<N> {
        let (sign, literal) = match &self.value {
            Expr::Unary(syn::ExprUnary { op: syn::UnOp::Neg(_), expr, .. }) => ("-", expr.as_ref()),
            other => ("", other),
        };
        let number = match literal {
            Expr::Lit(ExprLit { lit: Lit::Int(digits), .. }) if digits.suffix().is_empty() => {
                format!("{sign}{}", digits.base10_digits()).parse().ok()
            }
            _ => None,
        };
        match number {
            Some(number) => Ok(number),
            None => self.refused(what),
        }
    }

    fn path(&self) -> syn::Result<Path> {
        match literal_text(&self.value).map(|text| text.parse_with(Path::parse_mod_style)) {
            Some(Ok(path)) => Ok(path),
            _ => self.refused("the path of a crate: write it as a text, as in \"jobrunr_core\""),
        }
    }

    pub(crate) fn time_span(&self) -> syn::Result<Duration> {
        let Some(text) = literal_text(&self.value) else {
            return self.refused("a span of time: write a text with a unit, as in \"30s\"");
        };
        time_span::parse(&text.value()).map_err(|complaint| syn::Error::new(text.span(), complaint))
    }
}

fn literal_text(value: &Expr) -> Option<LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.clone()),
        _ => None,
    }
}

fn checked(text: &LitStr, rule: Rule) -> syn::Result<()> {
    rule.check(&text.value()).map_err(|complaint| syn::Error::new(text.span(), complaint))
}

/// Says that an item has more than one `#[job(…)]`.
pub(crate) fn given_twice(second: &syn::Attribute) -> syn::Error {
    syn::Error::new_spanned(second, "this is the second `#[job(…)]`: write one, with all keys in it")
}
