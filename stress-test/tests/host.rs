//! `host/prepare` against a fake root and fake commands: what it changes, that it changes nothing twice, that undo takes it back, and
//! which disks it refuses.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Commands that would change the machine or ask it, and what they answer. Each call is logged.
const COMMANDS: [(&str, &str); 13] = [
    (
        "lsblk",
        r#"case "$*" in -dpno*) echo "/dev/nvme0n1 Amazon Elastic Block Store"; echo "/dev/nvme1n1 Amazon EC2 NVMe Instance Storage";; *) echo nvme1n1; [ -z "$PARTITIONS" ] || echo nvme1n1p1;; esac"#,
    ),
    (
        "blkid",
        r#"test -s "$HOST_ROOT/disk" || exit 2; case "$*" in *TYPE*) sed -n 1p "$HOST_ROOT/disk";; *LABEL*) sed -n 2p "$HOST_ROOT/disk";; *UUID*) echo 1234;; esac"#,
    ),
    ("mkfs.ext4", r#"printf 'ext4\nrinha-stress\n' >"$HOST_ROOT/disk""#),
    ("findmnt", r#"case "$*" in *--source*) test -n "$MOUNTED";; *) test -e "$HOST_ROOT/mounted";; esac"#),
    ("mount", r#": >"$HOST_ROOT/mounted""#),
    ("umount", r#"rm "$HOST_ROOT/mounted""#),
    ("systemctl", ""),
    (
        "loginctl",
        r#"case $1 in enable*) mkdir -p "$HOST_ROOT/var/lib/systemd/linger"; : >"$HOST_ROOT/var/lib/systemd/linger/$2";; *) rm "$HOST_ROOT/var/lib/systemd/linger/$2";; esac"#,
    ),
    ("apt-get", ""),
    ("dpkg", ""),
    (
        "runuser",
        r#"mkdir -p "$HOST_ROOT/home/ana/.local/bin"; : >"$HOST_ROOT/home/ana/.local/bin/podman-compose"; chmod +x "$HOST_ROOT/home/ana/.local/bin/podman-compose""#,
    ),
    ("getent", r#"echo "ana:x:1000:1000::/home/ana:/bin/bash""#),
    ("chown", ""),
];
/// Not faked for its effect: the user it is called for does not exist here.
const INSTALL: &str = r#"for last; do :; done; mkdir -p "$last""#;
const ASKED_ONLY: [&str; 5] = ["lsblk", "blkid", "findmnt", "dpkg", "getent"];

struct Host {
    root: TempDir,
    bin: TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self {
            root: tempfile::tempdir().expect("a root"),
            bin: tempfile::tempdir().expect("a directory"),
        };
        for (name, script) in COMMANDS.iter().chain(&[("install", INSTALL)]) {
            let path = host.bin.path().join(name);
            let text = format!("#!/bin/bash\necho \"{name} $*\" >>\"$LOG\"\n{script}\n");
            fs::write(&path, text).expect("a script");
            fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("its mode");
        }
        host.file("sys/devices/system/cpu/smt/control", "on\n");
        host.file("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
        host.file("proc/sys/net/core/somaxconn", "4096\n");
        host.file("etc/fstab", "UUID=root / ext4 defaults 0 1\n");
        host
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.path().join(path)).unwrap_or_default()
    }

    /// Whether it succeeded, what it printed, and the commands that change something.
    fn prepare(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String, Vec<String>) {
        let log = self.bin.path().join("log");
        fs::write(&log, "").expect("a log");
        let path = format!("{}:{}", self.bin.path().display(), std::env::var("PATH").expect("a PATH"));
        let output = Command::new("host/prepare")
            .args(["--user", "ana"])
            .args(arguments)
            .envs([("HOST_ROOT", self.root.path()), ("LOG", &log)])
            .env("PATH", path)
            .envs(variables.iter().copied())
            .output()
            .expect("bash");
        let text = String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();
        let calls = fs::read_to_string(&log).expect("a log");
        let changes = calls.lines().filter(|call| !ASKED_ONLY.iter().any(|name| call.starts_with(name)));
        (output.status.success(), text, changes.map(str::to_owned).collect())
    }

    /// Every file and what is in it.
    fn contents(&self) -> BTreeMap<String, String> {
        fn walk(directory: &Path, root: &Path, files: &mut BTreeMap<String, String>) {
            for entry in fs::read_dir(directory).expect("a directory").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    walk(&path, root, files);
                } else {
                    let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
                    files.insert(name, fs::read_to_string(&path).expect("text"));
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(self.root.path(), self.root.path(), &mut files);
        files
    }
}

#[test]
fn a_dry_run_changes_nothing_and_says_all() {
    let host = Host::new();
    let before = host.contents();
    let (success, text, changes) = host.prepare(&["--dry-run"], &[]);
    assert!(success, "{text}");
    assert_eq!(host.contents(), before);
    assert_eq!(changes, Vec::<String>::new());
    for expected in [
        "mkfs.ext4 -q -F -L rinha-stress /dev/nvme1n1",
        "would write off into",
        "ip_local_port_range",
        "Delegate=cpu",
        "nofile 65536",
        "graphroot",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn everything_is_done_once_and_taken_back() {
    let host = Host::new();
    let before = host.contents();
    let (success, text, _) = host.prepare(&[], &[]);
    assert!(success, "{text}");
    assert_eq!(host.read("sys/devices/system/cpu/smt/control"), "off\n");
    assert_eq!(host.read("proc/sys/net/ipv4/ip_local_port_range"), "10240 65535\n");
    assert_eq!(
        host.read("etc/fstab"),
        "UUID=root / ext4 defaults 0 1\nUUID=1234 /mnt/rinha-stress ext4 noatime,nofail 0 2\n"
    );
    assert!(host.read("home/ana/.config/containers/storage.conf").contains("/mnt/rinha-stress/containers"));
    assert_eq!(host.read("etc/security/limits.d/90-rinha-stress.conf"), "ana - nofile 65536\n");

    let done = host.contents();
    let (success, text, changes) = host.prepare(&[], &[]);
    assert!(success, "{text}");
    assert_eq!(host.contents(), done, "{text}");
    let changing =
        changes.iter().filter(|call| !call.starts_with("install -d") && !call.starts_with("chown"));
    assert_eq!(changing.collect::<Vec<_>>(), Vec::<&String>::new(), "{text}");

    let (success, text, _) = host.prepare(&["--dry-run", "undo"], &[]);
    assert!(success, "{text}");
    assert_eq!(host.contents(), done);

    let (success, text, _) = host.prepare(&["undo"], &[]);
    assert!(success, "{text}");
    let mut after = host.contents();
    // The disk keeps its filesystem, the packages stay.
    after.remove("disk");
    after.remove("home/ana/.local/bin/podman-compose");
    let port_range =
        after.insert("proc/sys/net/ipv4/ip_local_port_range".to_owned(), "32768\t60999\n".to_owned());
    assert_eq!(port_range.as_deref(), Some("32768 60999\n"));
    assert_eq!(after, before);

    let (success, text, _) = host.prepare(&["undo"], &[]);
    assert!(success, "{text}");
}

#[test]
fn a_disk_with_something_on_it_is_refused_unless_it_is_named() {
    let check = |disk: &str, arguments: &[&str], variables: &[(&str, &str)], expected: bool| {
        let host = Host::new();
        host.file("disk", disk);
        let (success, text, changes) = host.prepare(&[arguments, &["disk"]].concat(), variables);
        let formatted = changes.iter().any(|call| call.starts_with("mkfs"));
        assert_eq!((success, formatted), (expected, expected), "{disk:?} {arguments:?}: {text}");
    };
    check("", &[], &[], true);
    check("", &["--disk", "/dev/nvme1n1"], &[], true);
    check("xfs\nphotos\n", &[], &[], false);
    check("xfs\nphotos\n", &["--disk", "/dev/nvme1n1"], &[], false);
    check("xfs\nphotos\n", &["--format", "/dev/nvme1n1"], &[], true);
    check("", &[], &[("PARTITIONS", "yes")], false);
    check("xfs\nphotos\n", &["--format", "/dev/nvme1n1"], &[("MOUNTED", "yes")], false);
}

#[test]
fn its_own_disk_is_not_formatted_again() {
    let host = Host::new();
    host.file("disk", "ext4\nrinha-stress\n");
    let (success, text, changes) = host.prepare(&["disk"], &[]);
    assert!(success, "{text}");
    assert!(!changes.iter().any(|call| call.starts_with("mkfs")), "{text}");
    assert_eq!(changes.iter().filter(|call| call.starts_with("mount")).count(), 1);
}

#[test]
fn an_unknown_step_is_refused() {
    let (success, text, _) = Host::new().prepare(&["disks"], &[]);
    assert!(!success && text.contains("expected some of"), "{text}");
}
