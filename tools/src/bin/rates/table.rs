//! What was measured, side by side: a column for each subject at each rate, the median of its rounds.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::figures::{CPU, Figures, LATENCY, PERCENTILES, RATE, SWITCHES};

/// Figures of the rounds of one subject at one rate.
type Rounds = BTreeMap<String, Vec<f64>>;

/// Of files `RATE-SUBJECT.ROUND`.
pub(crate) fn of(files: &[PathBuf]) -> Result<String, Box<dyn Error>> {
    let mut columns: Vec<(u64, String, Rounds)> = Vec::new();
    if files.is_empty() {
        return Err("expected files of figures, RATE-SUBJECT.ROUND".into());
    }
    for file in files {
        let (rate, subject) = column(file)?;
        let at = columns.iter().position(|(r, s, _)| *r == rate && *s == subject).unwrap_or_else(|| {
            columns.push((rate, subject, Rounds::new()));
            columns.len() - 1
        });
        let figures = Figures::read(file)?;
        if !figures.contains_key(CPU) {
            return Err(format!("{}: expected figures, and CPU among them", file.display()).into());
        }
        for (name, value) in figures {
            columns[at].2.entry(name).or_default().push(value);
        }
    }
    let rates: BTreeSet<u64> = columns.iter().map(|(rate, ..)| *rate).collect();
    let mut table = String::new();
    for rate in rates {
        let columns: Vec<_> = columns.iter().filter(|(r, ..)| *r == rate).collect();
        let name = |of: &str| {
            columns.iter().map(|(_, subject, _)| format!("{subject:>of$}", of = of.len())).collect::<String>()
        };
        let wide = " ".repeat(16);
        writeln!(table, "{:<34}{}", format!("{rate} requests/s, us of CPU (switches)"), name(&wide))?;
        write!(table, "{:<34}", "answered a second")?;
        for (_, _, rounds) in &columns {
            write!(table, "{:>16.0}", median(rounds, RATE).unwrap_or_default())?;
        }
        writeln!(table)?;
        let names: BTreeSet<&String> = columns
            .iter()
            .flat_map(|(_, _, rounds)| rounds.keys().filter(|name| name.split('/').next() == Some(CPU)))
            .collect();
        for name in names {
            let words: Vec<&str> = name.split('/').collect();
            let label = match words[..] {
                [_, service, part] => {
                    if part == "all" {
                        continue;
                    }
                    let _ = service;
                    format!("    {part}")
                }
                [_, service] => format!("  {service}"),
                _ => "all".to_owned(),
            };
            write!(table, "{label:<34}")?;
            for (_, _, rounds) in &columns {
                let switches = format!("{SWITCHES}{}", &name[CPU.len()..]);
                match (median(rounds, name), median(rounds, &switches)) {
                    (Some(cpu), Some(switches)) => {
                        write!(table, "{:>16}", format!("{cpu:.1} ({switches:.2})"))?
                    }
                    _ => write!(table, "{:>16}", "-")?,
                }
            }
            writeln!(table)?;
        }
        write!(table, "{:<34}", "all: least to most of the rounds")?;
        for (_, _, rounds) in &columns {
            let all = rounds.get(CPU).cloned().unwrap_or_default();
            let (least, most) =
                (all.iter().copied().fold(f64::MAX, f64::min), all.iter().copied().fold(0.0, f64::max));
            write!(table, "{:>16}", format!("{least:.0}-{most:.0}"))?;
        }
        writeln!(table, "\n\nms: p50/p95/p99/p99.9/max")?;
        for of in ["create", "GET", "search", "search without t", "all", "disk"] {
            for (_, subject, rounds) in &columns {
                let values = PERCENTILES.map(|(name, _)| median(rounds, &format!("{LATENCY}/{of}/{name}")));
                let text: Vec<String> = values
                    .iter()
                    .map(|value| value.map_or("-".to_owned(), |value| format!("{value:.2}")))
                    .collect();
                writeln!(table, "  {:<32}{subject:<12}{}", of, text.join(" / "))?;
            }
        }
        writeln!(table)?;
    }
    Ok(table)
}

fn column(file: &Path) -> Result<(u64, String), Box<dyn Error>> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let parts = name.rsplit_once('.').and_then(|(column, _round)| column.split_once('-'));
    let (rate, subject) = parts.ok_or_else(|| format!("expected RATE-SUBJECT.ROUND, got {name}"))?;
    Ok((rate.parse()?, subject.to_owned()))
}

fn median(rounds: &Rounds, name: &str) -> Option<f64> {
    let mut values = rounds.get(name)?.clone();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    Some(if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    })
}
