//! What the program meets where people run it: data of another owner, variables and files as other tools write them,
//! addresses as people write them, and other servers on the same machine.

use std::{
    fs::{self, Permissions},
    net::{SocketAddr, TcpListener},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    api::harness::{ADMIN, PASSWORD, TestServer, add_user, latchkey},
    backup::done,
    cli::{finish, refused, run, text},
    hashes::BCRYPT,
};

/// The user and group nobody of Debian. Any but root would do.
const NOBODY: u32 = 65534;

/// Whether this process is root. Others cannot give files away, so that nothing is proven without it.
fn is_root() -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        println!("not proven, because this is not root");
    }
    root
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_root_makes_in_a_data_directory_belongs_to_its_owner() {
    if !is_root() {
        return;
    }
    let made_by = |make: &dyn Fn(&Path)| {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        make(&data);
        for entry in fs::read_dir(&data).unwrap() {
            let (path, found) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            assert_eq!((found.uid(), found.gid()), (NOBODY, NOBODY), "{}", path.display());
            assert_eq!(found.mode() & 0o777, 0o600, "{}", path.display());
        }
        dir
    };
    let with_user = made_by(&|data| add_user(data, "jo@example.com", false));
    let copy = with_user.path().join("copy");
    done(&run(&["backup", copy.to_str().unwrap()], &with_user.path().join("data"), ""));
    let restore = |data: &Path| done(&run(&["restore", copy.to_str().unwrap(), "--init"], data, ""));
    made_by(&restore);
    made_by(&|data| {
        add_user(data, "jo@example.com", false);
        restore(data);
    });
    let line = json!({"email": "jo@example.com", "password_hash": BCRYPT}).to_string();
    made_by(&|data| done(&run(&["import", "--init"], data, &line)));
    // A link that the owner of the directory put there gives nothing else away.
    let dir = TempDir::new().unwrap();
    let (data, of_root) = (dir.path().join("data"), dir.path().join("of-root"));
    for (link, exists) in
        [("latchkey.lock", true), ("latchkey.lock", false), ("latchkey.redb.new", true), ("signing.key.new", true)]
    {
        let _ = fs::remove_dir_all(&data);
        let _ = fs::remove_file(&of_root);
        fs::create_dir(&data).unwrap();
        symlink(&of_root, data.join(link)).unwrap();
        if exists {
            fs::write(&of_root, "a secret of root").unwrap();
        }
        chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
        mode(&data, 0o700);
        run(&["user", "add", "jo@example.com", "--init", "--password-stdin"], &data, PASSWORD);
        assert_eq!(of_root.exists(), exists, "{link}");
        if exists {
            assert_eq!(fs::metadata(&of_root).unwrap().uid(), 0, "{link}");
            assert_eq!(fs::read_to_string(&of_root).unwrap(), "a secret of root", "{link}");
        }
    }
    // The server itself, with its socket.
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    chown(dir.path().join("data"), Some(NOBODY), Some(NOBODY)).unwrap();
    let server = TestServer::on(dir.into(), &[]);
    let socket = fs::symlink_metadata(server.dir.path().join("data/admin.sock")).unwrap();
    assert_eq!((socket.uid(), socket.gid()), (NOBODY, NOBODY));
    done(&run(&["user", "list"], &server.dir.path().join("data"), ""));
}

#[test]
fn a_command_makes_no_database_by_mistake_and_says_where_a_server_runs() {
    let server = TestServer::with_admin(&[]);
    let runs_on = server.dir.path().join("data").canonicalize().unwrap();
    let dir = TempDir::new().unwrap();
    let copy = dir.path().join("copy");
    done(&run(&["backup", copy.to_str().unwrap()], &runs_on, ""));
    for (data, args) in [
        ("none", &["user", "add", "jo@example.com", "--password-stdin"][..]),
        ("none", &["import"]),
        ("none", &["restore", copy.to_str().unwrap()]),
        ("empty", &["user", "add", "jo@example.com", "--password-stdin"]),
    ] {
        let data = dir.path().join(data);
        if data.ends_with("empty") {
            fs::create_dir(&data).unwrap();
        }
        let output = run(args, &data, PASSWORD);
        let sentence = format!(
            "there is no latchkey database in {}; give the server's --data-dir, or --init to make one",
            data.display()
        );
        refused(&output, 1, &sentence);
        assert!(text(&output.stderr).contains(runs_on.to_str().unwrap()), "{}", text(&output.stderr));
        assert!(!data.join("latchkey.redb").exists());
    }
    let list = run(&["user", "list"], &dir.path().join("none"), "");
    refused(&list, 1, "; give the server's --data-dir (a server runs on ");
}

/// Runs a command as the user nobody.
fn as_nobody(args: &[&str], data: &Path) -> Output {
    let program = latchkey();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program.get_program()).args(args);
    command.env_clear().arg("--data-dir").arg(data).current_dir("/");
    finish(&mut command, "")
}

#[test]
fn data_that_may_not_be_read_is_not_called_missing() {
    if !is_root() {
        return;
    }
    let server = TestServer::with_admin(&[]);
    let data = server.dir.path().join("data");
    let others = Path::new(env!("CARGO_BIN_EXE_latchkey"))
        .ancestors()
        .all(|dir| dir.metadata().is_ok_and(|found| found.permissions().mode() & 0o001 != 0));
    if !others {
        println!("not proven, because another user cannot run the program from here");
        return;
    }
    mode(server.dir.path(), 0o755);
    for args in [&["user", "list"][..], &["user", "add", ADMIN, "--generate"], &["check"], &["export"], &["import"]] {
        let output = as_nobody(args, &data);
        refused(&output, 1, "cannot look into the data directory");
        assert!(text(&output.stderr).contains("Permission denied (os error 13)"), "{}", text(&output.stderr));
    }
    let output = as_nobody(&["health"], &data);
    refused(&output, 1, "not ready: cannot connect to");
}

#[test]
fn health_asks_the_server_of_the_data_directory_or_the_address_that_is_given() {
    let server = TestServer::start();
    let address = server.base.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    let port = address.rsplit_once(':').unwrap().1;
    let dead = TempDir::new().unwrap();
    // Another server answers at the address of the settings, which is not the one of the data directory.
    for data in [dead.path().join("none"), dead.path().to_owned()] {
        let mut command = latchkey();
        command.env("LATCHKEY_LISTEN", &address).args(["health", "--json", "--data-dir"]).arg(&data);
        let output = finish(&mut command, "");
        assert_eq!(output.status.code(), Some(1));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["ready"], false);
        assert!(said["reason"].as_str().unwrap().contains("no server runs on"), "{said}");
    }
    let ready = |target: &str| {
        let output = finish(latchkey().args(["health", target]), "");
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(0), "ready\n"),
            "{target}: {}",
            text(&output.stderr)
        );
    };
    ready(&address);
    ready(port);
    ready(&format!(":{port}"));
    ready(&format!("localhost:{port}"));
    ready(&format!("http://{address}"));
    ready(&format!("http://localhost:{port}/readyz"));
    let output = finish(latchkey().args(["health", "--json", "http://127.0.0.1:1"]), "");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["ready"], false);
    refused(&finish(latchkey().args(["health", "ftp://localhost"]), ""), 2, "must begin with http:// or https://");
}

#[test]
fn the_variables_of_a_service_named_latchkey_are_left_alone_and_typing_errors_are_not() {
    let config = |name: &str, value: &str| finish(latchkey().env(name, value).arg("config"), "");
    for (name, value) in [
        ("LATCHKEY_PORT", "tcp://10.0.0.1:5282"),
        ("LATCHKEY_SERVICE_HOST", "10.0.0.1"),
        ("LATCHKEY_SERVICE_PORT", "5282"),
        ("LATCHKEY_SERVICE_PORT_HTTP", "5282"),
        ("LATCHKEY_PORT_5282_TCP", "tcp://10.0.0.1:5282"),
        ("LATCHKEY_PORT_5282_TCP_ADDR", "10.0.0.1"),
        ("LATCHKEY_PORT_5282_TCP_PORT", "5282"),
        ("LATCHKEY_PORT_5282_TCP_PROTO", "tcp"),
        ("LATCHKEY_METRICS_SERVICE_HOST", "10.0.0.1"),
        ("LATCHKEY_METRICS_PORT", "tcp://[fd00::1]:9090"),
        ("LATCHKEY_NAME", "/app/latchkey"),
        ("LATCHKEY_ENV_PATH", "/bin"),
    ] {
        done(&config(name, value));
    }
    for (name, value) in [
        ("LATCHKEY_PORT", "8080"),
        ("LATCHKEY_SERVICE_PORT", "http"),
        ("LATCHKEY_SERVICE", "x"),
        ("LATCHKEY_PORT_TCP", "1"),
        ("LATCHKEY_NAME", "login"),
        ("LATCHKEY_HOST", "10.0.0.1"),
        ("LATCHKEY_DATADIR", "/data"),
    ] {
        refused(&config(name, value), 2, &format!("{name} is not a setting"));
    }
    // Which are left alone is logged at debug.
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let mut command = latchkey();
    command.env("LATCHKEY_PORT", "tcp://10.0.0.1:5282").args(["--log", "debug", "--data-dir"]);
    let output = finish(command.arg(dir.path().join("file")), "");
    assert!(text(&output.stderr).contains("LATCHKEY_PORT"), "{}", text(&output.stderr));
}

/// Returns every setting, its value as a variable has it and where it is from, as `latchkey config` tells them. A value that is off is `-`.
pub(crate) fn settings(command: &mut Command) -> Vec<(String, String, String)> {
    let output = finish(command.args(["config", "--json"]), "");
    done(&output);
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let value = match &row["value"] {
            Value::Null => "-".to_owned(),
            Value::Array(values) if values.is_empty() => "-".to_owned(),
            Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
            value => text(value),
        };
        (text(&row["setting"]), value, text(&row["source"]))
    };
    text(&output.stdout).lines().map(row).collect()
}

fn variable(setting: &str) -> String {
    format!("LATCHKEY_{}", setting.to_uppercase().replace('-', "_"))
}

#[test]
fn every_setting_is_taken_as_files_of_variables_write_it() {
    let defaults = settings(&mut latchkey());
    let known: Vec<_> = defaults.iter().filter(|(setting, ..)| setting != "secret-key").collect();
    assert!(known.len() > 25);
    // Empty is not given.
    let mut command = latchkey();
    for (setting, ..) in &known {
        command.env(variable(setting), "");
    }
    let empty = settings(&mut command);
    assert!(empty.iter().all(|(.., source)| source == "default"), "{empty:?}");
    // The value in force, with what is added to it.
    for (before, after) in [("", "\r"), ("", " "), (" ", "\t"), ("\"", "\""), ("'", "'\r")] {
        for (setting, value, _) in &known {
            if value == "-" {
                continue;
            }
            let mut command = latchkey();
            let output = finish(command.env(variable(setting), format!("{before}{value}{after}")).arg("config"), "");
            if setting == "data-dir" {
                assert_eq!(output.status.code(), Some(2));
                assert!(text(&output.stderr).contains(&variable(setting)), "{}", text(&output.stderr));
            } else {
                assert_eq!(output.status.code(), Some(0), "{setting}: {}", text(&output.stderr));
            }
        }
    }
    for (name, value, says) in [
        ("LATCHKEY_DATA_DIR", "/data\r", "ends with a carriage return"),
        ("LATCHKEY_DATA_DIR", "/data ", "begins or ends with a blank"),
        ("LATCHKEY_TLS_CERT", "\"/cert.pem\"", "is in quotes"),
        ("LATCHKEY_LISTEN", "127.0.0.1", "such as 127.0.0.1:5282"),
    ] {
        let output = finish(latchkey().env(name, value).arg("config"), "");
        refused(&output, 2, name);
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
    // Quotes around a list are around its first and its last value.
    let mut command = latchkey();
    command.env("LATCHKEY_CORS_ORIGIN", "\"https://a.example, https://b.example\"");
    assert!(settings(&mut command).iter().any(|(_, value, _)| value == "https://a.example,https://b.example"));
    // A secret is not trimmed, and an empty one is an error.
    refused(&finish(latchkey().env("LATCHKEY_SECRET_KEY", "").arg("config"), ""), 2, "LATCHKEY_SECRET_KEY is empty");
}

#[tokio::test]
async fn an_address_is_taken_as_people_write_it() {
    for (listen, addresses) in [
        ("localhost:0", &["127.0.0.1"][..]),
        (":0", &["127.0.0.1", "127.0.0.2", "[::1]"]),
        ("0", &["127.0.0.1"]),
        ("[::1]:0", &["[::1]"]),
    ] {
        let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
        if listen.starts_with("[::1]") && !has_ipv6 {
            continue;
        }
        let server = TestServer::with(&["--listen", listen]);
        let port = server.base.rsplit_once(':').unwrap().1.split('/').next().unwrap().to_owned();
        for address in addresses.iter().filter(|address| has_ipv6 || !address.starts_with('[')) {
            let answer = reqwest::get(format!("http://{address}:{port}/readyz")).await.unwrap();
            assert_eq!(answer.status(), 200, "{listen} at {address}");
        }
    }
    // Only this machine.
    let server = TestServer::with(&["--listen", "0"]);
    let port = server.base.rsplit_once(':').unwrap().1.split('/').next().unwrap().to_owned();
    assert!(reqwest::get(format!("http://127.0.0.2:{port}/readyz")).await.is_err());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let SocketAddr::V4(address) = taken.local_addr().unwrap() else { unreachable!() };
    let dir = TempDir::new().unwrap();
    let listen = format!("localhost:{}", address.port());
    let output = run(&["--listen", &listen], &dir.path().join("data"), "");
    refused(&output, 1, &format!("cannot listen on {listen} (--listen)"));
}

#[test]
fn what_others_can_read_is_warned_about_and_what_they_can_write_is_refused() {
    let dir = TempDir::new().unwrap();
    let (data, secret) = (dir.path().join("data"), dir.path().join("secret"));
    add_user(&data, ADMIN, true);
    fs::copy(data.join("signing.key"), &secret).unwrap();
    mode(&secret, 0o600);
    let key = data.join("signing.key");
    let list = || run(&["user", "list", "--secret-key-file", secret.to_str().unwrap()], &data, "");
    let with_own_key = || run(&["user", "list"], &data, "");
    assert_eq!(text(&with_own_key().stderr), "", "what latchkey makes is as it should be");
    assert_eq!(text(&list().stderr), "");
    let good = [0o700, 0o600, 0o600];
    for (path, good, readable, writable, list) in [
        (&data, good[0], 0o755, [0o770, 0o707], &with_own_key as &dyn Fn() -> Output),
        (&key, good[1], 0o644, [0o660, 0o602], &with_own_key),
        (&secret, good[2], 0o644, [0o620, 0o666], &list),
    ] {
        mode(path, readable);
        let output = list();
        assert_eq!(output.status.code(), Some(0));
        assert!(
            text(&output.stderr).contains(&format!("chmod {good:o} {}", path.display())),
            "{}",
            text(&output.stderr)
        );
        for writable in writable {
            mode(path, writable);
            let output = list();
            assert!(matches!(output.status.code(), Some(1 | 2)), "{}", path.display());
            assert!(text(&output.stderr).contains("others can write to it"), "{}", text(&output.stderr));
            assert!(
                text(&output.stderr).contains(&format!("chmod {good:o} {}", path.display())),
                "{}",
                text(&output.stderr)
            );
        }
        mode(path, good);
    }
    // A volume of Kubernetes (`fsGroup`): the group can write, and there is no other way in.
    mode(&data, 0o2770);
    mode(&key, 0o660);
    assert_eq!(with_own_key().status.code(), Some(0), "{}", text(&with_own_key().stderr));
}
