//! The macros of the test kit: what is wanted, from Rust's syntax; what is there is found out in `expectations`.

/// Makes sure that a job is ENQUEUED whose request is as wanted, and gives that [`Job`](jobrunr_core::Job).
///
/// Three ways to say what is wanted: a type with some of its fields, a type alone, or a closure. Fields are compared with
/// `==`; those not named may be anything. The request of a function with `#[job]` is named after it: `ResizeJob` of `resize`.
///
/// The first argument is a test kit, a storage, a scheduler or a server. The macro awaits, so it belongs into an `async`
/// function.
///
/// # Panics
/// If there is no such job; the message lists the jobs of that type that there are instead.
///
/// # Examples
///
/// ```
/// # use jobrunr_core::{JobBuilder, JobRequest};
/// # use jobrunr_core::{JobContext, JobHandler, JobResult};
/// # use jobrunr_server::testing::TestKit;
/// use jobrunr_server::testing::{assert_enqueued, assert_not_enqueued};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct SendEmail { to: String, copies: u32 }
/// # impl JobRequest for SendEmail { const JOB_TYPE: &'static str = "send-email"; }
/// # struct Mailer;
/// # impl JobHandler<SendEmail> for Mailer {
/// #     type Output = ();
/// #     async fn run(&self, _: SendEmail, _: &JobContext) -> JobResult { Ok(()) }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let kit = TestKit::new(|server| server.handle::<SendEmail, _>(Mailer));
///
/// let email = SendEmail { to: "ada@example.org".into(), copies: 2 };
/// kit.scheduler().create(JobBuilder::new(email).queue("slow")).await?;
///
/// assert_enqueued!(kit, SendEmail);
/// assert_enqueued!(kit, |email: &SendEmail| email.to.ends_with("@example.org") && email.copies < 3);
/// let job = assert_enqueued!(kit, SendEmail { to: "ada@example.org" });
/// assert_eq!(job.queue(), "slow");
///
/// assert_not_enqueued!(kit, SendEmail { copies: 3 });
/// # Ok(())
/// # }
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __assert_enqueued {
    ($storage:expr, $($wanted:tt)+) => {
        $crate::__found_as_wanted!(find_enqueued, $storage, $($wanted)+)
    };
}

/// Makes sure that a job is SCHEDULED whose request is as wanted, and gives that [`Job`](jobrunr_core::Job), whose
/// [`scheduled_at`](jobrunr_core::Job::scheduled_at) says for when.
///
/// Everything else is as with [`assert_enqueued!`](crate::testing::assert_enqueued).
///
/// # Panics
/// If there is no such job; the message lists the jobs of that type that there are instead.
#[doc(hidden)]
#[macro_export]
macro_rules! __assert_scheduled {
    ($storage:expr, $($wanted:tt)+) => {
        $crate::__found_as_wanted!(find_scheduled, $storage, $($wanted)+)
    };
}

/// Makes sure that no job waits, ENQUEUED or SCHEDULED, whose request is as said.
///
/// Everything else is as with [`assert_enqueued!`](crate::testing::assert_enqueued).
///
/// # Panics
/// If there is such a job; the message shows it.
#[doc(hidden)]
#[macro_export]
macro_rules! __assert_not_enqueued {
    ($storage:expr, $($unwanted:tt)+) => {
        $crate::__found_as_wanted!(find_none, $storage, $($unwanted)+)
    };
}

/// Calls one of the functions of `expectations`, and panics in the user's line if it says so.
#[doc(hidden)]
#[macro_export]
macro_rules! __found_as_wanted {
    ($find:ident, $storage:expr, $request:path { $($field:ident : $value:expr),* $(,)? } $(,)?) => {
        // All values are borrowed before a name is bound, so that no field hides what a later value means.
        match ($(&$value,)*) {
            ($($field,)*) => {
                let wanted = $crate::testing::__private::described(
                    ::core::stringify!($request),
                    &[$((::core::stringify!($field), $field as &dyn ::core::fmt::Debug)),*],
                );
                $crate::__or_panic!($crate::testing::__private::$find(
                    &$storage,
                    wanted,
                    |request: &$request| { let _ = request; true $(&& request.$field == *$field)* },
                ))
            }
        }
    };
    ($find:ident, $storage:expr, $request:path $(,)?) => {
        $crate::__or_panic!($crate::testing::__private::$find(
            &$storage,
            ::std::string::ToString::to_string(::core::stringify!($request)),
            |_: &$request| true,
        ))
    };
    ($find:ident, $storage:expr, $fits:expr $(,)?) => {
        $crate::__or_panic!($crate::testing::__private::$find(
            &$storage,
            ::std::string::ToString::to_string(::core::stringify!($fits)),
            $fits,
        ))
    };
}

/// Awaits what was found, and panics with the message if it is not as wanted.
#[doc(hidden)]
#[macro_export]
macro_rules! __or_panic {
    ($found:expr) => {
        match $found.await {
            ::core::result::Result::Ok(found) => found,
            ::core::result::Result::Err(message) => ::core::panic!("{}", message),
        }
    };
}
