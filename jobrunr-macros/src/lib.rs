#![doc = include_str!("../README.md")]

mod attribute;
mod cron;
mod derive;
mod errors;
mod function;
mod naming;
mod recurring;
mod request;
mod rules;
mod signature;
mod template;
mod time_span;

use proc_macro::TokenStream;
use quote::{ToTokens as _, quote};
use syn::{DeriveInput, Item, ItemFn, parse_macro_input};

/// Makes a struct or an enum the request of a job.
///
/// It must also be `Serialize` and `Deserialize`. What jobs of the type are like is said in `#[job(…)]`, whose keys are
/// described in the [crate's documentation](crate); without any, the job type is the name in kebab case.
///
/// ```
/// use jobrunr::prelude::*;
///
/// #[derive(Serialize, Deserialize, JobRequest)]
/// #[job(type = "send-welcome-email", name = "Send to {email}", retries = 3, labels = ["mail", "tenant:{tenant}"])]
/// struct SendWelcomeEmail {
///     email: String,
///     tenant: String,
/// }
///
/// assert_eq!(SendWelcomeEmail::JOB_TYPE, "send-welcome-email");
/// ```
#[proc_macro_derive(JobRequest, attributes(job))]
pub fn derive_job_request(input: TokenStream) -> TokenStream {
    derive::expand(&parse_macro_input!(input as DeriveInput)).into()
}

/// Makes a function a job.
///
/// The function stays callable; `resize::job(…)` is the request to run it, of the type `ResizeJob`; a server takes it by
/// its name: `.job(resize)`. The keys are described in the [crate's documentation](crate); without any, the job type is
/// the function's name.
///
/// ```
/// use jobrunr::prelude::*;
///
/// #[job(name = "Resize {path}", retries = 5)]
/// async fn resize(path: String, width: u32) -> JobResult<String> {
///     Ok(format!("{path} at {width}"))
/// }
///
/// let request = resize::job("cat.png", 200);
/// assert_eq!(request.options().name.unwrap(), "Resize cat.png");
/// # async fn call() {
/// assert_eq!(resize("cat.png".to_owned(), 200).await.unwrap(), "cat.png at 200");
/// # }
/// ```
#[proc_macro_attribute]
pub fn job(attribute: TokenStream, item: TokenStream) -> TokenStream {
    match parse_macro_input!(item as Item) {
        Item::Fn(function) => function::expand(attribute.into(), function).into(),
        other => {
            let complaint = match other {
                Item::Struct(_) | Item::Enum(_) => {
                    "`#[job(…)]` on a type goes below the derive: write `#[derive(JobRequest)]` above it"
                }
                _ => "`#[job]` goes on a function, or below `#[derive(JobRequest)]` on a struct",
            };
            let error = syn::Error::new(proc_macro2::Span::call_site(), complaint).to_compile_error();
            let item = other.to_token_stream();
            quote!(#error #item).into()
        }
    }
}

/// Has a job function run by itself, at the ticks of a schedule.
///
/// It stands below `#[job]`, on a function without arguments. A server saves the recurring job when it starts, if it was given
/// the function: by `.job(…)`, or by `.register_all()`. Saving it again changes nothing unless it says something else than before.
/// The keys are described in the [crate's documentation](crate).
///
/// ```
/// use jobrunr::prelude::*;
///
/// #[job(retries = 2)]
/// #[recurring(id = "daily-report", cron = "0 8 * * *", zone = "Europe/Brussels", misfire = RunOnce)]
/// async fn daily_report() -> JobResult {
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn recurring(attribute: TokenStream, item: TokenStream) -> TokenStream {
    recurring::below_job(&attribute.into(), parse_macro_input!(item as ItemFn)).into()
}
