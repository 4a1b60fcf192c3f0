//! `--cache-mib`: how much of the database stays in memory.

use std::{fs, path::Path, sync::Arc};

use reqwest::StatusCode;
use tempfile::TempDir;

use super::harness::{ADMIN, TestServer, add_user};
use crate::{backup::done, cli::run, import::line};

/// More than twenty megabytes of users and their index, which is more than opening the database takes.
const USERS: usize = 80_000;

/// Returns the resident memory in MiB after every user was read, on a copy of the data in `from`.
async fn memory_after_reading(from: &Path, cache_mib: &str) -> u64 {
    let dir = Arc::new(TempDir::new().unwrap());
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    for name in ["latchkey.redb", "signing.key"] {
        fs::copy(from.join(name), data.join(name)).unwrap();
    }
    let server = TestServer::on(dir, &["--cache-mib", cache_mib]);
    let admin = server.admin().await;
    for _ in 0..2 {
        assert_eq!(server.get("/users?disabled=true").bearer(&admin).send().await.status, StatusCode::OK);
    }
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    value.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn a_small_cache_keeps_less_of_the_database_in_memory() {
    let dir = TempDir::new().unwrap();
    add_user(dir.path(), ADMIN, true);
    let lines: Vec<_> = (0..USERS).map(|number| line(&format!("user{number}@example.com")).to_string()).collect();
    done(&run(&["import", "-", "--init"], dir.path(), &lines.join("\n")));
    let (small, large) = (memory_after_reading(dir.path(), "1").await, memory_after_reading(dir.path(), "64").await);
    assert!(small + 6 <= large, "{small} MiB and {large} MiB");
}
