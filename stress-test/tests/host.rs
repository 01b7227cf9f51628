//! `host/prepare` against a fake root and fake commands: what it changes, that it changes nothing twice, that undo
//! takes it back, and which disks it refuses.

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
        r#"[ -z "$BLKID" ] || exit "$BLKID"; test -s "$HOST_ROOT/disk" || exit 2; case "$*" in *UUID*) echo 1234;; *) cat "$HOST_ROOT/disk";; esac"#,
    ),
    ("mkfs.ext4", r#"printf 'TYPE=ext4\nLABEL=rinha-stress\n' >"$HOST_ROOT/disk""#),
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
/// `install` makes the directory, but not for the user that it is called for, who does not exist here.
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
        host.file("dev/nvme1n1", "");
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
    assert_eq!(changes, Vec::<String>::new(), "{text}");

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
    check("TYPE=xfs\nLABEL=photos\n", &[], &[], false);
    check("TYPE=xfs\nLABEL=photos\n", &["--disk", "/dev/nvme1n1"], &[], false);
    check("TYPE=xfs\nLABEL=photos\n", &["--format", "/dev/nvme1n1"], &[], true);
    check("PTTYPE=gpt\n", &[], &[], false);
    check("", &[], &[("PARTITIONS", "yes")], false);
    // Traces of several filesystems, and an error of blkid.
    check("", &[], &[("BLKID", "8")], false);
    check("", &[], &[("BLKID", "4")], false);
    check("TYPE=xfs\nLABEL=photos\n", &["--format", "/dev/nvme1n1"], &[("MOUNTED", "yes")], false);
}

#[test]
fn a_disk_that_cannot_be_read_is_not_empty() {
    let host = Host::new();
    fs::remove_file(host.root.path().join("dev/nvme1n1")).expect("the device");
    let (success, text, changes) = host.prepare(&["disk"], &[]);
    assert!(!success && text.contains("cannot be read"), "{text}");
    assert_eq!(changes, Vec::<String>::new());
}

/// What a host already has of what is wanted stays, and what it had instead comes back.
#[test]
fn undo_restores_what_was_there() {
    const STATE: [&str; 5] = [
        "sys/devices/system/cpu/smt/control",
        "var/lib/systemd/linger/ana",
        "proc/sys/net/core/somaxconn",
        "proc/sys/net/ipv4/ip_local_port_range",
        "home/ana/.config/containers/storage.conf",
    ];
    // The files of `STATE` before the host is prepared, and while it is.
    let check = |before: [Option<&str>; 5], prepared: [&str; 4]| {
        let host = Host::new();
        for (file, text) in STATE.iter().zip(before) {
            text.into_iter().for_each(|text| host.file(file, text));
        }
        let state = || STATE.map(|file| host.root.path().join(file).exists().then(|| host.read(file)));
        for _ in 0..2 {
            let (success, text, _) = host.prepare(&[], &[]);
            assert!(success, "{text}");
            assert_eq!(state().map(Option::unwrap_or_default)[..4], prepared, "{text}");
        }
        let (success, text, changes) = host.prepare(&["undo"], &[]);
        assert!(success, "{text}");
        assert_eq!(state(), before.map(|text| text.map(str::to_owned)), "{text}");
        let lingering = changes.iter().any(|call| call.starts_with("loginctl"));
        assert_eq!(lingering, before[1].is_none(), "{changes:?}");
    };
    check(
        [Some("on\n"), None, Some("128\n"), Some("32768 60999\n"), None],
        ["off\n", "", "4096\n", "10240 65535\n"],
    );
    check(
        [Some("off\n"), Some(""), Some("65535\n"), Some("1024 65535\n"), Some("[storage]\n")],
        ["off\n", "", "65535\n", "1024 65535\n"],
    );
}

#[test]
fn only_what_it_makes_changes_hands() {
    let host = Host::new();
    host.file("home/ana/.config/other", "");
    let (success, text, changes) = host.prepare(&["disk"], &[]);
    assert!(success, "{text}");
    let made = |path: &str| host.root.path().join(path).display().to_string();
    let expected = [
        format!("install -d -o ana {}", made("mnt/rinha-stress/containers")),
        format!("install -d -o ana {}", made("home/ana/.config/containers")),
        format!("chown ana {}", made("home/ana/.config/containers/storage.conf")),
    ];
    let owned: Vec<&String> = changes.iter().filter(|call| call.contains(" ana ")).collect();
    assert_eq!(owned, expected.iter().collect::<Vec<_>>(), "{changes:?}");
}

#[test]
fn its_own_disk_is_not_formatted_again() {
    let host = Host::new();
    host.file("disk", "TYPE=ext4\nLABEL=rinha-stress\n");
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
