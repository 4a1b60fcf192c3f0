//! Backups that the server makes by itself.

use std::{fs, path::Path};

use tempfile::TempDir;

use crate::{
    api::{
        harness::{ADMIN, TestServer, add_user},
        metrics::{scrape, value},
    },
    backup::{done, names},
    cli::{refused, run, text},
};

/// Waits until `found` returns something.
async fn wait_for<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..3000 {
        if let Some(found) = found().await {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never came true: {what}");
}

fn arguments(dir: &Path) -> [&str; 6] {
    ["--backup-dir", dir.to_str().unwrap(), "--backup-every", "1s", "--backup-keep", "2"]
}

#[tokio::test]
async fn backups_are_made_checked_and_rotated_and_other_files_stay() {
    let dir = TempDir::new().unwrap();
    let backups = dir.path().join("backups");
    fs::create_dir(&backups).unwrap();
    for other in ["latchkey-20200101T000000Z.redb.txt", "latchkey-2020.redb", "notes"] {
        fs::write(backups.join(other), "of somebody else").unwrap();
    }
    fs::write(backups.join("latchkey-20200101T000000Z.redb"), "an old one").unwrap();
    fs::write(backups.join("latchkey-29990101T000000Z.redb"), "made while the clock was wrong").unwrap();
    let data = TempDir::new().unwrap();
    add_user(&data.path().join("data"), ADMIN, true);
    let server = TestServer::on(data.into(), &arguments(&backups));
    let of_ours = || {
        names(&backups)
            .into_iter()
            .filter(|name| name.ends_with("Z.redb") && !name.contains("2999"))
            .collect::<Vec<_>>()
    };
    // The old one goes when there are two new ones.
    let found = wait_for("two new backups", async || {
        let found = of_ours();
        (found.len() == 2 && !found[0].contains("2020")).then_some(found)
    });
    let found = found.await;
    assert_eq!(names(&backups).len(), 6, "{:?}", names(&backups));
    drop(server);
    let newest = backups.join(&found[1]);
    let checked = run(&["check", newest.to_str().unwrap()], dir.path(), "");
    // A third one may have taken the place of the older of the two, never of the newest.
    done(&checked);
    assert!(text(&checked.stdout).contains("1 user, 1 of them an administrator"), "{}", text(&checked.stdout));
}

#[tokio::test]
async fn a_backup_that_fails_is_counted_and_keeps_the_old_ones_and_the_server_serves() {
    let dir = TempDir::new().unwrap();
    let backups = dir.path().join("backups");
    fs::create_dir(&backups).unwrap();
    fs::write(backups.join("latchkey-20200101T000000Z.redb"), "the last one").unwrap();
    let metrics = ["--metrics-listen", "127.0.0.1:0"];
    let server = TestServer::with(&[&arguments(&backups)[..], &metrics].concat());
    let made = async || {
        let text = scrape(&server).await;
        let good = value(&text, "backups_total{outcome=\"good\"}");
        (good >= 1.0).then(|| value(&text, "last_backup_timestamp_seconds"))
    };
    let at = wait_for("a good backup", made).await;
    assert!(at > 1_700_000_000.0);
    // From now on the directory cannot be written.
    fs::remove_dir_all(&backups).unwrap();
    fs::write(&backups, "a file").unwrap();
    wait_for("a failed backup", async || {
        let failed = value(&scrape(&server).await, "backups_total{outcome=\"failed\"}");
        (failed >= 1.0).then_some(())
    })
    .await;
    assert!(server.log().text().contains("the backup failed; it is tried again"), "{}", server.log().text());
    assert_eq!(server.get("/ui").send().await.status, 200);
    let output = run(&arguments(&backups), &dir.path().join("data"), "");
    refused(&output, 1, "cannot use the directory of the backups");
}
