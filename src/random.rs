//! The only reader of the operating system's random number generator.
//!
//! Guarantees: every byte comes from the kernel's generator. There is no fallback: without it nothing secret may be created, so the request
//! or the start fails.

use std::cell::RefCell;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// How many numbers [`name`] gets from the operating system at once.
const AHEAD: usize = 64;

/// Returns `N` random bytes from the operating system.
///
/// # Panics
/// If the operating system has no random number generator. Tokens would be guessable without one.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("BUG: the operating system has no random number generator");
    bytes
}

/// Returns the operating system's random numbers in the form that aws-lc asks for.
#[must_use]
pub fn system() -> impl SecureRandom {
    SystemRandom::new()
}

/// Returns a random number for an identifier that need not be secret. The next ones are kept in memory, so that not every call is a
/// system call.
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
