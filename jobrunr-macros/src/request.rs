//! The implementation of `JobRequest`, for structs of the user's and for those that job functions get.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Ident, LitStr, Path};

use crate::attribute::JobAttribute;
use crate::errors::Errors;
use crate::rules::{self, Rule};
use crate::template::{Field, Template};

/// A type that is to be a request.
pub(crate) struct RequestType<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) default_job_type: LitStr,
    pub(crate) fields: Vec<Field>,
}

impl RequestType<'_> {
    /// The implementation; what is wrong in the attribute is left out of it.
    pub(crate) fn implement(&self, attribute: &JobAttribute, errors: &mut Errors) -> TokenStream {
        let krate = attribute.krate();
        let ident = self.ident;
        let job_type = attribute.job_type.as_ref().unwrap_or(&self.default_job_type);
        if let Err(complaint) = Rule::JobType.check(&job_type.value()) {
            errors.push(syn::Error::new(job_type.span(), complaint));
        }
        let aliases = aliases(attribute, job_type, errors);
        let options = self.options(attribute, &krate, errors);
        quote! {
            #[automatically_derived]
            impl #krate::__private::JobRequest for #ident {
                const JOB_TYPE: &'static str = #job_type;
                #aliases
                #options
            }
        }
    }

    fn options(&self, attribute: &JobAttribute, krate: &Path, errors: &mut Errors) -> TokenStream {
        let mut calls = TokenStream::new();
        if let Some(text) = &attribute.name
            && let Some(template) = errors.take(Template::new(text, &self.fields))
        {
            let name = template.render(&self.fields);
            calls.extend(quote!(.name(#name)));
        }
        if let Some(labels) = &attribute.labels {
            let labels = labels.iter().filter_map(|text| errors.take(self.label(text)));
            let labels: Vec<_> = labels.collect();
            calls.extend(quote!(.labels::<::std::string::String>([#(#labels),*])));
        }
        if let Some(queue) = &attribute.queue {
            calls.extend(quote!(.queue(#queue)));
        }
        if let Some(priority) = attribute.priority {
            calls.extend(quote!(.priority(#priority)));
        }
        if let Some(retries) = attribute.retries {
            calls.extend(quote!(.retries(#retries)));
        }
        if let Some(timeout) = attribute.timeout {
            let (seconds, nanoseconds) = (timeout.as_secs(), timeout.subsec_nanos());
            calls.extend(quote!(.timeout(::core::time::Duration::new(#seconds, #nanoseconds))));
        }
        if calls.is_empty() {
            return calls;
        }
        quote! {
            fn options(&self) -> #krate::__private::JobOptions {
                <#krate::__private::JobOptions as ::core::default::Default>::default() #calls
            }
        }
    }

    fn label(&self, text: &LitStr) -> syn::Result<TokenStream> {
        let template = Template::new(text, &self.fields)?;
        let constant = template.constant_text();
        let checked = if template.is_constant() {
            Rule::Label.check(&constant)
        } else {
            rules::check_label_with_fields(&constant)
        };
        checked.map_err(|complaint| syn::Error::new(text.span(), complaint))?;
        Ok(template.render(&self.fields))
    }
}

fn aliases(attribute: &JobAttribute, job_type: &LitStr, errors: &mut Errors) -> TokenStream {
    let aliases = &attribute.aliases;
    for (index, alias) in aliases.iter().enumerate() {
        if alias.value() == job_type.value() {
            errors.push(syn::Error::new(alias.span(), "this alias is the job type itself: leave it out"));
        } else if aliases[..index].iter().any(|earlier| earlier.value() == alias.value()) {
            errors.push(syn::Error::new(alias.span(), "this alias is given twice"));
        }
    }
    if aliases.is_empty() {
        return TokenStream::new();
    }
    quote!(const ALIASES: &'static [&'static str] = &[#(#aliases),*];)
}
