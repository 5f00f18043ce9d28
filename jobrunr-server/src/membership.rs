//! The server's place in its cluster: under which id it lives, until when its lease holds, whether it is the master.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jobrunr_core::{ServerId, ServerRef};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// One life of a server: from its announcement until it ends or is declared dead.
#[derive(Debug)]
pub(crate) struct Life {
    server: ServerRef,
    over: CancellationToken,
}

impl Life {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        let server = ServerRef { id: ServerId::new(), name: name.to_owned() };
        Arc::new(Self { server, over: CancellationToken::new() })
    }

    pub(crate) const fn server(&self) -> &ServerRef {
        &self.server
    }

    pub(crate) const fn id(&self) -> ServerId {
        self.server.id
    }

    /// Whether it was declared dead: what it holds is, or will be, somebody else's.
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    pub(crate) fn end(&self) {
        self.over.cancel();
    }

    pub(crate) async fn ended(&self) {
        self.over.cancelled().await;
    }
}

/// The present life, its lease and its rank.
#[derive(Debug)]
pub(crate) struct Membership {
    life: RwLock<Arc<Life>>,
    lease_ends_at: watch::Sender<Instant>,
    /// The lease lasts so long from the moment a successful heartbeat was sent.
    lease: Duration,
    is_elected: AtomicBool,
}

impl Membership {
    /// A member whose first life is not announced yet, so it has no lease.
    pub(crate) fn new(life: Arc<Life>, lease: Duration) -> Self {
        let lease_ends_at = watch::Sender::new(Instant::now());
        Self { life: RwLock::new(life), lease_ends_at, lease, is_elected: AtomicBool::new(false) }
    }

    pub(crate) fn life(&self) -> Arc<Life> {
        Arc::clone(&self.life.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over the life that follows one that was declared dead.
    pub(crate) fn begin(&self, life: Arc<Life>) {
        *self.life.write().unwrap_or_else(PoisonError::into_inner) = life;
    }

    /// Extends the lease by a heartbeat that was sent then and succeeded.
    pub(crate) fn renew_lease(&self, heartbeat_sent_at: Instant) {
        self.lease_ends_at.send_replace(heartbeat_sent_at + self.lease);
    }

    /// Ends the lease and the mastership until they are won anew.
    pub(crate) fn lose_lease(&self) {
        self.lease_ends_at.send_replace(Instant::now());
        self.set_elected(false);
    }

    /// Whether nobody can have declared the server dead yet; without a lease it starts no job and is no master.
    pub(crate) fn has_lease(&self) -> bool {
        Instant::now() < *self.lease_ends_at.borrow()
    }

    /// Waits until there is a lease.
    pub(crate) async fn leased(&self) {
        let mut lease_ends_at = self.lease_ends_at.subscribe();
        // The sender lives as long as `self`.
        let _ = lease_ends_at.wait_for(|ends_at| Instant::now() < *ends_at).await;
    }

    /// Notes the result of an election; tells whether it changed.
    pub(crate) fn set_elected(&self, is_elected: bool) -> bool {
        self.is_elected.swap(is_elected, Ordering::AcqRel) != is_elected
    }

    pub(crate) fn is_master(&self) -> bool {
        self.is_elected.load(Ordering::Acquire) && self.has_lease()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_master_without_a_lease_is_none() {
        let membership = Membership::new(Life::new("one"), Duration::from_secs(45));
        membership.renew_lease(Instant::now());
        membership.set_elected(true);

        assert!(membership.is_master());
        tokio::time::advance(Duration::from_secs(45)).await;
        assert!(!membership.is_master() && !membership.has_lease());
    }
}
