//! A harness made of two closures, for storages that need no more.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use jobrunr_core::storage::{StorageError, StorageProvider};

use crate::harness::{Ability, NoDatabase, StorageHarness, TestDatabase};

/// Makes a harness of a closure that makes a fresh, empty database and returns how to open it.
///
/// The inner closure is called with the prefix wanted; what it holds is dropped at the end of the scenario, which is
/// the place to remove the database. Abilities that need more than this need a [`StorageHarness`] written out.
///
/// # Examples
///
/// ```
/// use jobrunr_core::memory::MemoryStorage;
/// use storage_conformance_tests::{Ability, conformance_tests, harness_from};
///
/// conformance_tests!(harness_from(&[Ability::ChangeFeed, Ability::Durability], || async {
///     let database = MemoryStorage::new();
///     Ok(move |_prefix: Option<String>| std::future::ready(Ok(database.open_again())))
/// }));
/// ```
pub fn harness_from<C, CF, O, OF, S>(
    abilities: &'static [Ability],
    create: C,
) -> impl StorageHarness + 'static
where
    C: Fn() -> CF + Send + Sync + 'static,
    CF: Future<Output = Result<O, NoDatabase>> + Send + 'static,
    O: Fn(Option<String>) -> OF + Send + Sync + 'static,
    OF: Future<Output = Result<S, StorageError>> + Send + 'static,
    S: StorageProvider + 'static,
{
    SimpleHarness { abilities, create, opened: PhantomData::<fn() -> (CF, O, OF, S)> }
}

struct SimpleHarness<C, P> {
    abilities: &'static [Ability],
    create: C,
    opened: PhantomData<P>,
}

#[async_trait]
impl<C, CF, O, OF, S> StorageHarness for SimpleHarness<C, fn() -> (CF, O, OF, S)>
where
    C: Fn() -> CF + Send + Sync + 'static,
    CF: Future<Output = Result<O, NoDatabase>> + Send + 'static,
    O: Fn(Option<String>) -> OF + Send + Sync + 'static,
    OF: Future<Output = Result<S, StorageError>> + Send + 'static,
    S: StorageProvider + 'static,
{
    async fn create(&self) -> Result<Box<dyn TestDatabase>, NoDatabase> {
        let open = (self.create)().await?;
        Ok(Box::new(SimpleDatabase { open, opened: PhantomData::<fn() -> (OF, S)> }))
    }

    fn abilities(&self) -> Cow<'static, [Ability]> {
        Cow::Borrowed(self.abilities)
    }
}

struct SimpleDatabase<O, P> {
    open: O,
    opened: PhantomData<P>,
}

#[async_trait]
impl<O, OF, S> TestDatabase for SimpleDatabase<O, fn() -> (OF, S)>
where
    O: Fn(Option<String>) -> OF + Send + Sync + 'static,
    OF: Future<Output = Result<S, StorageError>> + Send + 'static,
    S: StorageProvider + 'static,
{
    async fn open(&self, prefix: Option<&str>) -> Result<Arc<dyn StorageProvider>, StorageError> {
        let storage = (self.open)(prefix.map(str::to_owned)).await?;
        Ok(Arc::new(storage))
    }

    async fn destroy(&self) {
        // What the closure holds goes with this value.
    }
}
