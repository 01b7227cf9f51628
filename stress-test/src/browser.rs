//! Pictures of a page, by headless Chromium, and whether all of it is drawn.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::output;

const PICTURE_TIME_MAX: Duration = Duration::from_secs(60);
/// What Chromium is called, in the order of preference.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// Chromium runs without a window, and asks nothing of the network by itself.
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
    // Milliseconds of virtual time, within which the figures are drawn.
    "--virtual-time-budget=8000",
];

/// Writes `PAGE-light.png` and `PAGE-dark.png` beside the page, of this width and height. Returns their paths, and what
/// is wrong with the page as the browser made it.
pub fn pictures(page: &Path, width: u32, height: u32) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let program = find().context("expected Chromium (apt-get install chromium)")?;
    let page = page.canonicalize()?;
    let source = fs::read_to_string(&page)?;
    let mut faults = Vec::new();
    let mut picture = |theme: &str| {
        let file = page.with_file_name(format!(
            "{}-{theme}.png",
            page.file_stem().unwrap_or_default().to_string_lossy()
        ));
        // Each picture has a profile of its own: on a profile in use Chromium hands the page to the running browser and
        // ends.
        let profile = tempfile::tempdir()?;
        let browse = |what: &str| {
            let mut command = Command::new(program);
            command
                .args(FLAGS)
                .arg(format!("--user-data-dir={}", profile.path().display()))
                .arg(format!("--window-size={width},{height}"))
                .arg(what)
                .arg(format!("file://{}?theme={theme}", page.display()));
            output(&mut command, PICTURE_TIME_MAX)
        };
        browse(&format!("--screenshot={}", file.display()))?;
        if !file.exists() {
            bail!("{program} left no picture of {}", page.display());
        }
        faults.extend(fault(&source, &browse("--dump-dom")?, theme));
        anyhow::Ok(file)
    };
    let pictures = vec![picture("light")?, picture("dark")?];
    Ok((pictures, faults))
}

/// What is wrong with a page as the browser made it: it must have the theme, and lines in each figure. The library's
/// source is on the page too, so that everything is counted by texts that the library does not contain.
fn fault(source: &str, made: &str, theme: &str) -> Option<String> {
    let wanted = source.matches(r#"<div class="plot"></div>"#).count();
    let figures: Vec<&str> = made.split(r#"<div class="plot js-plotly-plot""#).skip(1).collect();
    let drawn = figures
        .iter()
        .filter(|figure| {
            figure.contains(r#"<svg class="main-svg""#) && figure.contains(r#"<path class="js-line""#)
        })
        .count();
    if drawn != wanted || wanted == 0 {
        return Some(format!("{theme}: {drawn} of {wanted} figures are drawn"));
    }
    let root = made.split_once("<html").and_then(|(_, rest)| rest.split_once('>')).map(|(root, _)| root);
    let themed = root.is_some_and(|root| root.contains(&format!(r#"data-theme="{theme}""#)));
    (!themed).then(|| format!("{theme}: the page has another theme"))
}

/// The browser of this machine.
pub fn find() -> Option<&'static str> {
    PROGRAMS
        .into_iter()
        .find(|program| output(Command::new(program).arg("--version"), PICTURE_TIME_MAX).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_drawn_is_a_fault() {
        let source = r#"<html lang="en"><div class="plot"></div><div class="plot"></div>"#;
        let figure = r#"<div class="plot js-plotly-plot"><svg class="main-svg"><path class="js-line" d="M0,0"></path></svg></div>"#;
        let empty = r#"<div class="plot js-plotly-plot"><svg class="main-svg"></svg></div>"#;
        let check = |made: &str, expected: Option<&str>| {
            let made = format!(r#"<html lang="en" data-theme="dark">{made}"#);
            assert_eq!(fault(source, &made, "dark").as_deref(), expected, "{made}");
        };
        check(&figure.repeat(2), None);
        check(&[figure, empty].concat(), Some("dark: 1 of 2 figures are drawn"));
        check(&[figure, r#"<div class="plot"></div>"#].concat(), Some("dark: 1 of 2 figures are drawn"));
        check("", Some("dark: 0 of 2 figures are drawn"));
        let made = format!(r#"<html lang="en" data-theme="light">{}"#, figure.repeat(2));
        assert_eq!(fault(source, &made, "dark").as_deref(), Some("dark: the page has another theme"));
        assert!(fault("", &made, "light").is_some());
    }
}
