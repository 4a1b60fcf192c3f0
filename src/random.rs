//! The only reader of the operating system's random number generator.
//!
//! Guarantees: every byte comes from the kernel's generator. There is no fallback: where the kernel cannot give random
//! bytes nothing secret may be made, so the request (or the start) ends there.

use std::cell::RefCell;

/// How many numbers [`name`] fetches at once.
const AHEAD: usize = 64;

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

/// A random number that names something and need not be secret: memory holds the next ones, so that not each of them costs a
/// call of the operating system.
///
/// # Panics
/// As [`bytes()`].
#[must_use]
pub fn name() -> u128 {
    thread_local! {
        static NEXT: RefCell<Vec<u128>> = const { RefCell::new(Vec::new()) };
    }
    NEXT.with_borrow_mut(|next| {
        if next.is_empty() {
            let fetched = bytes::<{ AHEAD * size_of::<u128>() }>();
            next.extend(fetched.as_chunks().0.iter().map(|number| u128::from_be_bytes(*number)));
        }
        next.pop().expect("BUG: it was just filled")
    })
}
