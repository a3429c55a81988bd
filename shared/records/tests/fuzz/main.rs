//! Fuzz targets: what comes from outside is decoded without panic, within work that its bytes pay for, and alike by every way.
//!
//! `cargo test` replays the corpus (`corpus/<target>`, one input a file) and tries some random inputs; `just fuzz` goes on for as
//! long as it is asked to. An input that fails is made as small as it goes and put into the corpus, from where it is replayed.
//! A further target is a further file here that calls [`fuzz`] with its name and what is to hold for all bytes.

mod avro_data;
mod counting;
mod generated_schema;
mod input;
mod json_records;
mod keys;
mod schema_texts;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

/// The variable that says for how many seconds random inputs are tried; 0, the default: one round of them.
const SECONDS: &str = "FUZZ_SECONDS";

/// Replays a target's corpus, then tries random inputs.
///
/// # Panics
/// An input fails.
fn fuzz(name: &str, target: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let files: Vec<PathBuf> = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty(), "{} is empty", corpus.display());
    for file in files {
        println!("{}", file.display());
        target(&fs::read(file).unwrap());
    }
    let seconds = std::env::var(SECONDS).map_or(0, |seconds| seconds.parse().expect("FUZZ_SECONDS is a number"));
    let (begun, most) = (Instant::now(), Duration::from_secs(seconds));
    let byte = prop_oneof![3 => 0..17_u8, 1 => any::<u8>(), 1 => prop::sample::select(b"\"{}[]:,sx0x7f".as_slice())];
    let inputs = prop::collection::vec(byte, 0..160);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    loop {
        let result = runner.run(&inputs, |bytes| {
            let outcome = std::panic::catch_unwind(|| target(&bytes));
            outcome.map_err(|_| TestCaseError::fail("it panics"))
        });
        if let Err(TestError::Fail(reason, bytes)) = result {
            let file = corpus.join(format!(
                "found-{}-{}",
                bytes.len(),
                bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>()
            ));
            fs::write(&file, bytes).unwrap();
            panic!("{reason}: {}", file.display());
        }
        if begun.elapsed() >= most {
            return;
        }
    }
}
