//! `pages DIRECTORY`: writes the man pages and the shell completions of the server there, by the flags that it reads.
//!
//! ```text
//! DIRECTORY/rinha.1  rinha-serve.1  rinha-check.1  rinha-healthcheck.1
//! DIRECTORY/rinha.bash  _rinha (zsh)  rinha.fish
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Command, Parser};
use clap_complete::Shell;
use clap_mangen::Man;

/// What clap does not know, for the page of the server.
const MORE: &str = include_str!("more.roff");

/// Writes the man pages and shell completions of rinha.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to; made if it is not there
    directory: PathBuf,
}

fn main() -> io::Result<()> {
    let directory = Arguments::parse().directory;
    fs::create_dir_all(&directory)?;
    man_pages(&directory)?;
    let mut command = rinha::config::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "rinha", &directory)?;
    }
    Ok(())
}

/// One page for the program, and one for each of its commands.
fn man_pages(directory: &Path) -> io::Result<()> {
    let mut command = rinha::config::command().disable_help_subcommand(true);
    command.build();
    let mut page = File::create(directory.join("rinha.1"))?;
    Man::new(command.clone()).render(&mut page)?;
    environment(&command, &mut page)?;
    page.write_all(MORE.as_bytes())?;
    for part in command.get_subcommands() {
        // The library keeps names for ever; there are three.
        let name: &'static str = format!("rinha-{}", part.get_name()).leak();
        let mut page = File::create(directory.join(format!("{name}.1")))?;
        Man::new(named(part, name)).render(&mut page)?;
        environment(part, &mut page)?;
    }
    Ok(())
}

/// The variables that stand for flags.
fn environment(command: &Command, page: &mut File) -> io::Result<()> {
    writeln!(page, ".SH ENVIRONMENT\nA flag wins over its variable; one that is empty counts as none.")?;
    for argument in command.get_arguments() {
        if let (Some(variable), Some(flag)) = (argument.get_env(), argument.get_long()) {
            let flag = flag.replace('-', "\\-");
            writeln!(page, ".TP\n\\fB{}\\fR\nas \\fB\\-\\-{flag}\\fR", variable.display())?;
        }
    }
    Ok(())
}

/// A command under the name of its page.
fn named(command: &Command, name: &'static str) -> Command {
    command.clone().name(name).version(env!("CARGO_PKG_VERSION"))
}
