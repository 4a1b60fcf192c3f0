//! README says what the program, the Dockerfile and the units say: their names, defaults, ports and paths.

use std::{collections::HashMap, fs, path::Path};

use crate::api::harness::{LIMITS, latchkey};

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Every setting and its default, `-` where it has none.
fn settings() -> HashMap<String, String> {
    let mut command = latchkey();
    for own in LIMITS.iter().chain(&["LATCHKEY_SCRYPT"]) {
        command.env_remove(own);
    }
    let output = command.args(["config", "--json"]).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let setting = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        (row["setting"].as_str().unwrap().to_owned(), row["value"].as_str().unwrap().to_owned())
    };
    lines.lines().map(setting).collect()
}

fn variable(setting: &str) -> String {
    format!("LATCHKEY_{}", setting.to_uppercase().replace('-', "_"))
}

#[test]
fn the_table_of_settings_has_each_with_its_variable_and_default() {
    let readme = file("README.md");
    for (setting, default) in settings() {
        let start = match setting.as_str() {
            "secret-key" => continue,                                    // it has no flag and no default
            "log" => "| `--log` | `LATCHKEY_LOG` | `info` |".to_owned(), // for the server; a command logs less
            _ if default == "-" => format!("| `--{setting}` | `{}` | |", variable(&setting)),
            _ => format!("| `--{setting}` | `{}` | `{default}` |", variable(&setting)),
        };
        assert!(readme.lines().any(|line| line.starts_with(&start)), "{start}");
    }
}

#[test]
fn every_variable_that_is_spoken_of_is_a_setting() {
    let known: Vec<_> = settings().keys().map(|setting| variable(setting)).collect();
    let name = regex::Regex::new("LATCHKEY_[A-Z][A-Z_]+").unwrap();
    for text in ["README.md", "CHANGELOG.md", "Dockerfile", "systemd/latchkey.service", "systemd/latchkey.socket"] {
        for found in name.find_iter(&file(text)).map(|found| found.as_str()).filter(|name| *name != "LATCHKEY_VARIABLE")
        {
            assert!(known.iter().any(|known| known == found), "{text}: {found}");
        }
    }
}

/// What `text` has behind `start`, to the end of the word.
fn after<'a>(text: &'a str, start: &str) -> &'a str {
    let rest = text.split_once(start).unwrap_or_else(|| panic!("{start}")).1;
    rest.split([' ', '\n', '"']).next().unwrap()
}

#[test]
fn the_commands_for_docker_and_systemd_fit_the_files() {
    let (readme, dockerfile, unit) = (file("README.md"), file("Dockerfile"), file("systemd/latchkey.service"));
    let port = after(&dockerfile, "\nEXPOSE ");
    let volume = after(&dockerfile, "\nVOLUME ");
    let program = after(&dockerfile, "\nENTRYPOINT [\"");
    let binary = after(&unit, "\nExecStart=");
    let state = after(&unit, "\nStateDirectory=");
    let in_dockerfile = [
        format!("LATCHKEY_DATA_DIR={volume}"),
        format!("LATCHKEY_LISTEN=0.0.0.0:{port} "),
        format!("\nHEALTHCHECK CMD [\"{program}\", \"health\"]"),
    ];
    let in_unit = [format!("Environment=LATCHKEY_DATA_DIR=%S/{state}"), format!("ExecPaths={binary} ")];
    let in_readme = [
        format!("-p 127.0.0.1:{port}:{port} -v latchkey:{volume} latchkey\n"),
        format!("docker exec -it latchkey {program} user add"),
        format!("ports: [\"127.0.0.1:{port}:{port}\"]\n    volumes: [\"data:{volume}\"]\n"),
        format!("the data in the\nvolume `{volume}`"),
        format!("runs as {}", after(&dockerfile, "\nUSER ")),
        format!("release/latchkey\" {}/\n", binary.trim_end_matches("/latchkey")),
        format!("user add boss@example.com --admin --data-dir /var/lib/{state}\n"),
        format!("Settings go to `{}`", after(&unit, "\nEnvironmentFile=-")),
    ];
    for (text, parts) in [(dockerfile.as_str(), &in_dockerfile[..]), (&unit, &in_unit), (&readme, &in_readme)] {
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
