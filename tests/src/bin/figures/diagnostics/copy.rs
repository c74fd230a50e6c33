//! `transom diag cp` of 256 MB against as many bytes on a bare vsock stream, in turns.
//!
//! The command is timed as a user would, from its start to its end. Files are in memory on both
//! sides: disks are not what is measured.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use transom_tests::{Guest, Process, Relay, Test, Uml};

use crate::ROUNDS;

/// Beside the agent's own.
const PORT: u32 = 29_900;
const BYTES: u64 = 256_000_000;
/// Two such files, and the guest itself.
const MEMORY_MB: u32 = 1536;
/// Ten times what it takes.
const LIMIT: Duration = Duration::from_secs(120);

pub fn measure(test: &Test) -> Result<Vec<Value>> {
    let guest = Uml::new(test).memory_mb(MEMORY_MB).boot()?;
    guest.start_agent(&["--copy on"])?;
    guest.run(&format!("setsid /host/bin/rawvsock {PORT} </dev/null >/dev/null 2>&1 &"))?;
    let seed = "head -c 1000000 /dev/urandom >/tmp/seed";
    let repeat = "for i in $(seq 256); do cat /tmp/seed; done >/tmp/there";
    guest.sh(&format!("{seed}; {repeat}"), LIMIT)?;
    let here = PathBuf::from(format!("/dev/shm/transom-figures-{}", std::process::id()));
    let path = here.to_str().context("a text")?;
    let mut lines = Vec::new();
    // The first round warms up all caches and does not count.
    for round in 0..=ROUNDS {
        let seconds = [
            ("bare, out", raw(&guest, b'r')?),
            ("cp, out", cp(test, &guest, &[":/tmp/there", path])?),
            ("bare, in", raw(&guest, b'w')?),
            ("cp, in", cp(test, &guest, &[path, ":/tmp/back"])?),
        ];
        guest.run("cmp /tmp/there /tmp/back && rm /tmp/back")?;
        let line = |(what, seconds): (&str, f64)| {
            let rate = BYTES as f64 / seconds / 1e6;
            json!({ "what": what, "round": round, "seconds": seconds, "mb_per_s": rate })
        };
        if round > 0 {
            lines.extend(seconds.map(line));
        }
    }
    std::fs::remove_file(here)?;
    Ok(lines)
}

fn raw(guest: &Guest, way: u8) -> Result<f64> {
    let mut stream = guest.connect(PORT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut piece = vec![7; 1 << 20];
    let start = Instant::now();
    stream.write_all(&[&[way][..], &BYTES.to_le_bytes()].concat())?;
    let mut left = BYTES;
    if way == b'r' {
        while left > 0 {
            let count = stream.read(&mut piece)?;
            ensure!(count > 0, "the stream ended {left} bytes early");
            left -= count as u64;
        }
    } else {
        while left > 0 {
            let most = piece.len().min(left as usize);
            stream.write_all(&piece[..most])?;
            left -= most as u64;
        }
        stream.read_exact(&mut [0])?;
    }
    Ok(start.elapsed().as_secs_f64())
}

fn cp(test: &Test, guest: &Guest, names: &[&str]) -> Result<f64> {
    let mut command = Relay::command();
    command.args(["diag", &guest.address(), "cp"]).args(names);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let mut process = Process::spawn(test, "cp", &mut command)?;
    let status = process.wait(LIMIT)?;
    ensure!(status.success(), "cp: {}", process.stderr().text());
    Ok(start.elapsed().as_secs_f64())
}
