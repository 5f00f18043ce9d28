//! The layout of the keys, its number, and what a server must be like.

use std::collections::HashMap;

use jobrunr_core::storage::{SetUp, StorageError};
use redis::cmd;

use crate::calls::{Call, Keeps};
use crate::scripts::SCHEMA;
use crate::{PROVIDER, RedisStorage};

/// The number of the layout that [`keys`](crate::keys) describes.
const LAYOUT: u64 = 3;

/// The oldest version of Redis that has all that is needed.
const OLDEST_VERSION: (u32, u32) = (6, 2);

const OPERATION: &str = "set up";

impl RedisStorage {
    pub(crate) async fn set_up_schema(&self, set_up: SetUp) -> Result<(), StorageError> {
        let call = self.begin(OPERATION)?;
        if set_up == SetUp::Nothing {
            return Ok(());
        }
        self.check_server(&call).await?;
        let makes = if set_up == SetUp::Migrate { "yes" } else { "no" };
        let mut arguments = call.arguments(&SCHEMA);
        arguments.arg(LAYOUT).arg(makes);
        let stored: String = call.run(&SCHEMA, &arguments, Keeps::Write).await?;
        check_layout(&stored, &self.inner.keys.schema())
    }

    /// Refuses a server that is too old, or that may throw keys away.
    async fn check_server(&self, call: &Call<'_>) -> Result<(), StorageError> {
        let mut info = cmd("INFO");
        info.arg("server");
        // Hosted servers may keep this to themselves.
        if let Ok(info) = call.read_one::<String>(&info).await
            && let Some(version) = version_of(&info)
            && version < OLDEST_VERSION
        {
            let what =
                format!("Redis {}.{} is too old; version 6.2 or later is needed", version.0, version.1);
            return Err(StorageError::Unsupported { provider: PROVIDER, what });
        }
        if self.inner.options.allows_eviction {
            return Ok(());
        }
        match policy(call).await? {
            Some(policy) if policy != "noeviction" => Err(StorageError::Unsupported {
                provider: PROVIDER,
                what: format!(
                    "its maxmemory-policy is {policy}: jobs would be thrown away when its memory is full; set it to \
                     noeviction, or accept the loss by RedisOptions::allow_eviction"
                ),
            }),
            Some(_) => Ok(()),
            None => {
                tracing::warn!(
                    "this Redis does not tell its maxmemory-policy; if it is not noeviction, jobs can be lost"
                );
                Ok(())
            }
        }
    }
}

/// What the server does when its memory is full; `None` if it keeps that to itself.
async fn policy(call: &Call<'_>) -> Result<Option<String>, StorageError> {
    const NAME: &str = "maxmemory-policy";
    let mut config = cmd("CONFIG");
    config.arg("GET").arg(NAME);
    match call.read_one::<HashMap<String, String>>(&config).await {
        Ok(mut settings) if settings.contains_key(NAME) => return Ok(settings.remove(NAME)),
        Err(failed) if failed.error.is_retryable() => return Err(failed.into()),
        // Hosted servers refuse it in many ways.
        Ok(_) | Err(_) => {}
    }
    let mut info = cmd("INFO");
    info.arg("memory");
    match call.read_one::<String>(&info).await {
        Ok(info) => Ok(line_of(&info, "maxmemory_policy").map(str::to_owned)),
        Err(failed) if failed.error.is_retryable() => Err(failed.into()),
        Err(_) => Ok(None),
    }
}

fn check_layout(stored: &str, key: &str) -> Result<(), StorageError> {
    let mismatch = |what| Err(StorageError::SchemaMismatch { provider: PROVIDER, what });
    match stored.parse::<u64>() {
        Ok(LAYOUT) => Ok(()),
        Ok(newer) if newer > LAYOUT => mismatch(format!(
            "the keys have layout {newer}, and this version knows {LAYOUT}; use a later version"
        )),
        // No release wrote it, so there is nothing to migrate but what was tried out.
        Ok(older @ 1..) => mismatch(format!(
            "the keys have layout {older}, which was in use before the first release, and this version knows {LAYOUT}; \
             use another key prefix or database, or remove these keys"
        )),
        _ if stored.is_empty() => {
            mismatch(format!("there is no key {key}; set the storage up with SetUp::Migrate first"))
        }
        _ => mismatch(format!("the key {key} holds no layout that is known")),
    }
}

fn version_of(info: &str) -> Option<(u32, u32)> {
    let version = line_of(info, "redis_version")?;
    let mut numbers = version.split('.').map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// What an answer to `INFO` says under a name.
fn line_of<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    let mut lines = info.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_that_are_missing_older_newer_or_no_number_are_told_apart() {
        let said = |stored| check_layout(stored, "k").unwrap_err().to_string();

        assert!(check_layout("3", "k").is_ok());
        assert!(said("1").contains("layout 1"));
        assert!(said("2").contains("layout 2"));
        assert!(said("").contains("no key k"));
        assert!(said("999").contains("layout 999"));
        assert!(said("x").contains("holds no layout"));
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(version_of("# Server\r\nredis_version:7.0.15\r\n"), Some((7, 0)));
        assert!(version_of("redis_version:10.0.1").unwrap() > OLDEST_VERSION);
        assert_eq!(version_of("other:1"), None);
    }
}
