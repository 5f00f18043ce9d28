//! `#[recurring(…)]` beside `#[job]`: when the function runs by itself.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote, quote_spanned};
use syn::parse::Parser as _;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{Attribute, Expr, Ident, ItemFn, LitStr, Meta, Token};

use crate::attribute::Entry;
use crate::cron;
use crate::errors::Errors;
use crate::rules::Rule;

const KEYS: &str = "`id`, `cron`, `interval`, `zone`, `misfire` and `overlap`";
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(36_525 * 24 * 60 * 60);
const MAX_MISSED_RUNS: u32 = 1_000;

/// Whether the attribute has this name, whatever stands before it.
pub(crate) fn is_called(attribute: &Attribute, name: &str) -> bool {
    attribute.path().segments.last().is_some_and(|segment| segment.ident == name)
}

/// Moves `#[recurring(…)]` below the `#[job]` of the function, which reads it.
pub(crate) fn below_job(tokens: &TokenStream, mut function: ItemFn) -> TokenStream {
    if !function.attrs.iter().any(|attribute| is_called(attribute, "job")) {
        let complaint = "`#[recurring(…)]` goes with `#[job]`: put `#[job]` above it";
        let error = syn::Error::new(proc_macro2::Span::call_site(), complaint).to_compile_error();
        return quote!(#error #function);
    }
    function.attrs.push(syn::parse_quote!(#[recurring(#tokens)]));
    function.into_token_stream()
}

/// Takes every `#[recurring(…)]` off a function and reads it; the ids tell them apart.
pub(crate) fn take(function: &mut ItemFn, errors: &mut Errors) -> Vec<Recurring> {
    let mut found: Vec<Recurring> = Vec::new();
    for attribute in function.attrs.extract_if(.., |attribute| is_called(attribute, "recurring")) {
        let Some(one) = read(&attribute, errors) else { continue };
        let same = |other: &Recurring| other.id_text() == one.id_text();
        if found.iter().any(same) {
            let complaint =
                "another `#[recurring(…)]` of this function has the same id: give each its own, `id = \"…\"`";
            errors.push(syn::Error::new_spanned(&attribute, complaint));
        }
        found.push(one);
    }
    found
}

enum Schedule {
    Cron(LitStr),
    Interval(Duration),
}

/// One `#[recurring(…)]`, read.
pub(crate) struct Recurring {
    id: Option<LitStr>,
    schedule: Schedule,
    zone: Option<LitStr>,
    misfire: Option<TokenStream>,
    overlap: Option<Ident>,
}

impl Recurring {
    fn id_text(&self) -> Option<String> {
        self.id.as_ref().map(LitStr::value)
    }

    /// The call that makes it, with the request to run.
    pub(crate) fn expand(&self, private: &TokenStream, request: &Ident) -> TokenStream {
        let schedule = match &self.schedule {
            Schedule::Cron(text) => quote!(#text),
            Schedule::Interval(every) => {
                let (seconds, nanoseconds) = (every.as_secs(), every.subsec_nanos());
                quote!(::core::time::Duration::new(#seconds, #nanoseconds))
            }
        };
        let id = self.id.as_ref().map(|id| quote!(.id(#id)));
        let zone = self.zone.as_ref().map(|zone| {
            // Naming the zone in code has the compiler check that there is one.
            let variant = Ident::new(&variant_of(&zone.value()), zone.span());
            let zone = quote_spanned!(zone.span()=> Tz::#variant);
            quote!(.zone(#private::#zone))
        });
        let misfire = self.misfire.as_ref().map(|policy| quote!(.misfire(#private::MisfirePolicy::#policy)));
        let overlap = self.overlap.as_ref().map(|policy| quote!(.overlap(#private::OverlapPolicy::#policy)));
        quote! {
            #private::recurring_job(
                #private::RecurringJobBuilder::new(#schedule, #request {}) #id #zone #misfire #overlap
            )
        }
    }
}

fn read(attribute: &Attribute, errors: &mut Errors) -> Option<Recurring> {
    let Meta::List(list) = &attribute.meta else {
        errors.push(syn::Error::new_spanned(attribute, NO_SCHEDULE));
        return None;
    };
    let entries = Punctuated::<Entry, Token![,]>::parse_terminated.parse2(list.tokens.clone());
    let entries = errors.take(entries)?;
    let mut seen: Vec<String> = Vec::new();
    let (mut id, mut schedule, mut zone, mut misfire, mut overlap) = (None, None, None, None, None);
    for entry in &entries {
        let key = entry.key();
        if seen.contains(&key) {
            errors.push(syn::Error::new(entry.key_span(), format!("`{key}` is given twice")));
            continue;
        }
        if (key == "cron" || key == "interval")
            && seen.iter().any(|other| other == "cron" || other == "interval")
        {
            let complaint = "a recurring job has one schedule: give `cron` or `interval`, not both";
            errors.push(syn::Error::new(entry.key_span(), complaint));
            continue;
        }
        match key.as_str() {
            "id" => id = errors.take(entry.named(Rule::RecurringJobId)),
            "cron" => schedule = errors.take(read_cron(entry)),
            "interval" => schedule = errors.take(read_interval(entry)),
            "zone" => zone = errors.take(read_zone(entry)),
            "misfire" => misfire = errors.take(read_misfire(entry)),
            "overlap" => overlap = errors.take(read_overlap(entry)),
            _ => {
                let complaint = format!("unknown key `{key}`: the keys are {KEYS}");
                errors.push(syn::Error::new(entry.key_span(), complaint));
            }
        }
        seen.push(key);
    }
    if !seen.iter().any(|key| key == "cron" || key == "interval") {
        errors.push(syn::Error::new_spanned(attribute, NO_SCHEDULE));
    }
    if let (Some(Schedule::Interval(_)), Some(zone)) = (&schedule, &zone) {
        let complaint = "an interval knows no time zone: leave `zone` out, or give a `cron` expression";
        errors.push(syn::Error::new(zone.span(), complaint));
    }
    Some(Recurring { id, schedule: schedule?, zone, misfire, overlap })
}

const NO_SCHEDULE: &str =
    "say when it runs: write `#[recurring(cron = \"0 8 * * *\")]` or `#[recurring(interval = \"30s\")]`";

fn read_cron(entry: &Entry) -> syn::Result<Schedule> {
    let text = entry.text()?;
    cron::check(&text.value()).map_err(|complaint| syn::Error::new(text.span(), complaint))?;
    Ok(Schedule::Cron(text))
}

fn read_interval(entry: &Entry) -> syn::Result<Schedule> {
    let every = entry.time_span()?;
    if !(SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&every) {
        return entry.refused("out of range: choose one from \"1s\" to \"36525d\"");
    }
    Ok(Schedule::Interval(every))
}

fn read_zone(entry: &Entry) -> syn::Result<LitStr> {
    let zone = entry.text()?;
    if syn::parse_str::<Ident>(&variant_of(&zone.value())).is_err() {
        let complaint =
            format!("{:?} is no time zone: write an IANA name such as \"Europe/Brussels\"", zone.value());
        return Err(syn::Error::new(zone.span(), complaint));
    }
    Ok(zone)
}

/// What `chrono_tz` calls a zone in code.
fn variant_of(zone: &str) -> String {
    let name = zone.replace('/', "__").replace('+', "Plus");
    let before_digit =
        name.find('-').and_then(|dash| name[dash + 1..].chars().next()).is_some_and(char::is_numeric);
    name.replace('-', if before_digit { "Minus" } else { "" })
}

fn read_misfire(entry: &Entry) -> syn::Result<TokenStream> {
    let refused = || entry.refused("one of `Skip`, `RunOnce` and `RunAll(10)`");
    match entry.value() {
        Expr::Path(path) if path.path.is_ident("Skip") || path.path.is_ident("RunOnce") => {
            Ok(path.to_token_stream())
        }
        Expr::Call(call) if matches!(&*call.func, Expr::Path(path) if path.path.is_ident("RunAll")) => {
            let Some(Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(count), .. })) = call.args.first() else {
                return refused();
            };
            let (name, at_most) = (&call.func, count.base10_parse::<u32>()?);
            if call.args.len() != 1 || !(1..=MAX_MISSED_RUNS).contains(&at_most) {
                let complaint = format!("`RunAll` makes up for 1 to {MAX_MISSED_RUNS} missed ticks");
                return Err(syn::Error::new(call.args.span(), complaint));
            }
            Ok(quote!(#name { at_most: #at_most }))
        }
        _ => refused(),
    }
}

fn read_overlap(entry: &Entry) -> syn::Result<Ident> {
    let policies = ["Skip", "Allow", "QueueOne", "CancelPrevious"];
    match entry.value() {
        Expr::Path(path) => match path.path.get_ident() {
            Some(policy) if policies.iter().any(|known| policy == known) => Ok(policy.clone()),
            _ => entry.refused("one of `Skip`, `Allow`, `QueueOne` and `CancelPrevious`"),
        },
        _ => entry.refused("one of `Skip`, `Allow`, `QueueOne` and `CancelPrevious`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_those_of_the_engine() {
        assert_eq!(MAX_MISSED_RUNS, jobrunr_core::limits::MAX_MISSED_RUNS);
        assert_eq!(SHORTEST_INTERVAL, jobrunr_core::schedule::Interval::SHORTEST);
        assert_eq!(LONGEST_INTERVAL, jobrunr_core::schedule::Interval::LONGEST);
    }

    #[test]
    fn zones_have_the_names_that_they_have_in_code() {
        for (zone, variant) in [
            ("UTC", "UTC"),
            ("Europe/Brussels", "Europe__Brussels"),
            ("America/Argentina/Buenos_Aires", "America__Argentina__Buenos_Aires"),
            ("America/Port-au-Prince", "America__PortauPrince"),
            ("Etc/GMT-1", "Etc__GMTMinus1"),
            ("Etc/GMT+1", "Etc__GMTPlus1"),
        ] {
            assert_eq!(variant_of(zone), variant);
        }
    }
}
