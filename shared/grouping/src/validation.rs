//! Whether a configuration's dimensions make sense.

use std::collections::BTreeSet;

use service::Problems;

use crate::Dimension;

/// Checks the keys `dimensions` and `merge_key`.
pub fn validate(dimensions: &[Dimension], merge_key: &[Dimension], problems: &mut Problems) {
    for (key, dimensions) in [("dimensions", dimensions), ("merge_key", merge_key)] {
        let different: BTreeSet<Dimension> = dimensions.iter().copied().collect();
        if different.len() < dimensions.len() {
            problems.add(key, shown(dimensions), "a list that names each dimension once");
        }
    }
    // the default must not stand in the way of somebody who groups by something else
    let default = merge_key == [Dimension::Domain];
    if !default && !merge_key.iter().all(|dimension| dimensions.contains(dimension)) {
        problems.add("merge_key", shown(merge_key), format!("some of the dimensions {}", shown(dimensions)));
    }
}

fn shown(dimensions: &[Dimension]) -> String {
    let names: Vec<String> = dimensions.iter().map(|dimension| format!("{:?}", dimension.name())).collect();
    format!("[{}]", names.join(", "))
}
