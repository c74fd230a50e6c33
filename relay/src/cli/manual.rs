//! `transom manual DIR`: man pages and completions, made from the command line's own definitions.
//! Hidden: `make install` runs it, so that it needs nothing but the program.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_complete::{Shell, generate_to};

/// What `transom manual` is told.
#[derive(Debug, Args)]
pub struct ManualArgs {
    /// Where to: man1/, bash/, zsh/ and fish/ are made there.
    dir: PathBuf,
}

/// Writes all of it.
pub fn run(args: ManualArgs) -> anyhow::Result<ExitCode> {
    let mut command = super::Cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let dir = args.dir.join(shell.to_string());
        make(&dir)?;
        generate_to(shell, &mut command, "transom", &dir)
            .with_context(|| format!("cannot write completions for {shell}"))?;
    }
    let dir = args.dir.join("man1");
    make(&dir)?;
    command.build();
    pages(&command, "transom", &dir)?;
    Ok(ExitCode::SUCCESS)
}

/// A page for the command and one for each that it has: transom-diag-logs.1.
fn pages(command: &Command, name: &str, dir: &Path) -> anyhow::Result<()> {
    // The page's title is the name; its usage line stays as it is typed.
    let title = name.to_owned();
    let page = clap_mangen::Man::new(command.clone()).title(title.to_uppercase());
    let mut bytes = Vec::new();
    page.render(&mut bytes)?;
    let path = dir.join(format!("{name}.1"));
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    for sub in command.get_subcommands() {
        if !sub.is_hide_set() && sub.get_name() != "help" {
            pages(sub, &format!("{name}-{}", sub.get_name()), dir)?;
        }
    }
    Ok(())
}

fn make(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}
