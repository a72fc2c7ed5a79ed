//! A cluster of Kafka in the process of the test, on real sockets, which fails on order; or a real
//! one, where the environment names it.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{PATIENCE, eventually, secs};

/// How many partitions topics have.
pub const PARTITIONS: i32 = 4;

/// A cluster of one broker.
pub struct Kafka {
    mock: Option<MockCluster<'static, DefaultProducerContext>>,
    servers: String,
}

/// A record as a topic holds it.
#[derive(Debug)]
pub struct Held {
    pub key: String,
    pub headers: BTreeMap<String, String>,
    pub value: String,
}

impl Kafka {
    /// A cluster with this topic.
    pub fn start(topic: &str) -> Self {
        let mock = MockCluster::new(1).expect("a cluster");
        mock.create_topic(topic, PARTITIONS, 1).expect("a topic");
        let servers = mock.bootstrap_servers();
        Self {
            mock: Some(mock),
            servers,
        }
    }

    /// The cluster that `SMARTLINK_TEST_KAFKA` names; `None` where it names none.
    pub fn real() -> Option<Self> {
        let servers = std::env::var("SMARTLINK_TEST_KAFKA").ok();
        servers.filter(|it| !it.is_empty()).map(|servers| Self {
            mock: None,
            servers,
        })
    }

    /// Where it is.
    pub fn servers(&self) -> &str {
        &self.servers
    }

    fn mock(&self) -> &MockCluster<'static, DefaultProducerContext> {
        self.mock.as_ref().expect("a cluster of ours")
    }

    /// Takes no connection any more, and ends those it has.
    pub fn down(&self) {
        self.mock().broker_down(-1).expect("it goes down");
    }

    /// Takes connections again.
    pub fn up(&self) {
        self.mock().broker_up(-1).expect("it comes up");
    }

    /// Answers so much later.
    pub fn slow(&self, by: Duration) {
        let slowed = self.mock().broker_round_trip_time(-1, by);
        slowed.expect("it is slow");
    }

    /// Answers the next requests to store records with these errors.
    pub fn refuse_records(&self, errors: &[RDKafkaRespErr]) {
        self.mock().request_errors(RDKafkaApiKey::Produce, errors);
    }

    /// Puts records into a topic, as a gateway would.
    pub fn add(&self, topic: &str, records: &[String]) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.servers)
            .set("acks", "all")
            .create()
            .expect("a producer");
        for (at, record) in records.iter().enumerate() {
            let key = format!("k-{at}");
            let record = BaseRecord::to(topic).key(&key).payload(record);
            assert!(producer.send(record).is_ok(), "there is room");
        }
        producer.flush(PATIENCE).expect("all are stored");
    }

    /// All that a topic holds, partition by partition.
    pub fn held(&self, topic: &str) -> Vec<Held> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.servers)
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .create()
            .expect("a consumer");
        let known = eventually("the topic is known", || {
            let known = consumer.fetch_metadata(Some(topic), secs(5)).ok()?;
            let partitions: Vec<i32> = known
                .topics()
                .iter()
                .flat_map(rdkafka::metadata::MetadataTopic::partitions)
                .map(rdkafka::metadata::MetadataPartition::id)
                .collect();
            (!partitions.is_empty()).then_some(partitions)
        });
        let mut list = TopicPartitionList::new();
        let mut left = 0;
        for partition in known {
            let (first, end) = consumer
                .fetch_watermarks(topic, partition, secs(5))
                .expect("its ends");
            left += end - first;
            list.add_partition_offset(topic, partition, Offset::Beginning)
                .expect("an offset");
        }
        consumer.assign(&list).expect("it is assigned");
        let mut held = Vec::new();
        eventually("all is read", || {
            if let Some(message) = consumer.poll(Duration::from_millis(50)) {
                let message = message.expect("a record");
                left -= 1;
                held.push(read(&message));
            }
            (left == 0).then_some(())
        });
        held
    }
}

fn read(message: &impl Message) -> Held {
    let text =
        |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).expect("text");
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    Held {
        key: text(message.key()),
        headers: headers
            .map(|header| (header.key.to_owned(), text(header.value)))
            .collect(),
        value: text(message.payload()),
    }
}
