//! Texts with fields in them: `Send to {email}`. Read when the program is compiled, rendered by `format!`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Index, LitStr, Member};

/// A field that templates may name.
#[derive(Clone)]
pub(crate) struct Field(pub(crate) Member);

impl Field {
    /// The name as a template spells it: without `r#`, or a number.
    fn name(&self) -> String {
        match &self.0 {
            Member::Named(ident) => ident.to_string().trim_start_matches("r#").to_owned(),
            Member::Unnamed(index) => index.index.to_string(),
        }
    }
}

/// A template whose fields are all there.
pub(crate) struct Template {
    pieces: Vec<Piece>,
    span: Span,
}

#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Field { path: String, format: String },
}

impl Template {
    /// Reads the template and looks its fields up.
    pub(crate) fn new(text: &LitStr, fields: &[Field]) -> syn::Result<Self> {
        let complain = |complaint: String| syn::Error::new(text.span(), complaint);
        let pieces = read(&text.value()).map_err(complain)?;
        for piece in &pieces {
            if let Piece::Field { path, .. } = piece {
                check(path, fields).map_err(complain)?;
            }
        }
        Ok(Self { pieces, span: text.span() })
    }

    /// What is the same for every value.
    pub(crate) fn constant_text(&self) -> String {
        self.pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Text(text) => Some(text.as_str()),
                Piece::Field { .. } => None,
            })
            .collect()
    }

    /// Whether there is no field in it.
    pub(crate) fn is_constant(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// An expression for the `String`, where `self` is the request.
    pub(crate) fn render(&self, fields: &[Field]) -> TokenStream {
        if self.is_constant() {
            let text = self.constant_text();
            return quote!(<::std::string::String as ::core::convert::From<&str>>::from(#text));
        }
        let mut format = String::new();
        let mut values = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => format.push_str(&text.replace('{', "{{").replace('}', "}}")),
                Piece::Field { path, format: how } => {
                    format.push_str(&format!("{{{how}}}"));
                    values.push(self.access(path, fields));
                }
            }
        }
        // The compiler should find fault with the template, not with the attribute around it.
        let span = Span::call_site().located_at(self.span);
        let format = LitStr::new(&format, span);
        quote_spanned!(span=> ::std::format!(#format, #(#values),*))
    }

    fn access(&self, path: &str, fields: &[Field]) -> TokenStream {
        let span = Span::call_site().located_at(self.span);
        let mut names = path.split('.');
        let first = names.next().unwrap_or_default();
        let first = fields.iter().find(|field| field.name() == first).map(|field| field.0.to_token_stream());
        let rest = names.map(|name| member(name, span));
        quote_spanned!(span=> self.#first #(.#rest)*)
    }
}

fn member(name: &str, span: Span) -> Member {
    match name.parse() {
        Ok(index) => Member::Unnamed(Index { index, span }),
        Err(_) => Member::Named(syn::parse_str(name).map_or_else(
            |_| syn::Ident::new_raw(name, span),
            |mut ident: syn::Ident| {
                ident.set_span(span);
                ident
            },
        )),
    }
}

/// Looks up the first name of a path such as `user.email`; the compiler looks up the others.
fn check(path: &str, fields: &[Field]) -> Result<(), String> {
    let first = path.split('.').next().unwrap_or_default();
    let names: Vec<String> = fields.iter().map(Field::name).collect();
    if names.iter().any(|name| name == first) {
        return Ok(());
    }
    Err(match names.as_slice() {
        [] => format!("no field `{first}`: there are no fields to name here"),
        [only] => format!("no field `{first}`: the only field is `{only}`"),
        [others @ .., last] => {
            format!("no field `{first}`: the fields are `{}` and `{last}`", others.join("`, `"))
        }
    })
}

fn read(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            text.push_str(brace);
            rest = after;
        } else if brace == "}" {
            return Err("this `}` closes nothing: write `}}` for a brace".to_owned());
        } else {
            let Some((field, after)) = rest.split_once('}') else {
                return Err("this `{` is never closed: write `{{` for a brace".to_owned());
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(read_field(field)?);
            rest = after;
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

fn read_field(field: &str) -> Result<Piece, String> {
    let (path, format) = field.split_at(field.find(':').unwrap_or(field.len()));
    let path = path.trim();
    if path.is_empty() {
        return Err("`{}` names no field: write its name between the braces".to_owned());
    }
    if !path.split('.').all(is_name) {
        return Err(format!("`{path}` is no field: write its name only, and `{{{{` for a brace"));
    }
    if format.contains(['$', '*']) {
        return Err(format!("`{field}` takes its width or precision from elsewhere: write it as a number"));
    }
    Ok(Piece::Field { path: path.to_owned(), format: format.to_owned() })
}

fn is_name(name: &str) -> bool {
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let mut letters = name.chars();
    is_number
        || letters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
            && letters.all(|letter| letter.is_alphanumeric() || letter == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(names: &[&str]) -> Vec<Field> {
        names.iter().map(|name| Field(member(name, Span::call_site()))).collect()
    }

    fn field(path: &str, format: &str) -> Piece {
        Piece::Field { path: path.to_owned(), format: format.to_owned() }
    }

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn a_template_is_text_and_fields() {
        assert_eq!(read("Send to {email}").unwrap(), [text("Send to "), field("email", "")]);
        assert_eq!(read("{a}{b:>5}").unwrap(), [field("a", ""), field("b", ":>5")]);
        assert_eq!(read("{ user.email }").unwrap(), [field("user.email", "")]);
        assert_eq!(read("").unwrap(), []);
    }

    #[test]
    fn doubled_braces_are_braces() {
        assert_eq!(read("{{x}} {{{x}}}").unwrap(), [text("{x} {"), field("x", ""), text("}")]);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in ["{", "}", "{}", "a {b", "{a b}", "{a+b}", "{a:w$}", "{a:.*}", "{{a}", "{:?}", "{self.}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_field_is_answered_with_the_known_ones() {
        assert_eq!(
            check("c", &fields(&["a", "b"])),
            Err("no field `c`: the fields are `a` and `b`".to_owned())
        );
        assert_eq!(check("c", &fields(&["a"])), Err("no field `c`: the only field is `a`".to_owned()));
        assert_eq!(check("c", &[]), Err("no field `c`: there are no fields to name here".to_owned()));
    }

    #[test]
    fn fields_may_be_keywords_or_numbers() {
        let fields = fields(&["type", "0"]);

        assert_eq!(check("type", &fields), Ok(()));
        assert_eq!(check("0", &fields), Ok(()));
    }
}
