//! How a call gets to the server: who is under way, how scripts are sent, what waits for other disks.

use jobrunr_core::storage::StorageError;
use redis::{Cmd, FromRedisValue, Pipeline, Value};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::error::{Failed, classify, is_uncertain};
use crate::link::{Refused, Way};
use crate::options::Durability;
use crate::scripts::Script;
use crate::{PROVIDER, RedisStorage};

/// One call under way; closing the storage waits for it.
pub(crate) struct Call<'s> {
    pub(crate) storage: &'s RedisStorage,
    pub(crate) operation: &'static str,
    _under_way: TaskTrackerToken,
}

/// Whether the call may return before what it wrote is as safe as the options say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// It must be as safe.
    Write,
    /// It must be as safe if it wrote anything, of which its answer then tells; else there is nothing in the answer.
    WriteIfAny,
    /// It reads, or its loss only makes others do it again.
    Nothing,
}

impl RedisStorage {
    /// Begins a call, unless the storage was closed.
    pub(crate) fn begin(&self, operation: &'static str) -> Result<Call<'_>, StorageError> {
        let under_way = self.inner.under_way.token();
        // Race: a close between the two lines waits for the token.
        if self.inner.under_way.is_closed() {
            return Err(StorageError::Closed { provider: PROVIDER, operation });
        }
        Ok(Call { storage: self, operation, _under_way: under_way })
    }

    /// Begins a call on behalf of others that are under way, also while the storage is being closed.
    pub(crate) fn begin_last(&self, operation: &'static str) -> Call<'_> {
        Call { storage: self, operation, _under_way: self.inner.under_way.token() }
    }
}

impl Call<'_> {
    fn failed(&self, refused: &Refused) -> Failed {
        Failed {
            error: classify(&refused.error, self.operation),
            is_uncertain: refused.was_sent && is_uncertain(&refused.error),
        }
    }

    fn read<T: FromRedisValue>(&self, answer: Value) -> Result<T, Failed> {
        redis::from_redis_value(answer).map_err(|error| Failed {
            error: classify(&error.into(), self.operation),
            // It was carried out, but nobody can tell what came of it.
            is_uncertain: true,
        })
    }

    /// Begins the arguments of a script.
    pub(crate) fn arguments(&self, script: &Script) -> Cmd {
        script.call(self.storage.inner.keys.base())
    }

    /// Runs a script with arguments that [`arguments`](Self::arguments) began.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        arguments: &Cmd,
        keeps: Keeps,
    ) -> Result<T, Failed> {
        let (link, way) = (&self.storage.inner.link, self.way(keeps));
        let sent = match link.command(way, arguments).await {
            // It was not carried out. With its text it is run and known in one step, whoever flushes scripts meanwhile.
            Err(refused) if is_unknown_script(&refused) => {
                link.command(way, &script.with_text(arguments)).await
            }
            sent => sent,
        };
        self.keep(sent, keeps).await
    }

    /// Runs one command that writes.
    pub(crate) async fn write<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Failed> {
        let way = self.way(Keeps::Write);
        let sent = self.storage.inner.link.command(way, command).await;
        self.keep(sent, Keeps::Write).await
    }

    fn way(&self, keeps: Keeps) -> Way {
        let waits = keeps != Keeps::Nothing && self.storage.inner.options.durability != Durability::Server;
        if waits { Way::Waiting } else { Way::Plain }
    }

    /// Waits until what the answer tells of is as safe as it must be.
    async fn keep<T: FromRedisValue>(
        &self,
        sent: Result<(Value, u64), Refused>,
        keeps: Keeps,
    ) -> Result<T, Failed> {
        let (answer, generation) = sent.map_err(|refused| self.failed(&refused))?;
        let tells_nothing =
            matches!(&answer, Value::Array(words) if words.iter().all(|word| *word == Value::Nil));
        let wrote_nothing = keeps == Keeps::WriteIfAny && tells_nothing;
        if self.way(keeps) == Way::Waiting && !wrote_nothing {
            self.wait_until_safe(generation).await?;
        }
        self.read(answer)
    }

    /// Runs commands that only read, one after the other but not as one step.
    pub(crate) async fn read_all<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<Vec<T>, Failed> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.storage.inner.link.read_all(commands).await;
        let answers = answers.map_err(|refused| self.failed(&refused))?;
        answers.into_iter().map(|answer| self.read(answer)).collect()
    }

    /// Runs one command that only reads.
    pub(crate) async fn read_one<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Failed> {
        let sent = self.storage.inner.link.command(Way::Plain, command).await;
        let (answer, _) = sent.map_err(|refused| self.failed(&refused))?;
        self.read(answer)
    }
}

fn is_unknown_script(refused: &Refused) -> bool {
    refused.error.code() == Some("NOSCRIPT")
}
