//! Places where a test lets a process crash: phases that a kill from outside hardly ever meets.
//!
//! Only with the feature `failpoints`; without it nothing is left of them. Then the variable `FAILPOINTS` says where, as
//! the crate `fail` has it: `streaming::produced=3*off->return` crashes at the fourth pass.

/// Ends the process at once, as a crash does, where `FAILPOINTS` asks for it at this place.
#[inline]
pub fn crash_point(_name: &'static str) {
    #[cfg(feature = "failpoints")]
    let _: Option<()> = fail::eval(_name, |_| std::process::abort());
}

/// Reads `FAILPOINTS`; what it says holds while the result is kept.
#[must_use]
pub(crate) fn arm() -> Armed {
    Armed {
        #[cfg(feature = "failpoints")]
        _scenario: fail::FailScenario::setup(),
    }
}

/// See [`arm`].
pub(crate) struct Armed {
    #[cfg(feature = "failpoints")]
    _scenario: fail::FailScenario<'static>,
}
