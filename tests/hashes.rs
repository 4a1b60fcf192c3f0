//! Hashes of other programs. Each is verified in its own format, and no hash is computed whose cost is too high.
//!
//! The hashes here come from Python's bcrypt 4.0.1, argon2-cffi and Werkzeug; those in tests/data/hashes.jsonl from the program that each
//! line names.

use std::{collections::BTreeSet, fs, path::Path, thread};

use latchkey::{
    auth::passwords::{policy::Password, scrypt_cost::ScryptCost, stored_hash::StoredHash},
    model::PasswordHash,
};

use serde_json::Value;

use crate::api::harness::PASSWORD;

pub(crate) const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuuqREtd3VJD2QVZbuFskFSLk6eRIrQoOS";

fn read(text: &str) -> Result<StoredHash, String> {
    StoredHash::read(&PasswordHash::new(text.to_owned())).map_err(|unusable| unusable.to_string())
}

fn matches(text: &str, password: &str) -> bool {
    read(text).unwrap().matches(&Password::new(password.to_owned().into()))
}

#[test]
fn a_hash_of_each_kind_matches_its_password_alone_and_gives_way_to_ours() {
    let weakest: ScryptCost = "ln=1,r=1,p=1".parse().unwrap();
    for hash in [
        BCRYPT,
        "$2b$12$abcdefghijklmnopqrstuuE3j5FFjC71WyDL2KIK7ShSoj8tPD3m6",
        "$argon2d$v=19$m=256,t=2,p=2$c2FsdHNhbHRzYWx0$8fKFm0mb2p4INMPUW6HPb4mHGHJBxWEf9mcE6XyLxvo",
        "$argon2i$v=19$m=256,t=2,p=2$c2FsdHNhbHRzYWx0$BIUjaNxCg5p8Qc+LG1UT0fL0RZG1l/HhKw81vbSlqxg",
        "$argon2id$v=19$m=256,t=2,p=2$c2FsdHNhbHRzYWx0$iyvOuAN5FSMxR/tZTq71Eyr+3EuaqMC6KR1HIOxGykQ",
        "$argon2i$v=16$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$Hrp9atFqV1rSYEU3dTymKEcCcOz64yAA",
        "scrypt:32768:8:1$sxRklPg2kHfNb9NA$10b1a588c7ddb335eea69d84b7db117c27113c84f115ab39a4f45c33d80dc0ecf5c8258803a0674013d652ccfef00e4cfda12872cbc04c1cdcfcb835564d5871",
        "pbkdf2:sha256:1000$1KCQbBMhw3jiHm2s$3b90792273a3727832bc39c193be1bb343fd15b8dd621818a7fb7d56ec2804a3",
        "pbkdf2:sha512:1000$7XjgZ0RFiKe5O3cv$5d43b4e892e2f9c7d11c2572358776e99e064c11c08de94d1fc8d7e66500333ae29efc4f0a977916f53e3a7938d8fb1871f0930339b1f32e01f9fe9c75be354b",
    ] {
        assert!(matches(hash, PASSWORD), "{hash}");
        assert!(!matches(hash, "correct horse batterx"), "{hash}");
        assert!(!matches(hash, ""), "{hash}");
        assert!(read(hash).unwrap().is_weaker_than(weakest), "{hash}");
    }
}

fn vectors() -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hashes.jsonl");
    fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_hash_of_each_system_matches_its_password_alone() {
    let vectors: Vec<Value> = vectors().into_iter().filter(|vector| vector["system"] != "refused").collect();
    let texts = |vector: &Value| {
        let text = |name: &str| vector[name].as_str().unwrap().to_owned();
        (text("hash"), text("password"))
    };
    let check = |part: &[Value]| {
        for vector in part {
            let (hash, password) = texts(vector);
            let stored = read(&hash).unwrap_or_else(|why| panic!("{vector}: {why}"));
            let of = |text: &str| Password::new(text.to_owned().into());
            assert!(stored.matches(&of(&password)), "{vector}");
            assert!(!stored.matches(&of(&format!("x{password}"))), "{vector}");
            assert!(!stored.matches(&of("")), "{vector}");
        }
    };
    thread::scope(|scope| {
        for part in vectors.chunks(vectors.len().div_ceil(4)) {
            scope.spawn(move || check(part));
        }
    });
    let formats: BTreeSet<&str> = vectors.iter().map(|vector| read(&texts(vector).0).unwrap().format()).collect();
    for format in FORMATS {
        assert!(formats.contains(format), "no hash of {format} among {formats:?}");
    }
}

/// The formats that must have a vector.
const FORMATS: [&str; 33] = [
    "scrypt",
    "argon2i",
    "argon2id",
    "bcrypt",
    "bcrypt-sha256",
    "pbkdf2-sha1",
    "pbkdf2-sha256",
    "pbkdf2-sha512",
    "sha256-crypt",
    "sha512-crypt",
    "phpass",
    "Drupal 7",
    "Drupal 7 of MD5",
    "WordPress bcrypt",
    "Firebase scrypt",
    "Django argon2",
    "Django bcrypt",
    "Django bcrypt_sha256",
    "Django pbkdf2_sha1",
    "Django pbkdf2_sha256",
    "Django scrypt",
    "Werkzeug pbkdf2:sha1",
    "Werkzeug pbkdf2:sha256",
    "Werkzeug scrypt",
    "Werkzeug sha256",
    "ASP.NET Identity 2",
    "ASP.NET Identity 3",
    "SSHA",
    "SSHA256",
    "SSHA512",
    "LDAP PBKDF2-SHA256",
    "Dovecot PBKDF2",
    "389 Directory Server",
];

#[test]
fn a_format_that_is_known_and_not_taken_is_named_with_what_to_do() {
    let mut refused = 0;
    for vector in vectors().iter().filter(|vector| vector["system"] == "refused") {
        let why = read(vector["hash"].as_str().unwrap()).err().unwrap_or_else(|| panic!("{vector} was taken"));
        let says_what_to_do = ["latchkey user add", "set a new password", "without a password", "it is empty"];
        assert!(says_what_to_do.iter().any(|what| why.contains(what)), "{vector}: {why}");
        refused += 1;
    }
    assert!(refused > 20);
}

#[test]
fn a_hash_of_ours_in_the_scheme_of_another_gives_way_to_ours() {
    let weakest: ScryptCost = "ln=1,r=1,p=1".parse().unwrap();
    let ours = "$scrypt$ln=4,r=8,p=1$c2FsdHNhbHRzYWx0$iyvOuAN5FSMxR/tZTq71Eyr+3EuaqMC6KR1HIOxGykQ";
    assert!(!read(ours).unwrap().is_weaker_than(weakest));
    assert!(read(&format!("{{CRYPT}}{ours}")).unwrap().is_weaker_than(weakest));
}

#[test]
fn a_long_password_neither_takes_long_nor_matches() {
    let long = "p".repeat(60_000);
    for hash in [
        "$6$rounds=1000000$saltsalt$0000000000000000000000000000000000000000000000000000000000000000000000000000000000000.",
        "$P$E000000000000000000000000000000",
        "$S$H000000000000000000000000000000000000000000000000000",
    ] {
        assert!(!matches(hash, &long), "{hash}");
    }
}

#[test]
fn bcrypt_takes_72_bytes_and_a_zero_byte_like_any_other_as_pythons_does() {
    let of_80 = "$2b$04$abcdefghijklmnopqrstuuNt.0ah97gHY3F7JC1Z6EXmQc0bQBhIO";
    assert!(matches(of_80, &"p".repeat(80)) && matches(of_80, &"p".repeat(72)));
    assert!(!matches(of_80, &"p".repeat(71)));
    let with_zero = "$2b$04$abcdefghijklmnopqrstuuU8Rgm0REdvZ0WHY/1al21xqZXmq41/C";
    assert!(matches(with_zero, "abc\0def") && !matches(with_zero, "abc"));
    for prefix in ["$2a", "$2b", "$2y"] {
        let hash = format!("{prefix}$04$abcdefghijklmnopqrstuu9suszgp5xirRHQg7Vs8Kh33tRXUVQci");
        assert!(matches(&hash, "pässwörd🔑"));
    }
}

#[test]
fn a_hash_that_is_malformed_or_asks_for_too_much_is_refused_before_it_runs() {
    let salt_and_output = "c2FsdHNhbHRzYWx0$iyvOuAN5FSMxR/tZTq71Eyr+3EuaqMC6KR1HIOxGykQ";
    let phc = |start: &str| format!("{start}${salt_and_output}");
    let hex = "00".repeat(32);
    for (hash, why) in [
        (phc("$scrypt$ln=19,r=8,p=1"), "scrypt parameters"),
        (phc("$scrypt$ln=15,r=9,p=1"), "scrypt parameters"),
        (phc("$scrypt$ln=15,r=8,p=11"), "scrypt parameters"),
        (phc("$scrypt$ln=15,r=8"), "scrypt parameters"),
        (phc("$argon2id$v=19$m=262145,t=1,p=1"), "argon2 parameters"),
        (phc("$argon2id$v=19$m=1024,t=11,p=1"), "argon2 parameters"),
        (phc("$argon2id$v=19$m=1024,t=1,p=17"), "argon2 parameters"),
        (phc("$argon2id$v=19$m=4294967295,t=1,p=1"), "argon2 parameters"),
        (phc("$argon2id$v=19$m=1,t=1,p=1"), "argon2 parameters"),
        (phc("$argon2id$v=19$m=64,t=1,p=1,keyid=AAAA"), "argon2 parameters"),
        (phc("$argon2id$v=20$m=64,t=1,p=1"), "argon2 version"),
        (phc("$argon2x$v=19$m=64,t=1,p=1"), "not known"),
        ("$scrypt$ln=15,r=8,p=3$c2FsdHNhbHRzYWx0".into(), "no salt or no hash"),
        ("$scrypt$ln=15,r=8,p=3$c2FsdHNhbHRzYWx0$AAAA".into(), "short"),
        (BCRYPT.replace("$04$", "$15$"), "bcrypt cost"),
        (BCRYPT.replace("$04$", "$03$"), "bcrypt cost"),
        (BCRYPT.replace("$04$", "$+4$"), "malformed bcrypt"),
        (BCRYPT.replace("$2b", "$2x"), "known error"),
        (BCRYPT[..59].into(), "malformed bcrypt"),
        (BCRYPT.replace('q', "ä").replacen('u', "", 2), "malformed bcrypt"),
        (format!("scrypt:524288:8:1$salt${hex}"), "scrypt parameters"),
        (format!("scrypt:1000:8:1$salt${hex}"), "scrypt parameters"),
        (format!("pbkdf2:sha256:2000001$salt${hex}"), "pbkdf2 iterations"),
        (format!("pbkdf2:sha256:0$salt${hex}"), "pbkdf2 iterations"),
        (format!("pbkdf2:md5:1000$salt${hex}"), "not a hash of"),
        ("pbkdf2:sha256:1000$salt$".into(), "output is too short"),
        ("pbkdf2:sha256:1000$salt$zz".into(), "not hexadecimal"),
        (format!("sha256$salt${}", &hex[2..]), "wrong length"),
        (format!("pbkdf2:sha256:1000${}${hex}", "s".repeat(600)), "longer than"),
        ("d41d8cd98f00b204e9800998ecf8427e".into(), "MD5"),
        (String::new(), "it is empty"),
        ("$".into(), ""),
        ("$2".into(), ""),
    ] {
        let said = read(&hash).err().unwrap_or_else(|| panic!("{hash} was taken"));
        assert!(said.contains(why), "{hash}: {said}");
    }
}

#[test]
fn a_hash_that_is_exactly_at_a_bound_is_taken_and_one_beyond_it_is_not() {
    let argon2 =
        |params: &str| format!("$argon2id$v=19${params}$c2FsdHNhbHRzYWx0$iyvOuAN5FSMxR/tZTq71Eyr+3EuaqMC6KR1HIOxGykQ");
    let scrypt =
        |params: &str| format!("$scrypt${params}$c2FsdHNhbHRzYWx0$iyvOuAN5FSMxR/tZTq71Eyr+3EuaqMC6KR1HIOxGykQ");
    let bcrypt = |cost: &str| BCRYPT.replace("$04$", cost);
    let output = |bytes: usize| format!("pbkdf2:sha256:1000$salt${}", "0f".repeat(bytes));
    let text = |bytes: usize| {
        let rest = output(64);
        format!("{}{}", "pbkdf2:sha256:1000$", "s".repeat(bytes - rest.len() + 4))
            + &rest["pbkdf2:sha256:1000$salt".len()..]
    };
    assert_eq!(text(512).len(), 512);
    for (taken, refused) in [
        (scrypt("ln=18,r=8,p=10"), scrypt("ln=18,r=8,p=11")),
        (scrypt("ln=1,r=1,p=1"), scrypt("ln=0,r=1,p=1")),
        (scrypt("ln=1,r=1,p=1"), scrypt("ln=1,r=0,p=1")),
        (scrypt("ln=1,r=1,p=1"), scrypt("ln=1,r=1,p=0")),
        (argon2("m=262144,t=1,p=1"), argon2("m=262145,t=1,p=1")),
        (argon2("m=1024,t=10,p=1"), argon2("m=1024,t=11,p=1")),
        (argon2("m=1024,t=1,p=16"), argon2("m=1024,t=1,p=17")),
        (argon2("m=8,t=1,p=1"), argon2("m=7,t=1,p=1")),
        (bcrypt("$04$"), bcrypt("$03$")),
        (bcrypt("$14$"), bcrypt("$15$")),
        (output(10), output(9)),
        (output(64), output(65)),
        (text(512), text(513)),
    ] {
        assert!(read(&taken).is_ok(), "{taken}");
        assert!(read(&refused).is_err(), "{refused}");
    }
    let rounds = |rounds| format!("pbkdf2:sha512:{rounds}$salt${}", "00".repeat(32));
    assert!(read(&rounds("2000000")).is_ok() && read(&rounds("1")).is_ok());
}
