//! Reads tokens from stdin, one a line, and says of each whether it is valid.
//!
//! ISSUER=https://login.example.com AUDIENCE=billing SECRET=lks_… cargo run <tokens
mod verifier;

use std::{io, thread, time::Duration};

fn main() {
    let timeout = Some(Duration::from_secs(40));
    let http: ureq::Agent = ureq::Agent::config_builder().timeout_global(timeout).build().into();
    thread::spawn(move || {
        loop {
            if verifier::follow(&http).is_err() {
                thread::sleep(Duration::from_secs(1));
            }
        }
    });
    for line in io::stdin().lines().map_while(Result::ok) {
        // Your service calls verify() for each request instead.
        match verifier::verify(line.trim()) {
            Ok(claims) => println!("ok {claims}"),
            Err(error) => println!("refused: {error}"),
        }
    }
}
