//! The only reader of the operating system's random number generator.
//!
//! Guarantees: every byte comes from the kernel's generator. There is no fallback: where the kernel cannot give random
//! bytes nothing secret may be made, so the request (or the start) ends there.

/// `N` random bytes from the operating system.
///
/// # Panics
/// Where the operating system has no random number generator. Going on without one would make guessable tokens.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("BUG: the operating system has no random number generator");
    bytes
}
