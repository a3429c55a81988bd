//! Groups of the classic protocol, as the broker has them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use crate::components::brokers;

const ASK: Duration = Duration::from_secs(30);

/// The ids of a group's members; `None` while it is in a rebalance.
///
/// # Panics
/// The broker does not answer.
pub fn members(group: &str) -> Option<Vec<String>> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a client");
    let groups = client.fetch_group_list(Some(group), ASK).expect("an answer");
    let group = groups.groups().first().filter(|group| group.state() == "Stable")?;
    Some(group.members().iter().map(|member| member.id().to_owned()).collect())
}

/// Removes a member from its group, as an administrator may and as the group itself does where nothing is heard of one:
/// the request LeaveGroup, version 0, which librdkafka has no call for.
///
/// # Panics
/// The broker does not remove it.
pub fn expel(group: &str, member: &str) {
    const LEAVE_GROUP: i16 = 13;
    let text = |text: &str| [&(text.len() as i16).to_be_bytes(), text.as_bytes()].concat();
    let (version, correlation) = (0_i16, 1_i32);
    let request = [
        LEAVE_GROUP.to_be_bytes().as_slice(),
        &version.to_be_bytes(),
        &correlation.to_be_bytes(),
        &text("administrator"),
        &text(group),
        &text(member),
    ]
    .concat();
    let mut broker = TcpStream::connect(brokers()).expect("a connection");
    broker.write_all(&(request.len() as i32).to_be_bytes()).expect("a request sent");
    broker.write_all(&request).expect("a request sent");
    // its size, the correlation id, and an error code
    let mut answer = [0_u8; 10];
    broker.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer[8..], [0, 0], "the member is removed");
}
