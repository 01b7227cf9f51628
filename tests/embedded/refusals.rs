//! Directories that no cluster can start in, and one that is tidied first.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rinha::embedded::Embedded;

use crate::cluster::{Cluster, is_root_or_skip, settings, temporary_directory};
use crate::refused;

#[test]
fn refusals_without_a_cluster() {
    let directory = temporary_directory();
    let base = settings(directory.path());

    let mut no_binaries = base.clone();
    no_binaries.search = vec![directory.path().join("nowhere")];
    refused(&no_binaries, &["PostgreSQL 13", "apt-get install postgresql", "dnf install postgresql-server"]);

    fs::write(directory.path().join("file"), "").unwrap();
    let mut under_a_file = base.clone();
    under_a_file.data_dir = directory.path().join("file/data");
    refused(&under_a_file, &["file/data", "--data-dir"]);

    let pgdata = base.data_dir.join("postgres");
    fs::create_dir_all(&pgdata).unwrap();
    fs::write(pgdata.join("letter.txt"), "").unwrap();
    refused(&base, &["not empty", "PG_VERSION"]);

    // A cluster of a version that is not installed. It is never opened, so one file is cluster enough.
    fs::write(pgdata.join("PG_VERSION"), "9.6\n").unwrap();
    refused(&base, &["PostgreSQL 9.6", "apt-get install postgresql-9.6"]);
    no_binaries.search.clear();
    refused(&no_binaries, &["apt-get install postgresql"]);
}

#[test]
fn an_unfinished_initdb_is_removed() {
    let directory = temporary_directory();
    let data = directory.path().join("data");
    let leftover = data.join("postgres.tmp-1-1");
    fs::create_dir_all(leftover.join("base")).unwrap();
    fs::write(leftover.join("PG_VERSION"), "15\n").unwrap();
    // An empty directory in the cluster's place is not in the way.
    fs::create_dir(data.join("postgres")).unwrap();
    let cluster = Cluster::start_in(directory);
    assert!(!leftover.exists());
    let rest: Vec<String> = fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("postgres.tmp"))
        .collect();
    assert_eq!(rest, [] as [String; 0]);
    assert_eq!(cluster.query("select 1"), ["1"]);
}

#[test]
fn a_data_directory_out_of_reach() {
    if !is_root_or_skip("a directory that only root enters") {
        return;
    }
    let directory = temporary_directory();
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let settings = settings(&closed.join("deeper"));
    refused(&settings, &[&format!("may not enter {}:", closed.display()), "chmod o+x"]);
    // What the message advises helps.
    fs::set_permissions(&closed, Permissions::from_mode(0o701)).unwrap();
    let embedded = Embedded::start(&settings).unwrap();
    // As root the files belong to another user, and from then on that owner counts.
    let pgdata = settings.data_dir.join("postgres");
    assert_ne!(fs::metadata(&pgdata).unwrap().uid(), 0);
    drop(embedded);
    std::os::unix::fs::chown(&pgdata, Some(0), Some(0)).unwrap();
    refused(&settings, &["belongs to root", "chown -R"]);
}
