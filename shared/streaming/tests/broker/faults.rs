//! A killed process on a real broker: who takes its partitions over, when, and what its open transaction leaves behind.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::Producer;

use crate::common::{BROKERS, DEADLINE, Protocol, at, brokers, create_topic, unique, wait_until};
use crate::group_member::{GroupMember, SHORT_SESSION};
use crate::producing::{begin, commit_cut, producer};
use crate::reading::{Isolation, read_to_end, reader};

with_both_protocols!(a_killed_process_is_replaced_within_ten_seconds_and_leaves_nothing_uncommitted);

/// `topic outputs group`, for the process that is to be killed.
const MEMBER: &str = "RECWATCH_TEST_MEMBER";
/// What that process prints once it has uncommitted work.
const READY: &str = "uncommitted work is out";

fn a_killed_process_is_replaced_within_ten_seconds_and_leaves_nothing_uncommitted(protocol: Protocol) {
    if let Ok(arguments) = std::env::var(MEMBER) {
        member_with_uncommitted_work(protocol, &arguments);
    }
    let topic = create_topic("killed", 2);
    let outputs = create_topic("outputs", 1);
    let group = unique("group");
    let mut killed = start_member(protocol, &format!("{topic} {outputs} {group}"));
    let survivor = GroupMember::join_with(protocol, &group, &topic, SHORT_SESSION, &[]);
    for _ in 0..20 {
        survivor.poll();
    }

    let (over, is_over) = channel();
    let witness = std::thread::spawn(move || standstill(&is_over));
    killed.0.kill().expect("the process is killed");
    let start = Instant::now();
    survivor.own(2);
    let owned = start.elapsed();
    assert_eq!(survivor.committed(&topic, 0).0, Some(1), "the offset before the uncommitted one");
    let answered = start.elapsed();
    let committed = reader(Isolation::ReadCommitted, &group);
    let uncommitted = reader(Isolation::ReadUncommitted, &group);
    let end = |of: &BaseConsumer| of.fetch_watermarks(&outputs, 0, DEADLINE).expect("watermarks").1;
    wait_until("the orphaned transaction is over", || end(&committed) == end(&uncommitted));
    let stable = start.elapsed();
    drop(over);
    let standstill = witness.join().expect("a witness");
    println!("{protocol:?}: partitions after {owned:?}, offsets after {answered:?}, outputs stable after {stable:?}");
    assert!(
        stable < Duration::from_secs(10) + standstill,
        "taken over after {stable:?}, of which {standstill:?} stood still"
    );
    assert_eq!(read_to_end(&committed, &outputs, 0), ["committed"]);
}

/// For how long the broker, or this whole machine, stood still until it is over: what questions to the broker took beyond
/// what is usual. That is no time of the group's.
fn standstill(is_over: &Receiver<()>) -> Duration {
    const PAUSE: Duration = Duration::from_millis(100);
    const USUAL: Duration = Duration::from_millis(300);
    let client = reader(Isolation::ReadUncommitted, &unique("witness"));
    let mut sum = Duration::ZERO;
    let mut begun = Instant::now();
    while is_over.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
        // an error is an answer too
        let _ = client.fetch_metadata(None, DEADLINE);
        sum += begun.elapsed().saturating_sub(PAUSE + USUAL);
        begun = Instant::now();
    }
    sum
}

/// Runs this very test in a process of its own, as the member, until it has uncommitted work.
fn start_member(protocol: Protocol, arguments: &str) -> KillOnDrop {
    let module = match protocol {
        Protocol::Consumer => "with_the_consumer_protocol",
        Protocol::Classic => "with_the_classic_protocol",
    };
    let test =
        format!("faults::{module}::a_killed_process_is_replaced_within_ten_seconds_and_leaves_nothing_uncommitted");
    let child = Command::new(std::env::current_exe().expect("this test's binary"))
        .args([test.as_str(), "--exact", "--nocapture"])
        .env(MEMBER, arguments)
        .env(BROKERS, brokers())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let mut child = KillOnDrop(child);
    let output = child.0.stdout.take().expect("a pipe");
    let (ready, is_ready) = channel();
    std::thread::spawn(move || {
        let found = BufReader::new(output).lines().map_while(Result::ok).any(|line| line.contains(READY));
        // without a receiver the test has failed
        let _ = ready.send(found);
    });
    assert_eq!(is_ready.recv_timeout(2 * DEADLINE), Ok(true), "the member has no uncommitted work");
    child
}

/// The process that is killed: it has committed one cut and is in the middle of the next.
fn member_with_uncommitted_work(protocol: Protocol, arguments: &str) -> ! {
    let words: Vec<&str> = arguments.split(' ').collect();
    let [topic, outputs, group] = words.as_slice() else { panic!("{MEMBER} has three words") };
    let producer = producer(&unique("killed"), Duration::from_secs(5));
    let member = GroupMember::join_with(protocol, group, topic, SHORT_SESSION, &[]);
    member.own(2);
    commit_cut(&member, &producer, outputs, &["committed"], &at(topic, 0, 1));
    begin(&producer, outputs, &["uncommitted"]);
    producer.send_offsets_to_transaction(&at(topic, 0, 2), &member.metadata(), DEADLINE).expect("offsets sent");
    println!("{READY}");
    loop {
        // Revocations are ignored: what it holds cannot be committed in time.
        member.poll();
    }
}

/// A process that does not outlive its test.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
