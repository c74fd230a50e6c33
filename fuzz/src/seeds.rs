//! Writes the seeds into a folder per target, where libFuzzer starts from them.

use std::{fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let folder: PathBuf = std::env::args_os().nth(1).unwrap_or_else(|| "corpus".into()).into();
    for (name, _, seeds) in transom_fuzz::TARGETS {
        fs::create_dir_all(folder.join(name))?;
        for (i, seed) in seeds().iter().enumerate() {
            fs::write(folder.join(name).join(format!("seed-{i}")), seed)?;
        }
    }
    Ok(())
}
