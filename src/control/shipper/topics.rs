//! Records on their way into Kafka: each is counted when the brokers have it, or when it is given up.
//!
//! Invariant: what waits for brokers holds its room, so that it is bounded as everything that waits.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::book::Book;
use super::chain;
use crate::broker::{Message, Producer, Refused, Report};
use crate::model::copies::Fate;
use crate::model::name::ServiceName;
use crate::model::table::Service;
use crate::shadow::{Draft, Held};
use crate::telemetry;

/// What a record leaves with us while it is on its way.
#[derive(Debug)]
pub(super) struct Ticket {
    service: Arc<Service>,
    _held: Held,
}

/// Sends records to topics.
#[derive(Debug)]
pub(super) struct Topics {
    /// Brokers to begin with.
    servers: Option<String>,
    open: Option<(Producer<Ticket>, UnboundedReceiver<Report<Ticket>>)>,
    /// Services of which was said that there is no way to Kafka.
    told: BTreeSet<ServiceName>,
    on_the_way: usize,
}

impl Topics {
    /// Nothing is opened before the first record.
    pub(super) fn new(servers: Option<String>) -> Self {
        Self {
            servers,
            open: None,
            told: BTreeSet::new(),
            on_the_way: 0,
        }
    }

    /// How many records nothing is known of yet.
    pub(super) fn on_the_way(&self) -> usize {
        self.on_the_way
    }

    /// Sends a record, or drops it and counts that.
    pub(super) fn send(&mut self, draft: Draft, book: &mut Book) {
        let service = Arc::clone(&draft.service);
        let Some(producer) = self.producer(&service.name) else {
            return book.count(&service, Fate::DroppedSink);
        };
        let (policy, version) = (Arc::clone(&draft.policy), draft.version.clone());
        let id = draft.id.clone();
        let (json, held) = book.write(draft);
        let headers = [
            ("service", service.name.as_str()),
            ("version", version.as_str()),
        ];
        let message = Message {
            topic: &policy.topic,
            key: &id,
            headers: &headers,
            value: &json,
        };
        let ticket = Ticket {
            service: Arc::clone(&service),
            _held: held,
        };
        match producer.send(message, ticket) {
            Ok(()) => self.on_the_way += 1,
            Err((why, _ticket)) => {
                // Nobody has it, so that its number is free.
                book.take_back(&service.name);
                let fate = match why {
                    Refused::Full => Fate::DroppedQueue,
                    Refused::ForGood(error) => {
                        self.complain(&service.name, &chain(&error));
                        Fate::DroppedSink
                    }
                };
                book.count(&service, fate);
            }
        }
    }

    /// The producer, made for the first record; `None` where there can be none.
    fn producer(&mut self, service: &ServiceName) -> Option<&Producer<Ticket>> {
        if self.open.is_none() {
            let Some(servers) = &self.servers else {
                self.complain(service, "to kafka, but this gateway has no --kafka");
                return None;
            };
            match Producer::start(servers) {
                Ok(open) => self.open = Some(open),
                Err(error) => self.complain(service, &chain(&error)),
            }
        }
        self.open.as_ref().map(|(producer, _)| producer)
    }

    /// Says why records of a service cannot go to Kafka; once.
    fn complain(&mut self, service: &ServiceName, why: &str) {
        if self.told.insert(service.clone()) {
            telemetry::kafka_refuses(service.as_str(), why);
        }
    }

    /// Waits until something is known of a record.
    pub(super) async fn reported(&mut self) -> Report<Ticket> {
        let report = match &mut self.open {
            Some((_, reports)) => reports.recv().await,
            None => None,
        };
        match report {
            Some(report) => report,
            None => std::future::pending().await,
        }
    }

    /// Counts what is known of this record, and of all others of which something is known by now.
    pub(super) fn note(&mut self, report: Report<Ticket>, book: &mut Book) {
        let mut next = Some(report);
        while let Some(report) = next {
            let fate = if report.delivered {
                Fate::Delivered
            } else {
                Fate::DroppedSink
            };
            book.count(&report.ticket.service, fate);
            self.on_the_way = self.on_the_way.saturating_sub(1);
            let more = self.open.as_mut();
            next = more.and_then(|(_, reports)| reports.try_recv().ok());
        }
    }

    /// Gives up what is on its way: each record is reported as not delivered.
    pub(super) fn give_up(&self) {
        if let Some((producer, _)) = &self.open {
            producer.give_up();
        }
    }
}
