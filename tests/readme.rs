//! README and the pages under `docs/` agree with the program, the Dockerfile and the systemd units: names, defaults, ports and paths.

use std::{collections::HashMap, fs, path::Path};

use crate::api::harness::{LIMITS, latchkey};

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

const PAGES: [&str; 9] = [
    "docs/api.md",
    "docs/deployment.md",
    "docs/moving-users.md",
    "docs/limits.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/settings.md",
    "docs/trusting.md",
    "docs/using.md",
];

/// Returns every setting with its default, or with `-` if it has none.
fn settings() -> HashMap<String, String> {
    let mut command = latchkey();
    for own in LIMITS.iter().chain(&["LATCHKEY_SCRYPT"]) {
        command.env_remove(own);
    }
    crate::surroundings::settings(&mut command).into_iter().map(|(setting, value, _)| (setting, value)).collect()
}

fn variable(setting: &str) -> String {
    format!("LATCHKEY_{}", setting.to_uppercase().replace('-', "_"))
}

#[test]
fn the_table_of_settings_has_each_with_its_variable_and_default() {
    let page = file("docs/settings.md");
    for (setting, default) in settings() {
        let start = match setting.as_str() {
            "secret-key" => continue, // it has no flag and no default
            "hash-threads" => "| `--hash-threads` | `LATCHKEY_HASH_THREADS` | |".to_owned(), // the number of cores
            _ if default == "-" => format!("| `--{setting}` | `{}` | |", variable(&setting)),
            _ => format!("| `--{setting}` | `{}` | `{default}` |", variable(&setting)),
        };
        assert!(page.lines().any(|line| line.starts_with(&start)), "{start}");
    }
}

#[test]
fn every_variable_that_is_spoken_of_is_a_setting() {
    let known: Vec<_> = settings().keys().map(|setting| variable(setting)).collect();
    let name = regex::Regex::new("LATCHKEY_[A-Z][A-Z_]+").unwrap();
    let others = ["README.md", "CHANGELOG.md", "Dockerfile", "systemd/latchkey.service", "systemd/latchkey.socket"];
    for text in others.into_iter().chain(PAGES) {
        for found in name.find_iter(&file(text)).map(|found| found.as_str()).filter(|name| *name != "LATCHKEY_VARIABLE")
        {
            assert!(known.iter().any(|known| known == found), "{text}: {found}");
        }
    }
}

/// Returns the word that follows `start` in `text`.
fn after<'a>(text: &'a str, start: &str) -> &'a str {
    let rest = text.split_once(start).unwrap_or_else(|| panic!("{start}")).1;
    rest.split([' ', '\n', '"']).next().unwrap()
}

#[test]
fn the_commands_for_docker_and_systemd_fit_the_files() {
    let (page, dockerfile, unit) = (file("docs/deployment.md"), file("Dockerfile"), file("systemd/latchkey.service"));
    let port = after(&dockerfile, "\nEXPOSE ");
    let volume = after(&dockerfile, "\nVOLUME ");
    let (uid, gid) = after(&dockerfile, "\nUSER ").split_once(':').unwrap();
    let program = after(&dockerfile, "\nENTRYPOINT [\"");
    let binary = after(&unit, "\nExecStart=");
    let state = after(&unit, "\nStateDirectory=");
    let in_dockerfile = [
        format!("LATCHKEY_DATA_DIR={volume}"),
        format!("LATCHKEY_LISTEN=0.0.0.0:{port} "),
        format!("\nHEALTHCHECK CMD [\"{program}\", \"health\"]"),
    ];
    let in_unit = [format!("Environment=LATCHKEY_DATA_DIR=%S/{state}"), format!("ExecPaths={binary} ")];
    let in_page = [
        format!("-p 127.0.0.1:{port}:{port} -v latchkey:{volume} latchkey\n"),
        format!("docker exec -it latchkey {program} user add"),
        format!("ports: [\"127.0.0.1:{port}:{port}\"]\n    volumes: [\"data:{volume}\"]\n"),
        format!("the data in the\nvolume `{volume}`"),
        format!("runs as {}", after(&dockerfile, "\nUSER ")),
        format!("release/latchkey\" {}/\n", binary.trim_end_matches("/latchkey")),
        format!("user add boss@example.com --admin --data-dir /var/lib/{state}\n"),
        format!("restore /backups/latchkey.redb --data-dir /var/lib/{state}\n"),
        format!("docker exec latchkey {program} backup - >"),
        format!("install -o {uid} -g {gid} -m 0400 latchkey.redb restore.redb\n"),
        format!("-v latchkey:{volume} -v \"$PWD/restore.redb:/restore.redb:ro\" latchkey restore /restore.redb\n"),
        format!("Settings go to `{}`", after(&unit, "\nEnvironmentFile=-")),
    ];
    for (text, parts) in [(dockerfile.as_str(), &in_dockerfile[..]), (&unit, &in_unit), (&page, &in_page)] {
        for part in parts {
            assert!(text.contains(part), "{part}");
        }
    }
}

#[test]
fn wherever_it_is_installed_the_allocator_gives_memory_back() {
    let line = "MALLOC_ARENA_MAX=2\n";
    assert!(file("Dockerfile").contains(&format!("\n    {line}")), "{line}");
    assert!(file("systemd/latchkey.service").contains(&format!("\nEnvironment={line}")), "{line}");
}

#[test]
fn readme_is_read_in_ten_minutes_and_leads_to_every_page() {
    let readme = file("README.md");
    assert!(readme.lines().count() <= 200, "{} lines", readme.lines().count());
    for page in PAGES {
        assert!(readme.contains(&format!("[{page}]({page})")), "{page}");
    }
    let pages = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).unwrap().count();
    assert_eq!(pages, PAGES.len());
}

/// Returns the anchor of a heading: lowercase, without punctuation, with hyphens for spaces.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_exist() {
    let link = regex::Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    for name in ["README.md", "SECURITY.md", "CHANGELOG.md"].into_iter().chain(PAGES) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        for found in link.captures_iter(&file(name)).map(|found| found[1].to_owned()) {
            if found.contains("://") || found.starts_with("mailto:") {
                continue;
            }
            let (target, heading) = found.split_once('#').unwrap_or((&found, ""));
            let target = if target.is_empty() { path.clone() } else { path.with_file_name(target) };
            assert!(target.exists(), "{name}: {found}");
            if !heading.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let headings =
                    text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#'));
                assert!(headings.map(str::trim).any(|line| anchor(line) == heading), "{name}: {found}");
            }
        }
    }
}
