//! Numbers at fixed places of the headers on disk, all little-endian.

/// The `u64` at `at`.
///
/// # Panics
/// When `bytes` ends before it does: the places of a format lie within what was read.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
}

/// The `u32` at `at`.
///
/// # Panics
/// As [`u64_at`].
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}
