//! Files in and out: all or nothing.

use anyhow::{Result, ensure};
use transom_protocol::diagnostics::{GuestDiagnostics, HostDiagnostics, Line, Outcome, Request};
use transom_tests::talk::{Talk, noise, pull, push};
use transom_tests::{Guest, Uml, machine_test};

use crate::LIMIT;

/// Nothing of a copy is left in a folder of the guest.
fn clean(guest: &Guest, folder: &str, name: &str) -> Result<()> {
    let left = guest.run(&format!("ls -A {folder}"))?;
    ensure!(!left.contains("partial"), "a piece is left: {left}");
    ensure!(!left.split_whitespace().any(|n| n == name), "{name} is there: {left}");
    Ok(())
}

#[test]
fn files_travel_whole_or_not_at_all() {
    machine_test("files travel whole or not at all", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.start_agent(&["--copy on"])?;
        for size in [0, 1, 65_536, 65_537, 20_000_000] {
            let bytes = noise(7, size);
            push(&guest, "/tmp/there", 0o751, &bytes)?.done()?;
            ensure!(pull(&guest, "/tmp/there")? == bytes, "{size} bytes came back changed");
        }
        ensure!(guest.run("stat -c '%a %s' /tmp/there")? == "751 20000000");
        let release = pull(&guest, "/etc/os-release")?;
        ensure!(String::from_utf8_lossy(&release).contains("Debian"), "a link is followed");
        let kernel = pull(&guest, "/proc/version")?;
        ensure!(String::from_utf8_lossy(&kernel).trim() == guest.run("cat /proc/version")?.trim());

        // Half a copy, whose sender is gone; the old content stays.
        push(&guest, "/tmp/old", 0o644, b"old")?.done()?;
        let path = Line::new("/tmp/old");
        let mut talk = Talk::ask(&guest, Request::Push { path, mode: 0o644, size: 1000 })?;
        talk.say(&HostDiagnostics::Data, &[1; 500])?;
        drop(talk);
        // A second one, after which the first is over for sure.
        push(&guest, "/tmp/other", 0o644, b"new")?.done()?;
        ensure!(pull(&guest, "/tmp/old")? == b"old");
        clean(&guest, "/tmp", "nothing")?;
        // Less than announced, more than announced.
        let (mut less, mut more) = (
            Talk::ask(&guest, Request::Push { path: Line::new("/tmp/a"), mode: 0o644, size: 10 })?,
            Talk::ask(&guest, Request::Push { path: Line::new("/tmp/a"), mode: 0o644, size: 10 })?,
        );
        less.say(&HostDiagnostics::Data, &[1; 9])?;
        less.say(&HostDiagnostics::EndOfData, &[])?;
        ensure!(less.why()?.contains("only 9 of 10"));
        more.say(&HostDiagnostics::Data, &[1; 11])?;
        ensure!(more.why()?.contains("more than"));
        clean(&guest, "/tmp", "a")?;

        // A full disk, told before and in the middle.
        guest.run("mkdir /tmp/small && mount -t tmpfs -o size=1M small /tmp/small")?;
        let why = push(&guest, "/tmp/small/big", 0o644, &noise(7, 4_000_000))?.why()?;
        ensure!(why.contains("No space left"), "{why}");
        clean(&guest, "/tmp/small", "big")?;
        // A read-only place, a folder that is not there, a folder instead of a file.
        guest.run("mount -o remount,ro /tmp/small")?;
        for (path, word) in [
            ("/tmp/small/x", "Read-only"),
            ("/nowhere/x", "No such file"),
            ("/tmp", "no regular file"),
            ("/dev/null", "no regular file"),
        ] {
            let why = push(&guest, path, 0o644, b"x")?.why()?;
            ensure!(why.contains(word), "{path}: {why}");
        }
        for (path, word) in [
            ("/nowhere", "No such file"),
            ("/tmp", "no regular file"),
            ("/dev/zero", "no regular file"),
            ("relative", "not absolute"),
            ("/tmp/../etc/passwd", "'..'"),
            ("/tmp/a\0b", "NUL"),
            ("/tmp/", "names no file"),
        ] {
            let path = || Line::new(path);
            let why = Talk::ask(&guest, Request::Pull { path: path() })?.why()?;
            ensure!(why.contains(word), "{path:?}: {why}", path = path());
            if path().as_str() == "/nowhere" {
                // A file may be put there.
                continue;
            }
            let into = Request::Push { path: path(), mode: 0o644, size: 1 };
            let why = Talk::ask(&guest, into)?.why()?;
            ensure!(!why.is_empty(), "{why}");
        }
        guest.run("mkfifo /tmp/fifo")?;
        let why = Talk::ask(&guest, Request::Pull { path: Line::new("/tmp/fifo") })?.why()?;
        ensure!(why.contains("no regular file"), "{why}");
        // More than can be: refused by number, before anything is set aside.
        let huge = Request::Push { path: Line::new("/tmp/huge"), mode: 0o644, size: u64::MAX };
        ensure!(Talk::ask(&guest, huge)?.why()?.contains("more than"));
        // A name that is too long, in a message that is too long as well.
        for length in [3000_usize, 64 * 1024] {
            let mut talk = Talk::open(&guest)?;
            let mut message = vec![0, 10];
            message.extend([
                (length & 0x7f | 0x80) as u8,
                (length >> 7 & 0x7f | 0x80) as u8,
                (length >> 14) as u8,
            ]);
            message.extend(vec![b'/'; length]);
            let mut bytes = (message.len() as u32).to_le_bytes().to_vec();
            bytes.extend([0; 4]);
            bytes.extend(message);
            // It may be refused before all of it is sent.
            let _ = talk.raw(&bytes);
            let (_, outcome) = talk.rest()?;
            println!("{length}: {outcome:?}");
            ensure!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
        }
        let said = Talk::ask(&guest, Request::Pull { path: Line::new("/etc/hostname") })?.done()?;
        ensure!(matches!(said[0].0, GuestDiagnostics::File { .. }), "{said:?}");
        Ok(())
    });
}
