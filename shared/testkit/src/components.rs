//! One local stack for the whole test process.

use std::sync::OnceLock;
use std::time::Duration;

use stack::{Components, Load, Options, Profile, Stack, WorkerBinaries, build_workers, progress};

/// Names a broker to test against instead of one's own: quicker while developing, and for the children of a test.
const BROKERS: &str = "RECWATCH_TEST_BROKERS";

static STACK: OnceLock<Stack> = OnceLock::new();

/// The test process's stack, with at least these components: each starts when it is first asked for (the first time on a
/// machine it is downloaded), and dies with the process. Outages belong into a [`Stack`] of one's own.
///
/// # Panics
/// A component does not start.
pub fn stack(components: Components) -> &'static Stack {
    let stack = STACK.get_or_init(|| start(Options::default()));
    stack.ensure(components, &progress::Lines).unwrap_or_else(|error| panic!("{error:#}"));
    stack
}

fn start(options: Options) -> Stack {
    let options = Options { components: Components::NONE, load: Load::Short, ..options };
    Stack::start(&options, &progress::Lines).unwrap_or_else(|error| panic!("{error:#}"))
}

/// The test process's stack, with Kafka.
///
/// # Panics
/// Kafka does not start.
pub fn kafka() -> &'static Stack {
    stack(Components::KAFKA)
}

/// The same, whose cluster takes its broker for dead after this time of silence.
///
/// # Panics
/// Kafka does not start, or the test process has its stack already.
pub fn kafka_with_session(broker_session: Duration) -> &'static Stack {
    let stack = start(Options { broker_session, ..Options::default() });
    assert!(STACK.set(stack).is_ok(), "the stack was started before");
    kafka()
}

/// The test process's stack, with the ClickHouse engine.
///
/// # Panics
/// The engine does not start.
pub fn clickhouse() -> &'static Stack {
    stack(Components { clickhouse: true, ..Components::NONE })
}

/// Bootstrap servers to test against: those that `RECWATCH_TEST_BROKERS` names, else the broker of [`kafka`].
///
/// # Panics
/// Kafka does not start.
pub fn brokers() -> String {
    std::env::var(BROKERS).unwrap_or_else(|_| kafka().brokers())
}

/// The worker binaries, built once for the test process in the profile that it was built in.
///
/// # Panics
/// They do not build.
pub fn workers() -> &'static WorkerBinaries {
    static WORKERS: OnceLock<WorkerBinaries> = OnceLock::new();
    WORKERS.get_or_init(|| {
        Profile::of_this_program()
            .and_then(|profile| build_workers(&profile, &progress::Lines))
            .unwrap_or_else(|error| panic!("{error:#}"))
    })
}
