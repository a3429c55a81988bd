//! What the runtime builds on, seen on a real broker with nothing but rdkafka: DESIGN, "Exactly once, and recovery".
//!
//! These tests know nothing of this crate. Where one fails after an upgrade of the broker or of librdkafka, the runtime's
//! assumptions are what has changed. Nothing waits for time to pass: every wait is for a condition, with a deadline that fails the test.

/// Makes two tests, one a protocol, of each named function.
macro_rules! with_both_protocols {
    ($($name:ident),* $(,)?) => {
        mod with_the_consumer_protocol {
            $(#[test] fn $name() { super::$name($crate::common::Protocol::Consumer) })*
        }
        mod with_the_classic_protocol {
            $(#[test] fn $name() { super::$name($crate::common::Protocol::Classic) })*
        }
    };
}

mod common;
mod expelled;
mod faults;
mod group_member;
mod headers;
mod identity;
mod producing;
mod reading;
mod rebalance;
mod restore;
mod transactions;
