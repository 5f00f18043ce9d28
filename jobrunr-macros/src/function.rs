//! `#[job]` on a function.
//!
//! A function `resize` becomes three things: a unit struct `resize`, which is what `.job(resize)` takes and which calls like
//! the function because it dereferences to a function pointer; the struct `ResizeJob`, which holds the arguments; and, out
//! of sight in an anonymous constant, the function itself. There it keeps its own name, so that its body may use the
//! name for a variable, which a unit struct would forbid.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Attribute, Ident, ItemFn, LitStr, Member, Path, ReturnType, Type};

use crate::attribute::{JobAttribute, given_twice};
use crate::errors::Errors;
use crate::naming::request_name;
use crate::recurring::{self, Recurring};
use crate::request::RequestType;
use crate::signature::{self, Parameter, Role};
use crate::template::Field;

/// What the function becomes.
pub(crate) fn expand(tokens: TokenStream, mut function: ItemFn) -> TokenStream {
    let mut errors = Errors::default();
    let attribute = JobAttribute::read(tokens, &mut errors);
    if let Some(second) = function.attrs.iter().find(|attribute| attribute.path().is_ident("job")) {
        errors.push(given_twice(second));
        function.attrs.retain(|attribute| !attribute.path().is_ident("job"));
    }
    let recurring = recurring::take(&mut function, &mut errors);
    let mut refusals = Errors::default();
    let parameters = signature::read(&mut function.sig, &mut refusals);
    if !refusals.is_empty() {
        // Whoever calls the function should not get errors on top of these.
        errors.extend(refusals);
        let errors = errors.into_tokens();
        return quote!(#errors #function);
    }
    let mut job = JobFunction::new(function, parameters, &attribute);
    job.recurring = job.without_arguments(recurring, &mut errors);
    let code = job.expand(&attribute, &mut errors);
    let errors = errors.into_tokens();
    quote!(#errors #code)
}

struct JobFunction {
    function: ItemFn,
    parameters: Vec<Parameter>,
    request: Ident,
    krate: Path,
    recurring: Vec<Recurring>,
}

/// The attributes of the function, by where they belong.
struct Attributes {
    /// On every item.
    conditions: Vec<Attribute>,
    /// On what the function is seen as.
    face: Vec<Attribute>,
    /// On the function itself.
    function: Vec<Attribute>,
}

impl Attributes {
    fn sort(attributes: Vec<Attribute>) -> Self {
        let mut sorted = Self { conditions: Vec::new(), face: Vec::new(), function: Vec::new() };
        for attribute in attributes {
            let path = attribute.path();
            if path.is_ident("cfg") {
                sorted.conditions.push(attribute);
            } else if path.is_ident("doc") || path.is_ident("deprecated") {
                sorted.face.push(attribute);
            } else {
                if ["allow", "warn", "deny", "forbid"].iter().any(|level| path.is_ident(level)) {
                    sorted.face.push(attribute.clone());
                }
                sorted.function.push(attribute);
            }
        }
        sorted
    }
}

impl JobFunction {
    fn new(function: ItemFn, parameters: Vec<Parameter>, attribute: &JobAttribute) -> Self {
        let ident = &function.sig.ident;
        let request = Ident::new(&request_name(plain(ident).as_str()), ident.span());
        Self { function, parameters, request, krate: attribute.krate(), recurring: Vec::new() }
    }

    /// What runs by itself has nobody who gives it arguments.
    fn without_arguments(&self, recurring: Vec<Recurring>, errors: &mut Errors) -> Vec<Recurring> {
        match self.arguments().next() {
            Some((name, ..)) if !recurring.is_empty() => {
                let complaint = format!(
                    "a recurring job function has no arguments, since nobody is there to give it `{name}`: leave it out, \
                     or use `scheduler.schedule_recurrently(…)`"
                );
                errors.push(syn::Error::new(name.span(), complaint));
                Vec::new()
            }
            _ => recurring,
        }
    }

    fn expand(mut self, attribute: &JobAttribute, errors: &mut Errors) -> TokenStream {
        let Attributes { conditions, face, function } =
            Attributes::sort(std::mem::take(&mut self.function.attrs));
        let visibility = std::mem::replace(&mut self.function.vis, syn::Visibility::Inherited);
        self.function.attrs = function;

        let ident = &self.function.sig.ident;
        let function = &self.function;
        let request = self.request_struct(&visibility, &conditions);
        let request_impl = self.request_type().implement(attribute, errors);
        let argument_checks = self.argument_checks();
        let constructor = self.constructor(&visibility);
        let call_impl = self.call_impl();
        let function_impl = self.function_impl();
        let debug_impl = self.debug_impl();
        let krate = &self.krate;
        quote! {
            #(#conditions)*
            #(#face)*
            #[allow(non_camel_case_types, reason = "it stands for a function")]
            #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug)]
            #visibility struct #ident;

            #request

            #(#conditions)*
            #[allow(deprecated, reason = "the function may be")]
            const _: () = {
                #[allow(
                    clippy::boxed_local,
                    clippy::needless_pass_by_value,
                    clippy::unnecessary_wraps,
                    clippy::unused_async,
                    reason = "a job function owns its arguments, and its result and its kind say how it is run"
                )]
                #function
                #argument_checks
                #constructor
                #call_impl
                #function_impl
                #request_impl
                #debug_impl
            };

            #(#conditions)*
            #[allow(deprecated, reason = "the function may be")]
            const _: () = {
                #krate::__private::collect_job!(#ident);
            };
        }
    }

    fn arguments(&self) -> impl Iterator<Item = (&Ident, &Type, &[Attribute])> {
        self.parameters.iter().filter_map(|parameter| match &parameter.role {
            Role::Argument { name, field_attributes } => {
                Some((name, &parameter.ty, field_attributes.as_slice()))
            }
            _ => None,
        })
    }

    fn injected(&self) -> impl Iterator<Item = &Type> {
        self.parameters.iter().filter_map(|parameter| match &parameter.role {
            Role::Injected(ty) => Some(ty),
            _ => None,
        })
    }

    /// Whether each context is taken by reference; there is at most one.
    fn contexts(&self) -> impl Iterator<Item = bool> {
        self.parameters.iter().filter_map(|parameter| match parameter.role {
            Role::Context { by_reference } => Some(by_reference),
            _ => None,
        })
    }

    fn request_type(&self) -> RequestType<'_> {
        let ident = &self.function.sig.ident;
        RequestType {
            ident: &self.request,
            default_job_type: LitStr::new(&plain(ident), ident.span()),
            fields: self.arguments().map(|(name, ..)| Field(Member::Named(name.clone()))).collect(),
        }
    }

    fn request_struct(&self, visibility: &syn::Visibility, conditions: &[Attribute]) -> TokenStream {
        let Self { request, krate, .. } = self;
        let serde = quote!(#krate::__private::serde);
        let serde_path = serde.to_string().replace(' ', "");
        let doc = format!(
            "The request to run [`{0}`](struct@{0}); [`{0}::job`] makes one.",
            self.function.sig.ident
        );
        let fields = self.arguments().map(|(name, ty, attributes)| {
            let doc = format!("The argument `{}`.", plain(name));
            quote!(#[doc = #doc] #(#attributes)* #visibility #name: #ty)
        });
        quote! {
            #(#conditions)*
            #[doc = #doc]
            #[derive(#serde::Serialize, #serde::Deserialize)]
            #[serde(crate = #serde_path)]
            #visibility struct #request { #(#fields),* }
        }
    }

    /// Says what to do about an argument that is no data, in more helpful words than serde's.
    fn argument_checks(&self) -> TokenStream {
        let checks = self.arguments().map(|(_, ty, _)| {
            let krate = located(self.krate.to_token_stream(), ty.span());
            quote_spanned! {ty.span()=>
                const _: ::core::marker::PhantomData<#krate::__private::IsArgument<#ty>> = ::core::marker::PhantomData;
            }
        });
        quote!(#(#checks)*)
    }

    /// Does not show the arguments: they may be nobody's business.
    fn debug_impl(&self) -> TokenStream {
        let request = &self.request;
        let name = request.to_string();
        quote! {
            #[automatically_derived]
            impl ::core::fmt::Debug for #request {
                fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    formatter.debug_struct(#name).finish_non_exhaustive()
                }
            }
        }
    }

    fn constructor(&self, visibility: &syn::Visibility) -> TokenStream {
        let Self { request, .. } = self;
        let ident = &self.function.sig.ident;
        let doc = format!("The request to run `{ident}` with these arguments.");
        let parameters = self.arguments().map(|(name, ty, _)| {
            if is_made_from_text(ty) {
                quote!(#name: impl ::core::convert::Into<#ty>)
            } else {
                quote!(#name: #ty)
            }
        });
        let fields = self.arguments().map(|(name, ty, _)| {
            if is_made_from_text(ty) {
                quote!(#name: ::core::convert::Into::into(#name))
            } else {
                name.to_token_stream()
            }
        });
        quote! {
            impl #ident {
                #[doc = #doc]
                #[must_use]
                #[allow(clippy::too_many_arguments, reason = "they are the function's")]
                #visibility fn job(#(#parameters),*) -> #request {
                    #request { #(#fields),* }
                }
            }
        }
    }

    fn output(&self) -> TokenStream {
        match &self.function.sig.output {
            ReturnType::Default => quote!(()),
            ReturnType::Type(_, ty) => ty.to_token_stream(),
        }
    }

    /// The type of the pointer that a call goes through.
    fn pointer_type(&self) -> TokenStream {
        let types = self.parameters.iter().map(|parameter| &parameter.ty);
        let output = self.output();
        if self.function.sig.asyncness.is_none() {
            return quote!(fn(#(#types),*) -> #output);
        }
        let lifetime = if self.borrows_context() { quote!('_) } else { quote!('static) };
        quote! {
            fn(#(#types),*) -> ::core::pin::Pin<::std::boxed::Box<
                dyn ::core::future::Future<Output = #output> + ::core::marker::Send + #lifetime
            >>
        }
    }

    fn borrows_context(&self) -> bool {
        self.contexts().any(|by_reference| by_reference)
    }

    fn call_impl(&self) -> TokenStream {
        let ident = &self.function.sig.ident;
        let pointer = self.pointer_type();
        let values: Vec<_> = (0..self.parameters.len()).map(value).collect();
        let call = if self.function.sig.asyncness.is_some() {
            // A future that cannot be sent between threads is the function's fault: the error should point there.
            let span = Span::call_site().located_at(ident.span());
            quote_spanned!(span=> |#(#values),*| ::std::boxed::Box::pin(#ident(#(#values),*)))
        } else {
            ident.to_token_stream()
        };
        quote! {
            #[automatically_derived]
            impl ::core::ops::Deref for #ident {
                type Target = #pointer;

                fn deref(&self) -> &Self::Target {
                    static FUNCTION: #pointer = #call;
                    &FUNCTION
                }
            }
        }
    }

    fn function_impl(&self) -> TokenStream {
        let Self { request, krate, .. } = self;
        let ident = &self.function.sig.ident;
        let private = quote!(#krate::__private);
        let dependencies = self.injected();
        let output = self.output();
        let preparation = self.preparation();
        let recurring_jobs = self.recurring_jobs(&private);
        let context = if self.contexts().next().is_some() { quote!(context) } else { quote!(_context) };
        let arguments = self.parameters.iter().enumerate().map(|(index, parameter)| {
            let value = value(index);
            match parameter.role {
                Role::Argument { .. } | Role::Injected(_) => value.to_token_stream(),
                Role::Context { by_reference: true } => quote!(&context),
                Role::Context { by_reference: false } => quote!(context),
            }
        });
        // A result that no job can have is the function's fault: all errors about it point there, and so are shown once.
        let span = match &self.function.sig.output {
            ReturnType::Default => ident.span(),
            ReturnType::Type(_, ty) => ty.span(),
        };
        let there = located(private.clone(), span);
        let result = quote_spanned!(span=> <#output as #there::IntoJobResult>);
        let call = if self.function.sig.asyncness.is_some() {
            quote!(#result::into_job_result(function(#(#arguments),*).await))
        } else {
            quote!(#private::run_blocking(move || #result::into_job_result(function(#(#arguments),*))).await)
        };
        let job_result = quote_spanned!(span=> #there::JobResult<Self::Output>);
        quote! {
            #[automatically_derived]
            impl #private::JobFunction for #ident {
                type Request = #request;
                type Output = #result::Output;

                fn dependencies(&self) -> ::std::vec::Vec<#private::Dependency> {
                    ::std::vec![#(#private::Dependency::of::<#dependencies>()),*]
                }

                #recurring_jobs

                async fn run(
                    &self,
                    request: #request,
                    #context: #private::JobContext,
                    provided: ::std::sync::Arc<#private::Provided>,
                ) -> #job_result {
                    let function = **self;
                    #preparation
                    #call
                }
            }
        }
    }

    fn recurring_jobs(&self, private: &TokenStream) -> TokenStream {
        if self.recurring.is_empty() {
            return TokenStream::new();
        }
        let all = self.recurring.iter().map(|recurring| recurring.expand(private, &self.request));
        quote! {
            fn recurring_jobs(&self) -> ::std::vec::Vec<
                ::core::result::Result<#private::RecurringJobDraft<'static>, #private::SchedulerError>
            > {
                ::std::vec![#(#all),*]
            }
        }
    }

    /// Takes the request apart and fetches what is injected.
    fn preparation(&self) -> TokenStream {
        let request = &self.request;
        let mut fields = Vec::new();
        let mut fetched = Vec::new();
        for (index, parameter) in self.parameters.iter().enumerate() {
            let value = value(index);
            match &parameter.role {
                Role::Argument { name, .. } => fields.push(quote!(#name: #value)),
                Role::Injected(ty) => fetched.push(quote!(let #value = provided.inject::<#ty>()?;)),
                Role::Context { .. } => {}
            }
        }
        quote! {
            let #request { #(#fields),* } = request;
            #(#fetched)*
            ::core::mem::drop(provided);
        }
    }
}

/// The tokens, as if they stood there in the user's code.
fn located(tokens: TokenStream, span: Span) -> TokenStream {
    let locate = |mut token: TokenTree| {
        token.set_span(span);
        token
    };
    tokens.into_iter().map(locate).collect()
}

/// The local variable for the value of a parameter; nothing of the user's has its name.
fn value(index: usize) -> Ident {
    format_ident!("value_{index}", span = Span::mixed_site())
}

/// The identifier without `r#`.
fn plain(ident: &Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_owned()
}

/// Whether `job(…)` should take a `&str` where the function takes this.
fn is_made_from_text(ty: &Type) -> bool {
    let text: String = ty.to_token_stream().to_string().split_whitespace().collect();
    let owners = ["String", "PathBuf", "Box<str>", "Arc<str>"];
    owners.iter().any(|owner| text == *owner || text.ends_with(&format!("::{owner}")))
}
