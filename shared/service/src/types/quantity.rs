//! Numbers with units, as people write them: `5m`, `1h30m`, `1MiB`.

/// Reads whole numbers, each directly followed by its unit, and adds them up in the smallest unit.
///
/// Stricter than the usual crates on purpose: no fractions, no bare numbers, and no unit whose letter means something
/// else in the next tool (`5M` is five months to some). `None` if the text is anything else, or too large.
pub(super) fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (_, factor) = units.iter().find(|(name, _)| *name == &rest[..letters])?;
        total = total.checked_add(number.checked_mul(*factor)?)?;
        rest = rest[letters..].trim_start();
    }
    Some(total)
}

/// Writes `value` in the largest unit that leaves no remainder. `units` go from the smallest to the largest.
pub(super) fn format(value: u64, units: &[(&str, u64)], of_zero: &str) -> String {
    if value == 0 {
        return of_zero.to_owned();
    }
    let whole = units.iter().rev().find(|(_, factor)| value.is_multiple_of(*factor));
    whole.map_or_else(|| value.to_string(), |(name, factor)| format!("{}{name}", value / factor))
}
