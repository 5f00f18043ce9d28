//! Whether a run may still write down something with its job: the server's answer to its handlers.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use jobrunr_core::RunLease;

use crate::engine::Engine;
use crate::holdings::{Interruption, Run};
use crate::membership::Life;

/// The lease of one run: that of its server, unless its job was taken away before.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Weak, because a handler may leave its context to a task that outlives the server.
    engine: Weak<Engine>,
    run: Arc<Run>,
    life: Arc<Life>,
}

impl Lease {
    pub(crate) fn new(engine: &Arc<Engine>, run: &Arc<Run>, life: &Arc<Life>) -> Self {
        Self { engine: Arc::downgrade(engine), run: Arc::clone(run), life: Arc::clone(life) }
    }

    fn is_lost(&self) -> bool {
        let interruption = self.run.interruption();
        let is_taken_away = matches!(interruption, Some(Interruption::TakenAway | Interruption::ServerGone));
        is_taken_away || self.life.is_over()
    }
}

#[async_trait]
impl RunLease for Lease {
    async fn is_held(&self) -> bool {
        let Some(engine) = self.engine.upgrade() else { return false };
        while !self.is_lost() {
            if engine.membership.has_lease() {
                return true;
            }
            tokio::select! {
                () = engine.membership.leased() => {}
                () = self.life.ended() => {}
            }
        }
        false
    }
}
