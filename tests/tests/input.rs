//! Input: every kind of device, and that nothing stays held.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use transom_protocol::Capabilities;
use transom_protocol::input::{Event, GuestInput, HostInput};
use transom_tests::{EventLog, Guest, Host, Player, Test, Uml, machine_test};

const LIMIT: Duration = Duration::from_secs(120);
/// For commands in the guest that wait for a game.
const SOON: Duration = Duration::from_secs(30);

const PAD: &str = "Microsoft X-Box 360 pad";

fn begin(test: &Test) -> Result<(Guest, EventLog)> {
    let guest = Uml::new(test).boot()?;
    guest.start_agent(&[])?;
    let log = EventLog::start(&guest, test)?;
    for device in ["keyboard", "mouse", "tablet", "touch screen"] {
        log.wait(0, &format!("+ Transom {device}"))?;
    }
    Ok((guest, log))
}

/// Waits for events of a device, each behind the one before.
fn wait_all(log: &EventLog, start: usize, device: &str, events: &[&str]) -> Result<usize> {
    events
        .iter()
        .try_fold(start, |at, event| Ok(log.wait(at, &format!("{device}: {event} "))?.0 + 1))
}

#[test]
fn every_device_says_what_it_is_told() {
    machine_test("every device says what it is told", LIMIT, |test| {
        let (guest, log) = begin(test)?;
        let mut host = Host::connect(&guest, 1)?;
        ensure!(host.capabilities.contains(Capabilities::INPUT), "{:?}", host.capabilities);
        host.send(&HostInput::Plug { pad: 0 })?;
        let plugged = log.wait(0, &format!("+ {PAD}"))?.0;
        let ignored = host.play(&[
            Event::Key { code: 30, pressed: true },
            Event::Key { code: 30, pressed: false },
            Event::Move { dx: 7, dy: -7 },
            Event::Button { code: 0x110, pressed: true },
            Event::Button { code: 0x110, pressed: false },
            Event::Wheel { dx: 0, dy: -120 },
            Event::Place { x: 100, y: 65535 },
            Event::Button { code: 0x111, pressed: true },
            Event::Button { code: 0x111, pressed: false },
            Event::Touch { finger: 0, x: 5, y: 6 },
            Event::Touch { finger: 9, x: 7, y: 8 },
            Event::Lift { finger: 0 },
            Event::Lift { finger: 9 },
            Event::PadButton { pad: 0, code: 0x130, pressed: true },
            Event::PadButton { pad: 0, code: 0x130, pressed: false },
            Event::PadAxis { pad: 0, axis: 0, value: -32768 },
            Event::PadAxis { pad: 0, axis: 5, value: 32767 },
            Event::PadAxis { pad: 0, axis: 17, value: -1 },
        ])?;
        ensure!(ignored == 0, "{ignored} events were ignored");
        wait_all(&log, plugged, "Transom keyboard", &["1 30 1", "1 30 0"])?;
        let mouse = ["2 0 7", "2 1 -7", "0 0 0", "1 272 1", "1 272 0", "2 11 -120", "2 8 -1"];
        wait_all(&log, plugged, "Transom mouse", &mouse)?;
        let tablet = ["3 0 100", "3 1 65535", "1 273 1", "1 273 0"];
        wait_all(&log, plugged, "Transom tablet", &tablet)?;
        // Slot 0 is where the kernel starts, so that it does not tell.
        let touch = [
            "3 57 1", "3 53 5", "3 54 6", "1 330 1", "3 47 9", "3 57 2", "3 53 7", "3 47 0",
            "3 57 -1", "3 47 9", "3 57 -1", "1 330 0",
        ];
        wait_all(&log, plugged, "Transom touch screen", &touch)?;
        let pad = ["1 304 1", "1 304 0", "3 0 -32768", "3 5 255", "3 17 -1"];
        wait_all(&log, plugged, PAD, &pad)?;
        host.send(&HostInput::Unplug { pad: 0 })?;
        log.wait(plugged, &format!("- {PAD}"))?;
        Ok(())
    });
}

#[test]
fn what_is_held_is_released_however_a_connection_ends() {
    machine_test("what is held is released however a connection ends", LIMIT, |test| {
        let (guest, log) = begin(test)?;
        let press = [
            Event::Key { code: 30, pressed: true },
            Event::Button { code: 0x110, pressed: true },
            Event::Touch { finger: 3, x: 1, y: 1 },
        ];
        let released = |start: usize, ended: Instant, how: &str| -> Result<()> {
            let lines = [
                "Transom keyboard: 1 30 0 ",
                "Transom mouse: 1 272 0 ",
                "Transom touch screen: 1 330 0 ",
            ];
            for line in lines {
                log.wait(start, line)?;
            }
            println!("{how}: released {:?} later", ended.elapsed());
            Ok(())
        };
        type End = fn(&mut Host, &Guest) -> Result<()>;
        let ends: [(&str, End); 5] = [
            ("release all", |host, _| host.send(&HostInput::ReleaseAll)),
            ("input closed", |host, _| host.close_input()),
            ("control closed", |host, _| host.close_control()),
            ("nonsense", |host, _| {
                host.send(&HostInput::Plug { pad: 77 })?;
                host.push(&[]).map(drop)?;
                host.send_bytes(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 200])
            }),
            ("another relay", |_, guest| {
                Host::connect(guest, 99)?;
                Ok(())
            }),
        ];
        for (number, (how, end)) in ends.into_iter().enumerate() {
            let start = log.mark();
            let mut host = Host::connect(&guest, number as u64)?;
            host.play(&press)?;
            let at = log.wait(start, "Transom touch screen: 1 330 1 ")?.0;
            let ended = Instant::now();
            end(&mut host, &guest)?;
            released(at, ended, how)?;
            drop(host);
        }
        // A host that hangs says nothing more; only what is not held may be silent for long.
        let start = log.mark();
        let mut host = Host::connect(&guest, 50)?;
        host.play(&press)?;
        released(log.wait(start, "Transom touch screen: 1 330 1 ")?.0, Instant::now(), "silence")?;
        ensure!(host.play(&[])? == 0, "the connection has to survive silence");
        // And an agent that is killed takes its devices along.
        let start = log.mark();
        host.play(&press)?;
        log.wait(start, "Transom touch screen: 1 330 1 ")?;
        guest.kill_agent("KILL")?;
        for device in ["keyboard", "mouse", "tablet", "touch screen"] {
            log.wait(start, &format!("- Transom {device}"))?;
        }
        Ok(())
    });
}

#[test]
fn ten_thousand_events_and_odd_codes_harm_nobody() {
    machine_test("ten thousand events and odd codes harm nobody", LIMIT, |test| {
        let (guest, log) = begin(test)?;
        let mut host = Host::connect(&guest, 1)?;
        let odd = [
            Event::Key { code: 0, pressed: true },
            Event::Key { code: 0x110, pressed: true },
            Event::Key { code: u16::MAX, pressed: true },
            Event::Button { code: 30, pressed: true },
            Event::Touch { finger: 200, x: 0, y: 0 },
            Event::PadButton { pad: 0, code: 0x130, pressed: true },
            Event::PadAxis { pad: 9, axis: 255, value: 1 },
        ];
        let ignored = host.play(&odd)?;
        ensure!(ignored == 7, "{ignored} of 7 were ignored");

        let (before, ..) = guest.agent_usage()?;
        let started = Instant::now();
        // Keys that go down and up five thousand times, and one that is held at the end.
        let mut last = 0;
        for _ in 0..100 {
            let taps: Vec<Event> = (0..50)
                .flat_map(|i| [true, false].map(|pressed| Event::Key { code: 30 + i % 8, pressed }))
                .collect();
            last = host.push(&taps)?;
        }
        let sent = started.elapsed();
        host.push(&[Event::Key { code: 57, pressed: true }])?;
        let ignored = host.wait_written(last + 1)?;
        let (after, ..) = guest.agent_usage()?;
        println!(
            "10 000 events, sent in {sent:?}, written in {:?}; {before} to {after} KiB",
            started.elapsed()
        );
        ensure!(ignored == 7, "{ignored} were ignored");
        ensure!(after < before + 2048, "the agent grew from {before} to {after} KiB");
        let at = log.wait(0, "Transom keyboard: 1 57 1 ")?.0;
        let lines = log.lines();
        let count = |value| {
            let is = |l: &&String| {
                l.strip_prefix("Transom keyboard: 1 ")
                    .is_some_and(|rest| rest.split(' ').nth(1) == Some(value))
            };
            lines[..at].iter().filter(is).count()
        };
        // The reader may be too slow for the kernel's buffer, which then says so; a release is
        // never missing at the end, whatever it saw.
        println!("the log has {} presses and {} releases", count("1"), count("0"));
        drop(host);
        log.wait(at, "Transom keyboard: 1 57 0 ")?;
        Ok(())
    });
}

#[test]
fn games_take_the_gamepad_for_an_xbox_one_and_shake_it() {
    machine_test("games take the gamepad for an xbox one and shake it", LIMIT, |test| {
        let (guest, log) = begin(test)?;
        guest
            .run("/usr/lib/systemd/systemd-udevd --daemon && udevadm trigger && udevadm settle")?;
        let mut host = Host::connect(&guest, 1)?;
        for pad in 0..4 {
            host.send(&HostInput::Plug { pad })?;
        }
        (0..4).try_fold(0, |at, _| {
            Ok::<_, anyhow::Error>(log.wait(at, &format!("+ {PAD}"))?.0 + 1)
        })?;
        host.play(&[Event::PadAxis { pad: 3, axis: 0, value: 99 }])?;
        log.wait(0, &format!("{PAD}: 3 0 99 "))?;
        for pad in 1..4 {
            host.send(&HostInput::Unplug { pad })?;
        }
        host.play(&[])?;
        guest.run("udevadm settle")?;
        let told = guest.run(&format!("/host/bin/evlog describe '{PAD}'"))?;
        ensure!(told.starts_with("0003:045e:028e:0114"), "{told}");
        ensure!(told.contains("ID_INPUT_JOYSTICK=1"), "{told}");

        let shake = format!("/host/bin/evlog shake '{PAD}' 65535 4096 250 >/run/shake 2>&1 &");
        guest.run(&shake)?;
        let is = |answer: &GuestInput, ms| matches!(answer, GuestInput::Rumble { pad: 0, duration, .. } if *duration == ms);
        let first = host.answer()?;
        ensure!(
            first == GuestInput::Rumble { pad: 0, strong: 65535, weak: 4096, duration: 250 },
            "{first:?}"
        );
        let then = host.answer()?;
        ensure!(is(&then, 0), "{then:?}");

        guest.run("/host/bin/evlog sdl </dev/null >/run/sdl 2>&1 & echo $! >/run/sdl.pid")?;
        let first = host.answer()?;
        ensure!(matches!(first, GuestInput::Rumble { strong: 65535, weak: 4096, .. }), "{first:?}");
        host.play(&[
            Event::PadButton { pad: 0, code: 0x133, pressed: true },
            Event::PadAxis { pad: 0, axis: 3, value: -20000 },
            Event::PadAxis { pad: 0, axis: 2, value: 32767 },
        ])?;
        let told = guest.sh(
            "until grep -q 'axis 4' /run/sdl; do sleep 0.1; done; kill $(cat /run/sdl.pid); cat /run/sdl",
            SOON,
        )?;
        println!("{}", told.text);
        for line in ["controller 1 type 1", "button 2 1", "axis 2 -20000", "axis 4 32767"] {
            ensure!(told.text.contains(line), "SDL does not say '{line}':\n{}", told.text);
        }
        Ok(())
    });
}

#[test]
fn a_guest_without_uinput_says_so() {
    machine_test("a guest without uinput says so", LIMIT, |test| {
        let guest = Uml::new(test).boot()?;
        guest.run("rm /dev/uinput")?;
        guest.start_agent(&[])?;
        match Host::connect(&guest, 1) {
            Ok(host) => ensure!(false, "input is offered: {:?}", host.capabilities),
            Err(error) => {
                let told = format!("{error:#}");
                ensure!(told.contains("modprobe uinput"), "{told}");
            }
        }
        // It comes by itself once there is one.
        guest.run("mknod /dev/uinput c 10 223")?;
        let host = Host::connect(&guest, 2)?;
        ensure!(host.capabilities.contains(Capabilities::INPUT), "{:?}", host.capabilities);
        Ok(())
    });
}

#[test]
fn a_viewer_who_leaves_and_a_killed_relay_leave_nothing_held() {
    machine_test("a viewer who leaves and a killed relay leave nothing held", LIMIT, |test| {
        let (guest, log) = begin(test)?;
        let mut player = Player::start(test, &guest)?;
        // Two viewers: what both hold stays held until the last one goes.
        let start = log.mark();
        for order in ["1 key 30 1", "1 key 31 1", "2 key 31 1", "1 plug 2", "1 pad 2 304 1"] {
            player.tell(order)?;
        }
        log.wait(start, "Transom keyboard: 1 31 1 ")?;
        log.wait(start, &format!("+ {PAD}"))?;
        let left = Instant::now();
        player.tell("1 leave")?;
        log.wait(start, "Transom keyboard: 1 30 0 ")?;
        println!("a viewer left: released {:?} later", left.elapsed());
        log.wait(start, &format!("- {PAD}"))?;
        player.tell("2 key 32 1")?;
        let at = log.wait(start, "Transom keyboard: 1 32 1 ")?.0;
        let up = |line: &String| line.starts_with("Transom keyboard: 1 31 0");
        ensure!(!log.lines()[start..at].iter().any(up), "viewer 2 still holds it");

        let killed = Instant::now();
        player.kill();
        for key in [31, 32] {
            log.wait(at, &format!("Transom keyboard: 1 {key} 0 "))?;
        }
        println!("relay killed -9: released {:?} later", killed.elapsed());

        // An agent that comes back finds gamepads in it, and nothing held.
        let mut player = Player::start(test, &guest)?;
        player.tell("1 plug 0")?;
        player.tell("1 key 33 1")?;
        log.wait(at, "Transom keyboard: 1 33 1 ")?;
        // The first gamepad's arrival must not be taken for the second's.
        log.wait(at, &format!("+ {PAD}"))?;
        let (start, said) = (log.mark(), player.mark());
        guest.kill_agent("KILL")?;
        guest.start_agent(&[])?;
        log.wait(start, &format!("+ {PAD}"))?;
        player.wait_from(said, "ready")?;
        player.tell("1 key 33 0")?;
        player.tell("1 key 34 1")?;
        let at = log.wait(start, "Transom keyboard: 1 34 1 ")?.0;
        ensure!(
            !log.lines()[start..at].iter().any(|l| l.contains("keyboard: 1 33 1")),
            "held anew"
        );
        // A game that shakes it is felt by its viewer.
        guest.run(&format!("/host/bin/evlog shake '{PAD}' 1000 2000 300"))?;
        player.wait("rumble 1 0 1000 2000 300")?;
        Ok(())
    });
}
