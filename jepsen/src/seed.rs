//! Seeds of the parts of a run, which follow from the run's and from their names.

/// A number for a name: FNV-1a.
pub fn of_name(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
