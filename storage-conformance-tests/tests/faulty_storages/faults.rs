//! What can be wrong with a storage.

macro_rules! fault {
    ($($name:ident),+ $(,)?) => {
        /// One deliberate fault; what each does stands where [`Faulty`](crate::storage::Faulty) does it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Fault { $($name),+ }

        impl Fault {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),+];
        }
    };
}

fault! {
    None,
    DropsALabel,
    RoundsTimes,
    TidiesPayloads,
    InsertOverwrites,
    InsertsBeforeCheckingSizes,
    IgnoresTheVersion,
    RevivesPurgedJobs,
    NamesLosersInAnotherOrder,
    LetsTheSecondMentionWin,
    RewritesHistory,
    ShortensHistory,
    MetadataTakesAVersion,
    PurgesBeyondTheLimit,
    PurgeIncludesTheInstant,
    ClaimsTwice,
    ForgetsTheClaimLimit,
    IgnoresPriorities,
    ClaimsTypeByType,
    ClaimsUnwantedTypes,
    DatesClaimsBack,
    SendsGivenBackJobsToTheEnd,
    ClaimsInTwoSteps,
    ReleasesEarly,
    ReleasesBeyondTheLimit,
    ForgetsTheNextDueTime,
    ListIgnoresTheQueue,
    ListIgnoresTheTypeBesideAnError,
    LabelsMatchByPrefix,
    CursorIsOffByOne,
    TiesIgnoreTheDirection,
    CountsForgetDeletions,
    SuccessesGoWithTheirJobs,
    RecurringIgnoresTheVersion,
    DeletesStaleRecurringJobs,
    PausedIsDue,
    HeartbeatRevives,
    SilenceIncludesTheInstant,
    SilentServersAreReportedTwice,
    OverwritingMovesCreatedAt,
    SetsWithoutComparing,
    ComparesAndSetsInTwoSteps,
    LosesHints,
    ForgetsWaits,
    StaysOpen,
    SavesInTwoSteps,
    Hangs,
}
