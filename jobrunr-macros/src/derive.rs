//! `#[derive(JobRequest)]`.

use proc_macro2::TokenStream;
use syn::{Attribute, Data, DeriveInput, LitStr, Meta};

use crate::attribute::{JobAttribute, given_twice};
use crate::errors::Errors;
use crate::naming::kebab_case;
use crate::request::RequestType;
use crate::template::Field;

/// The implementation of `JobRequest` for the item, and what is wrong with it.
pub(crate) fn expand(input: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    let attribute = read_attribute(&input.attrs, &mut errors);
    refuse_generics(input, &mut errors);
    let request = RequestType {
        ident: &input.ident,
        default_job_type: LitStr::new(
            &kebab_case(input.ident.to_string().trim_start_matches("r#")),
            input.ident.span(),
        ),
        fields: fields(&input.data, &mut errors),
    };
    let implementation = request.implement(&attribute, &mut errors);
    // For what cannot be a request at all, an implementation would add the compiler's errors to ours.
    let implementation = if can_be_request(input) { implementation } else { TokenStream::new() };
    let errors = errors.into_tokens();
    quote::quote!(#errors #implementation)
}

fn read_attribute(attributes: &[Attribute], errors: &mut Errors) -> JobAttribute {
    let mut own = attributes.iter().filter(|attribute| attribute.path().is_ident("job"));
    let first = own.next();
    for second in own {
        errors.push(given_twice(second));
    }
    match first.map(|attribute| &attribute.meta) {
        None => JobAttribute::default(),
        Some(Meta::List(list)) => JobAttribute::read(list.tokens.clone(), errors),
        Some(other) => {
            errors.push(syn::Error::new_spanned(other, "write `#[job(…)]`, with the keys in parentheses"));
            JobAttribute::default()
        }
    }
}

fn refuse_generics(input: &DeriveInput, errors: &mut Errors) {
    if let Some(first) = input.generics.params.first() {
        errors.push(syn::Error::new_spanned(
            first,
            "a request has no generic parameters: one job type stands for one type; write a struct for each",
        ));
    }
}

fn can_be_request(input: &DeriveInput) -> bool {
    input.generics.params.is_empty() && !matches!(input.data, Data::Union(_))
}

/// What templates may name: the fields that every value has.
fn fields(data: &Data, errors: &mut Errors) -> Vec<Field> {
    match data {
        Data::Struct(data) => data.fields.members().map(Field).collect(),
        Data::Enum(_) => Vec::new(),
        Data::Union(data) => {
            errors
                .push(syn::Error::new(data.union_token.span, "a union cannot be a request: write a struct"));
            Vec::new()
        }
    }
}
