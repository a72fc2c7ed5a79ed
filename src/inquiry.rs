//! What the data plane asks the control half about issuers, and what it is told.
//!
//! Invariant: asking never waits; whoever asked waits for the answer as long as it likes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::model::issuer::Issuer;
use crate::model::name::Name;
use crate::policy::jwt::Grant;
use crate::policy::jwt::keys::KeySet;

/// How many questions may be on their way.
const INQUIRIES_MAX: usize = 1024;

/// The keys of all issuers that have any, by their ids.
pub type Rings = BTreeMap<Name, Arc<Ring>>;

/// The keys of one issuer.
#[derive(Debug)]
pub struct Ring {
    /// The setting they were obtained by: they count for no other.
    pub issuer: Arc<Issuer>,
    /// The keys.
    pub keys: KeySet,
}

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct Inquiry {
    /// The issuer's id.
    pub id: Name,
    /// The issuer's setting.
    pub issuer: Arc<Issuer>,
    /// What is asked.
    pub about: About,
    /// Takes the answer; dropped without one where nothing can be found out.
    pub answer: oneshot::Sender<Answer>,
}

/// What may be asked.
#[derive(Debug)]
pub enum About {
    /// Whether there are other keys by now.
    Keys,
    /// Whether a token is good.
    Token(Presented),
}

/// A token as it was presented, which no log ever shows.
#[derive(Clone)]
pub struct Presented(pub Box<str>);

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The keys are as new as they may be.
    Looked,
    /// The issuer says this of the token.
    Told(Arc<Told>),
}

/// What an issuer says of a token.
#[derive(Debug)]
pub struct Told {
    /// What it opens; `None`: it is not good.
    pub grant: Option<Arc<Grant>>,
    /// Until when this may be remembered.
    pub until: Instant,
}

/// The data plane's end: clones share it.
#[derive(Clone, Debug)]
pub struct Desk {
    rings: Arc<ArcSwap<Rings>>,
    inquiries: mpsc::Sender<Inquiry>,
}

/// The control half's end.
#[derive(Debug)]
pub struct Office {
    /// The keys that the data plane checks with.
    pub rings: Arc<ArcSwap<Rings>>,
    /// What it asks.
    pub inquiries: mpsc::Receiver<Inquiry>,
}

/// Both ends.
#[must_use]
pub fn desk() -> (Desk, Office) {
    let rings: Arc<ArcSwap<Rings>> = Arc::default();
    let (inquiries, asked) = mpsc::channel(INQUIRIES_MAX);
    let office = Office {
        rings: Arc::clone(&rings),
        inquiries: asked,
    };
    (Desk { rings, inquiries }, office)
}

impl Desk {
    /// The keys of that issuer, if there are any for this very setting.
    #[must_use]
    pub fn ring(&self, id: &Name, issuer: &Arc<Issuer>) -> Option<Arc<Ring>> {
        let rings = self.rings.load();
        let ring = rings.get(id)?;
        Arc::ptr_eq(&ring.issuer, issuer).then(|| Arc::clone(ring))
    }

    /// Asks; `None` where too much was asked already.
    #[must_use]
    pub fn ask(
        &self,
        id: &Name,
        issuer: &Arc<Issuer>,
        about: About,
    ) -> Option<oneshot::Receiver<Answer>> {
        let (answer, answered) = oneshot::channel();
        let inquiry = Inquiry {
            id: id.clone(),
            issuer: Arc::clone(issuer),
            about,
            answer,
        };
        self.inquiries.try_send(inquiry).ok().map(|()| answered)
    }
}
