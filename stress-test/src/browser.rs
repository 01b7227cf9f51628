//! Pictures of a page, by headless Chromium.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::output;

const PICTURE_TIME_MAX: Duration = Duration::from_secs(60);
/// What it is called, in the order of preference.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// Alone, and silent on the network.
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    // Virtual time: until the figures are drawn.
    "--virtual-time-budget=8000",
];

/// Writes `PAGE-light.png` and `PAGE-dark.png` beside the page, as wide and high as said.
pub fn pictures(page: &Path, width: u32, height: u32) -> Result<[PathBuf; 2]> {
    let program = find().context("expected Chromium (apt-get install chromium)")?;
    let page = page.canonicalize()?;
    let picture = |theme: &str| {
        let file = page.with_file_name(format!(
            "{}-{theme}.png",
            page.file_stem().unwrap_or_default().to_string_lossy()
        ));
        // A profile of its own, as one that is in use hands the page over and leaves.
        let profile = tempfile::tempdir()?;
        let mut command = Command::new(program);
        command
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--window-size={width},{height}"))
            .arg(format!("--screenshot={}", file.display()))
            .arg(format!("file://{}?theme={theme}", page.display()));
        output(&mut command, PICTURE_TIME_MAX)?;
        if !file.exists() {
            bail!("{program} left no picture of {}", page.display());
        }
        anyhow::Ok(file)
    };
    Ok([picture("light")?, picture("dark")?])
}

fn find() -> Option<&'static str> {
    PROGRAMS
        .into_iter()
        .find(|program| output(Command::new(program).arg("--version"), PICTURE_TIME_MAX).is_ok())
}
