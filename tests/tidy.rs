//! Rules for the source code, as tests that read the source.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const LINES_MAX: usize = 400;

/// All floors, from the top down. A floor may use floors below it, never above it.
const ROOMS: [&str; 16] = [
    "main",
    "cli",
    "server",
    "supervisor",
    "purge",
    "key_rotation",
    "scheduled_backups",
    "config",
    "http",
    "auth",
    "store",
    "metrics",
    "model",
    "clock",
    "thread_priority",
    "unicode",
];

/// Which floor, or which file, may use which crate.
const CRATES: [(&str, &[&str]); 29] = [
    ("anyhow", &["cli/", "server.rs", "scheduled_backups.rs"]),
    (
        "aws_lc_rs",
        &[
            "auth/tokens/",
            "auth/known_devices.rs",
            "auth/passwords/stored_hash/hash_function.rs",
            "http/connection/tls.rs",
            "http/connection/tls_client.rs",
            "random.rs",
        ],
    ),
    // Hashes of other systems are parsed and verified in one folder.
    ("argon2", &["auth/passwords/stored_hash/"]),
    ("bcrypt", &["auth/passwords/stored_hash/hash_function.rs"]),
    ("bincode", &["store/redb/record.rs"]),
    ("clap", &["cli/", "config/"]),
    ("csv", &["auth/transfer/sources/table.rs"]),
    ("getrandom", &["random.rs"]),
    ("humantime", &["config/"]),
    ("hyper", &["http/connection/acceptor.rs", "http/operator/mod.rs", "cli/socket.rs", "cli/health.rs"]),
    ("hyper_util", &["http/connection/acceptor.rs", "http/operator/mod.rs", "cli/socket.rs", "cli/health.rs"]),
    ("icu_normalizer", &["unicode.rs"]),
    ("idna", &["model/email.rs"]),
    ("include_dir", &["http/pages/mod.rs"]),
    ("ipnet", &["http/connection/trusted_proxy.rs"]),
    ("jsonwebtoken", &["auth/tokens/"]),
    ("listenfd", &["supervisor.rs"]),
    ("poem", &["http/"]),
    ("poem_openapi", &["http/"]),
    ("redb", &["store/redb/"]),
    ("rpassword", &["cli/"]),
    ("pbkdf2", &["auth/passwords/stored_hash/hash_function.rs"]),
    ("rustix", &["http/connection/limits.rs", "store/unnamed_file.rs", "thread_priority.rs"]),
    ("scrypt", &["auth/passwords/scrypt_cost.rs", "auth/passwords/stored_hash/modular_crypt.rs"]),
    ("md5", &["auth/passwords/stored_hash/hash_function.rs"]),
    ("sha1", &["auth/passwords/stored_hash/hash_function.rs"]),
    ("sha_crypt", &["auth/passwords/stored_hash/hash_function.rs"]),
    ("sd_notify", &["supervisor.rs"]),
    ("tokio_rustls", &["http/connection/tls.rs", "http/connection/tls_client.rs", "http/connection/acceptor.rs"]),
];

fn files_below(dir: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

/// Returns the text of every Rust file below `dir`, by its path below `dir`.
pub fn sources_below(dir: &str) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let named = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    files_below(dir, "rs").into_iter().map(named).collect()
}

/// Returns the text of every Rust file below `src/`, by its path below `src/`.
fn sources() -> BTreeMap<String, String> {
    sources_below("src")
}

/// Returns the code without comments. Comments after code remain, which is good enough for formatted source.
pub fn code(text: &str) -> String {
    let lines = text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

pub fn is_word(text: &str, at: usize, length: usize) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let before = text[..at].chars().next_back().is_some_and(part_of_name);
    let after = text[at + length..].chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_');
    !before && !after
}

/// Returns whether the code has a path that begins with `name::` or `::name::`.
fn names(code: &str, name: &str) -> bool {
    let path = format!("{name}::");
    code.match_indices(&path).any(|(at, _)| {
        let absolute = code[..at].strip_suffix("::").filter(|before| !before.ends_with(|c: char| c.is_alphanumeric()));
        is_word(code, at, name.len()) || absolute.is_some()
    })
}

/// Returns the floors that the code names after `crate::`.
fn rooms_named(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let group = rest.strip_prefix('{').and_then(|rest| rest.split_once("};"));
        // The first words of a group's members are at its first level of braces.
        let mut depth = 0;
        let mut word = String::new();
        for c in group.map_or(rest, |(group, _)| group).chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => word.clear(),
                ':' | ';' if depth == 0 && !word.is_empty() => {
                    found.insert(std::mem::take(&mut word));
                    depth += i32::from(group.is_none()) * 1000;
                }
                c if depth == 0 && (c.is_alphanumeric() || c == '_') => word.push(c),
                _ => {}
            }
            if group.is_none() && depth >= 1000 {
                break;
            }
        }
    }
    found.retain(|room| ROOMS.contains(&room.as_str()) || room == "random");
    found
}

#[test]
fn a_room_uses_rooms_further_down_and_never_further_up() {
    for (file, text) in sources() {
        let room = file.split(['/', '.']).next().unwrap();
        if room == "lib" {
            continue;
        }
        let place = |room: &str| ROOMS.iter().position(|known| *known == room).unwrap_or(ROOMS.len());
        for named in rooms_named(&code(&text)) {
            assert!(place(&named) >= place(room), "src/{file} reaches up to {named}");
        }
    }
}

#[test]
fn each_crate_is_known_to_its_room_alone() {
    for (file, text) in sources() {
        let code = code(&text);
        for (name, rooms) in CRATES {
            let at_home = rooms.iter().any(|room| file.starts_with(room));
            assert!(at_home || !names(&code, name), "src/{file} names {name}, which only {rooms:?} may");
        }
        if file.starts_with("model/") {
            assert!(!names(&code, "serde") && !code.contains("Serialize"), "src/{file}: a noun has no wire format");
        }
    }
}

#[test]
fn no_file_is_longer_than_one_can_read() {
    for path in ["src", "tests", "benches"].iter().flat_map(|dir| files_below(dir, "rs")) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines", path.display());
    }
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    for path in ["src", "tests", "benches"].iter().flat_map(|dir| files_below(dir, "rs")) {
        assert!(fs::read_to_string(&path).unwrap().starts_with("//! "), "{}", path.display());
    }
}

#[test]
fn no_room_is_named_for_what_it_is_not() {
    for (file, _) in sources() {
        for name in ["util", "utils", "common", "services", "dto", "helpers", "misc"] {
            assert!(file.split(['/', '.']).all(|part| part != name), "src/{file}");
        }
    }
}

#[test]
fn nothing_is_left_for_later() {
    // The marks are written in two halves, so that the test does not find them in this file.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("#[", "ignore]")];
    for path in ["src", "tests", "benches"].iter().flat_map(|dir| files_below(dir, "rs")) {
        let text = fs::read_to_string(&path).unwrap();
        for mark in marks {
            assert!(!text.contains(mark), "{}: {mark}", path.display());
        }
        // The reason of a test that only `tests/run --long` runs must begin with `long`.
        for (_, reason) in
            text.match_indices(concat!("#[", "ignore =")).map(|(at, found)| text.split_at(at + found.len()))
        {
            assert!(reason.starts_with(" \"long: "), "{}: ignored", path.display());
        }
    }
}

#[test]
fn a_panic_on_purpose_names_the_invariant_that_excludes_it() {
    for (file, text) in sources() {
        let code = code(&text);
        assert!(!code.contains(".unwrap()"), "src/{file}");
        for macro_name in ["unreachable!(", "panic!(", ".expect("] {
            for (at, _) in code.match_indices(macro_name) {
                let argument = code[at + macro_name.len()..].trim_start();
                assert!(argument.starts_with("\"BUG: ") || argument.starts_with("EXPECT"), "src/{file}: {macro_name}");
            }
        }
    }
}

#[test]
fn every_invariant_is_numbered_in_the_floor_plan_and_cited_where_it_is_kept() {
    let mut sources = sources();
    let plan = sources.remove("lib.rs").unwrap();
    let (_, list) = plan.split_once("# Invariants").unwrap();
    let numbered: BTreeSet<String> = list
        .lines()
        .filter_map(|line| line.strip_prefix("//! ")?.split_once(". "))
        .filter(|(number, _)| number.parse::<u8>().is_ok())
        .map(|(number, _)| format!("I{number}"))
        .collect();
    let mut cited = BTreeSet::new();
    for text in sources.values() {
        for (at, _) in text.match_indices('I') {
            let digits: String = text[at + 1..].chars().take_while(char::is_ascii_digit).collect();
            if !digits.is_empty() && is_word(text, at, 1 + digits.len()) {
                cited.insert(format!("I{digits}"));
            }
        }
    }
    assert!(numbered.len() >= 8);
    assert_eq!(numbered, cited);
}

#[test]
fn the_page_on_performance_quotes_the_table_of_the_last_benchmark() {
    let text = |file| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let results = text("benches/RESULTS.md");
    let rows: Vec<&str> = results.lines().filter(|line| line.starts_with("| ")).collect();
    assert!(rows.len() > 12);
    assert!(text("docs/performance.md").contains(&rows.join("\n")), "benches/load --docs copies it");
}

/// Such a description would end the script element of Swagger UI into which the document is written.
#[test]
fn no_text_of_the_api_ends_a_script_element() {
    for (file, text) in sources() {
        assert!(!text.contains(concat!("</", "script>")), "src/{file}");
    }
}

#[test]
fn time_and_randomness_are_asked_for_in_one_place() {
    for (file, text) in sources() {
        let code = code(&text);
        for call in ["now_utc()", "SystemTime", "now_local()"] {
            assert!(file == "clock.rs" || !code.contains(call), "src/{file}: {call}");
        }
        for call in ["getrandom", "thread_rng", "rand::", "new_v4()", "now_v7()"] {
            assert!(file == "random.rs" || !code.contains(call), "src/{file}: {call}");
        }
    }
}

/// The folders of `src/http/` show the path of a request.
#[test]
fn http_has_no_file_beside_its_map_and_shared_folders_do_not_know_the_operations() {
    for (file, text) in sources() {
        let Some(below) = file.strip_prefix("http/") else { continue };
        let Some((folder, _)) = below.split_once('/') else {
            assert_eq!(below, "mod.rs", "src/{file} belongs into a folder");
            continue;
        };
        if ["connection", "middleware"].contains(&folder) {
            let code = code(&text);
            for operations in ["api", "pages", "operator"] {
                let named = names(&code, operations) || code.contains(&format!("http::{operations}::"));
                assert!(!named, "src/{file} names {operations}");
            }
            let names_middleware = code.contains("http::middleware") || names(&code, "middleware");
            assert!(folder != "connection" || !names_middleware, "src/{file} names middleware");
        }
    }
}
