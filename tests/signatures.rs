//! The check of signatures, with the vectors of project Wycheproof (`tests/data/wycheproof.jsonl`; C2SP, Apache-2.0): signatures that careless
//! verifiers take, such as r = s = 0, values beyond the order of the curve, stretched ones, and padding that is not what it should be.

use std::{collections::BTreeMap, fs, path::Path};

use latchkey::{auth::tokens::key::PublicKey, model::SigningAlgorithm};
use serde_json::Value;

/// Half of the order of the curve P-256. Of the two forms of a signature, `(r, s)` and `(r, n - s)`, only the one with the lesser `s` is taken.
const HALF_ORDER: &str = "7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8";

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

#[test]
fn every_vector_of_wycheproof_is_taken_or_refused_as_it_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wycheproof.jsonl");
    let mut taken: BTreeMap<(String, bool), u32> = BTreeMap::new();
    for line in fs::read_to_string(file).unwrap().lines() {
        let group: Value = serde_json::from_str(line).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let algorithm: SigningAlgorithm = text(&group["algorithm"]).parse().unwrap();
        let key = PublicKey::new(algorithm, &bytes(&text(&group["key"]))).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let signature = text(&test["sig"]);
            let verified = key.verifies(&bytes(&text(&test["msg"])), &bytes(&signature));
            let has_greater_s =
                algorithm == SigningAlgorithm::Es256 && signature.get(64..).is_some_and(|s| s > HALF_ORDER);
            let expected = match test["result"].as_str().unwrap() {
                "valid" => !has_greater_s,
                "invalid" => false,
                _ => continue, // either is fine
            };
            assert_eq!(verified, expected, "{algorithm} {}: {}", test["id"], test["comment"]);
            *taken.entry((algorithm.to_string(), verified)).or_default() += 1;
        }
    }
    for algorithm in ["ES256", "EdDSA", "RS256"] {
        for verified in [true, false] {
            assert!(taken[&(algorithm.to_owned(), verified)] > 5, "{taken:?}");
        }
    }
}
