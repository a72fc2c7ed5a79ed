//! Where a lane's records come from. A lane takes them from its feed and gives back what they came
//! to; what kind of feed that is, it need not know.

mod handed;
mod stream;
mod topic;

use super::Plan;
use super::lane::Lane;
use crate::model::shadow::{Shadow, Sink};
use crate::store::{self, Taken};
use crate::{broker, telemetry};

pub(super) use handed::Handed;
use stream::Stream;
use topic::Topic;

/// Where records come from.
pub(super) enum Feed {
    /// A Redis Stream.
    Stream(Stream),
    /// A topic of Kafka.
    Topic(Box<Topic>),
    /// This process hands them over.
    Handed(Handed),
}

/// What tells feeds of one service apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Stream,
    Topic(Box<str>),
    Handed,
}

/// Why records cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Broker(#[from] broker::Error),
    /// The operator asked for something that this feed has not.
    #[error("{0}")]
    Asked(&'static str),
}

impl Place {
    /// Where the records of a policy are.
    pub(super) fn of(policy: &Shadow) -> Self {
        match policy.to {
            Sink::Stream => Self::Stream,
            Sink::Kafka => Self::Topic(policy.topic.clone()),
            Sink::Mirror => Self::Handed,
        }
    }
}

impl Feed {
    /// What a worker reads at this place; `None` where it cannot, which is said.
    pub(super) fn at(
        place: &Place,
        plan: &Plan,
        (service, candidate): (&str, &str),
    ) -> Option<Self> {
        match (place, &plan.kafka) {
            (Place::Stream, _) => Some(Self::Stream(Stream::default())),
            (Place::Topic(topic), Some(servers)) => {
                Some(Self::Topic(Box::new(Topic::new(servers.clone(), topic))))
            }
            (Place::Topic(_), None) => {
                let why = "to kafka, but this worker has no --kafka";
                telemetry::worker_failed(service, candidate, why);
                None
            }
            (Place::Handed, _) => {
                let why = "to mirror: the gateways compare these records themselves";
                telemetry::worker_failed(service, candidate, why);
                None
            }
        }
    }

    /// Makes ready whatever must be there before the first record.
    pub(super) async fn open(&mut self, lane: &Lane) -> Result<(), Error> {
        match self {
            Self::Stream(stream) => stream.open(lane).await,
            Self::Topic(topic) => topic.open(lane).await,
            Self::Handed(_) => handed::open(lane).await,
        }
    }

    /// The next records, at most so many; none where there are none right now.
    pub(super) async fn next(&mut self, lane: &Lane, most: usize) -> Result<Vec<Taken>, Error> {
        match self {
            Self::Stream(stream) => stream.next(lane, most).await,
            Self::Topic(topic) => topic.next(lane, most).await,
            Self::Handed(handed) => Ok(handed.next(lane, most)),
        }
    }

    /// What must be done while no record is wanted.
    pub(super) async fn tend(&mut self, lane: &Lane) -> Result<(), Error> {
        match self {
            Self::Topic(topic) => topic.follow(lane).await,
            Self::Stream(_) | Self::Handed(_) => Ok(()),
        }
    }

    /// Says, now and then, that we are alive and how far we are; whether numbers that are missing
    /// among what was read are missing for good.
    pub(super) async fn touch(&mut self, lane: &Lane) -> Result<bool, Error> {
        match self {
            Self::Stream(_) => stream::touch(lane).await.map(|()| true),
            Self::Topic(topic) => topic.touch(lane).await,
            Self::Handed(_) => Ok(false),
        }
    }

    /// Whether nothing is left to read, where nothing is being worked on.
    pub(super) async fn is_empty(&mut self, lane: &Lane) -> Result<bool, Error> {
        match self {
            Self::Stream(_) => stream::is_empty(lane).await,
            Self::Topic(topic) => topic.is_empty(lane).await,
            Self::Handed(_) => Ok(false),
        }
    }

    /// Takes leave of whoever shares the records with us.
    pub(super) async fn leave(self, lane: &Lane) -> Result<(), Error> {
        match self {
            Self::Stream(_) => stream::leave(lane).await,
            Self::Topic(topic) => {
                topic.leave().await;
                Ok(())
            }
            Self::Handed(_) => Ok(()),
        }
    }
}
