//! The job functions of the whole program, collected when it is linked.

use jobrunr_core::JobFunction;

use crate::registry::Registration;

/// One job function of the program.
#[derive(Debug)]
pub struct CollectedFunction(fn() -> Collected);

/// What a server needs to know of it.
pub struct Collected(Registration);

impl std::fmt::Debug for Collected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Collected")
    }
}

impl CollectedFunction {
    /// The function that this makes when it is asked.
    pub const fn new(function: fn() -> Collected) -> Self {
        Self(function)
    }
}

impl Collected {
    /// Of a function that has `#[job]`.
    pub fn of(function: impl JobFunction) -> Self {
        Self(Registration::of_function(function))
    }
}

inventory::collect!(CollectedFunction);

/// Adds those functions of the program that were not given before, in the order of their job types.
pub(crate) fn add_all(registrations: &mut Vec<Registration>) {
    let all = inventory::iter::<CollectedFunction>.into_iter().map(|CollectedFunction(make)| make().0);
    let mut missing: Vec<_> =
        all.filter(|one| !registrations.iter().any(|given| given.is_same_function(one))).collect();
    missing.sort_by(|one, other| one.job_types().cmp(other.job_types()));
    registrations.extend(missing);
}

/// Has `register_all()` find a job function.
#[doc(hidden)]
#[macro_export]
macro_rules! __collect_job {
    ($function:ident) => {
        $crate::__private::inventory::submit! {
            $crate::__private::CollectedFunction::new(|| $crate::__private::Collected::of($function))
        }
    };
}
