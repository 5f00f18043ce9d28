//! The list of scenarios, once; the tests of every backend and [`SCENARIOS`] are made from it.

use crate::run::Scenario;

/// Calls `$callback!` with the list: module and name of each scenario, the numbers it covers, the abilities it needs.
#[doc(hidden)]
#[macro_export]
macro_rules! with_every_scenario {
    ($callback:ident $context:tt) => {
        $crate::$callback! {
            $context
            jobs::an_unknown_id_is_none [2] [];
        }
    };
}

/// Makes one `#[test]` of each scenario for the storage that the harness gives.
///
/// ```ignore
/// use storage_conformance_tests::{Prefixed, conformance_tests};
///
/// conformance_tests!(MyHarness);
///
/// mod with_a_prefix {
///     use super::*;
///     conformance_tests!(Prefixed::new(MyHarness, "app_"));
/// }
/// ```
#[macro_export]
macro_rules! conformance_tests {
    ($harness:expr) => {
        $crate::with_every_scenario! { __tests ($harness) }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    (($harness:expr) $($module:ident::$name:ident [$($number:literal),*] [$($ability:ident),*];)+) => {
        $(
            #[test]
            fn $name() {
                let scenario = $crate::__scenario!($module::$name [$($number),*] [$($ability),*]);
                $crate::run($harness, &scenario);
            }
        )+
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __scenario {
    ($module:ident::$name:ident [$($number:literal),*] [$($ability:ident),*]) => {
        $crate::Scenario {
            name: stringify!($name),
            numbers: &[$($number),*],
            needs: &[$($crate::Ability::$ability),*],
            body: |fixture| ::std::boxed::Box::pin($crate::$module::$name(fixture)),
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __table {
    (() $($module:ident::$name:ident $numbers:tt $abilities:tt;)+) => {
        &[$($crate::__scenario!($module::$name $numbers $abilities)),+]
    };
}

/// Every scenario of the suite.
pub static SCENARIOS: &[Scenario] = crate::with_every_scenario! { __table () };
