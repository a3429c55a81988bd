//! The bands of normalised entropy.

/// How a session moves, by its normalised entropy `h`, with what that means for the rank of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Band {
    /// `h` below 0.3.
    Focused,
    /// `h` from 0.3 to below 0.7.
    Balanced,
    /// `h` from 0.7 up.
    Scattered,
}

impl Band {
    /// All bands, by rising entropy.
    pub const ALL: [Self; 3] = [Self::Focused, Self::Balanced, Self::Scattered];

    /// The band of a normalised entropy from 0 to 1.
    #[must_use]
    pub fn of(normalised: f64) -> Self {
        if normalised < 0.3 {
            Self::Focused
        } else if normalised < 0.7 {
            Self::Balanced
        } else {
            Self::Scattered
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name in rows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Focused => "focused",
            Self::Balanced => "balanced",
            Self::Scattered => "scattered",
        }
    }

    /// The decay factor for item rank.
    #[must_use]
    pub fn decay_factor(self) -> f64 {
        match self {
            Self::Focused => 0.95,
            Self::Balanced => 0.82,
            Self::Scattered => 0.60,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_are_closed_below_and_open_above() {
        let cases = [
            (0.0, "focused", 0.95),
            (0.299_999, "focused", 0.95),
            (0.3, "balanced", 0.82),
            (0.699_999, "balanced", 0.82),
            (0.7, "scattered", 0.60),
            (1.0, "scattered", 0.60),
        ];
        for (normalised, name, factor) in cases {
            let band = Band::of(normalised);
            assert_eq!((band.name(), band.decay_factor()), (name, factor), "h = {normalised}");
        }
        assert_eq!(Band::ALL.map(Band::index), [0, 1, 2]);
    }
}
