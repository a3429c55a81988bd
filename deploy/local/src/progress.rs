//! What a person is told while something takes its time.

/// Receives the course of named steps, from several threads at once. Every step is reported any number of times and then
/// either done or, with the error that the caller gets, forgotten.
pub trait Progress: Send + Sync {
    /// `step` (a short stable name such as `kafka`) is now doing `message`.
    fn update(&self, step: &str, message: &str);
    /// `step` is now doing `message`, which is `done` parts of a whole of `of`.
    fn part(&self, step: &str, done: u64, of: u64, message: &str) {
        let _ = (done, of);
        self.update(step, message);
    }
    /// `step` has come to its end, with `message` as its result.
    fn done(&self, step: &str, message: &str);
    /// `text`, of one line or several, stays where it is, beside all steps.
    fn tell(&self, text: &str) {
        eprintln!("{text}");
    }
}

/// Says nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn update(&self, _step: &str, _message: &str) {}
    fn done(&self, _step: &str, _message: &str) {}
    fn tell(&self, _text: &str) {}
}

/// One plain line a report, on standard error: for pipes and logs.
#[derive(Clone, Copy, Debug)]
pub struct Lines;

impl Progress for Lines {
    fn update(&self, step: &str, message: &str) {
        eprintln!("{step}: {message}");
    }
    fn done(&self, step: &str, message: &str) {
        eprintln!("{step}: {message}");
    }
}
