//! A running guest, of whichever kind, and what a test does with it.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::picture::Picture;
use crate::process::Process;
use crate::qemu::{Accelerator, Qemu};
use crate::qmp::Qmp;
use crate::run::Test;
use crate::shell::{Output, Shell};
use crate::transcript::Transcript;
use crate::vsock::{self, VsockDevice};

/// The agent's port, as both sides agreed on it.
const AGENT_PORT: u32 = 29810;
/// From reset to shell; half a minute on an idle machine of two cores without KVM.
pub(crate) const BOOT_DEADLINE: Duration = Duration::from_secs(240);
/// For commands that are over at once, even in an emulated guest under load.
const SOON: Duration = Duration::from_secs(30);

/// A guest; dropped means powered off without notice.
pub struct Guest {
    test: Test,
    name: String,
    machine: Machine,
    vsock: Option<VsockDevice>,
    shell: Shell,
    console: Transcript,
}

/// What runs the guest.
pub(crate) enum Machine {
    /// User-mode Linux: an ordinary process.
    Uml {
        /// The kernel.
        process: Process,
    },
    /// QEMU, with its monitor.
    Qemu {
        /// The emulator.
        process: Process,
        /// Its monitor.
        qmp: Qmp,
        /// The number of the guest on `/dev/vhost-vsock`, if that is in use.
        cid: Option<u32>,
        /// How it was started.
        plan: Box<Qemu>,
        /// With what.
        accelerator: Accelerator,
    },
}

impl Guest {
    pub(crate) fn new(
        test: &Test,
        name: &str,
        machine: Machine,
        vsock: Option<VsockDevice>,
        shell: Shell,
        console: Transcript,
    ) -> Self {
        Self { test: test.clone(), name: name.into(), machine, vsock, shell, console }
    }

    /// Runs a shell command as root and waits for its end.
    pub fn sh(&self, command: &str, deadline: Duration) -> Result<Output> {
        self.shell.run(command, deadline)
    }

    /// Runs a short shell command that has to succeed; returns what it printed.
    pub fn run(&self, command: &str) -> Result<String> {
        let output = self.sh(command, SOON)?;
        ensure!(output.status == 0, "`{command}` failed ({}): {}", output.status, output.text);
        Ok(output.text)
    }

    /// Where a relay finds the guest: `unix:PATH` or `vsock:CID`.
    pub fn address(&self) -> String {
        match (&self.vsock, &self.machine) {
            (_, Machine::Qemu { cid: Some(cid), .. }) => format!("vsock:{cid}"),
            (Some(vsock), _) => format!("unix:{}", vsock.hybrid().display()),
            (None, _) => unreachable!("a guest has a daemon or a number of its own"),
        }
    }

    /// The hybrid socket, where the guest has one.
    pub fn vsock(&self) -> Result<PathBuf> {
        Ok(self.vsock.as_ref().context("this guest has no hybrid socket")?.hybrid().into())
    }

    /// A raw connection to a vsock port of the guest, for peers that misbehave.
    pub fn connect(&self, port: u32) -> Result<UnixStream> {
        vsock::connect(&self.vsock()?, port, SOON)
    }

    /// A raw connection to the agent.
    pub fn connect_agent(&self) -> Result<UnixStream> {
        self.connect(AGENT_PORT)
    }

    /// What the guest's kernel and first console said so far.
    pub fn console(&self) -> String {
        self.console.text()
    }

    /// Waits until something appears on the console.
    pub fn wait_console(&self, pattern: &str, deadline: Duration) -> Result<()> {
        self.console.wait(pattern, deadline)
    }

    /// The same, not counting what the console had said at the mark `start`.
    pub fn wait_console_from(&self, start: usize, pattern: &str, deadline: Duration) -> Result<()> {
        self.console.wait_from(start, deadline, pattern, |t| t.contains(pattern).then_some(()))
    }

    /// A mark for [`Guest::wait_console_from`].
    pub fn console_mark(&self) -> usize {
        self.console.len()
    }

    /// What the machine's own screen shows (QEMU only).
    pub fn screendump(&mut self) -> Result<Picture> {
        let path = self.test.dir().join(format!("{}-screendump.ppm", self.name));
        let Machine::Qemu { qmp, .. } = &mut self.machine else {
            bail!("user-mode Linux has no screen to dump: ask its testcard");
        };
        qmp.run("screendump", &format!(r#"{{"filename": "{}"}}"#, path.display()))?;
        Picture::read_ppm(&path)
    }

    /// Has the guest reboot itself and waits until its shell is back (QEMU only).
    ///
    /// The machine is a new one then, with the same sockets: a guest that resets while a
    /// host talks to it leaves vhost-device-vsock 0.3 without its worker thread, which
    /// ends at the first event that finds no queues.
    pub fn reboot(&mut self) -> Result<()> {
        // The shell ends before the command does.
        let _ = self.sh("systemctl reboot", Duration::from_secs(1));
        self.process().wait(BOOT_DEADLINE).context("the guest does not go down")?;
        self.power_cycle()
    }

    /// Pulls the plug, plugs it in again, and waits until the shell is back (QEMU only).
    pub fn power_cycle(&mut self) -> Result<()> {
        let Machine::Qemu { process, plan, accelerator, .. } = &mut self.machine else {
            bail!("user-mode Linux has no plug: boot another guest");
        };
        process.kill();
        let (plan, accelerator) = (plan.clone(), *accelerator);
        self.vsock = None;
        *self = plan.boot_again(accelerator)?;
        Ok(())
    }

    /// The process that runs the guest.
    pub fn process(&mut self) -> &mut Process {
        match &mut self.machine {
            Machine::Uml { process } | Machine::Qemu { process, .. } => process,
        }
    }

    /// Starts this project's agent in the guest and waits until it listens. Its log is
    /// `agent.log` in the test's folder. For user-mode Linux only: the image has its own.
    pub fn start_agent(&self, args: &[&str]) -> Result<()> {
        self.need_uml()?;
        let args = args.join(" ");
        // A guest with a VA-API driver is there to use it.
        if let Some(encoder) = other_encoder()? {
            self.run(&format!(
                "[ -n \"$LIBVA_DRIVER_NAME\" ] || export TRANSOM_ENCODER=${{TRANSOM_ENCODER:-{encoder}}}"
            ))?;
        }
        self.run(&format!(
            "RUST_LOG=${{RUST_LOG:-debug}} setsid /host/bin/transom-agent {args} \
             </dev/null >>/host/log/agent.log 2>&1 & echo $! >/run/agent.pid"
        ))?;
        // A connection is the event: the guest has nothing to poll for a vsock listener.
        let end = std::time::Instant::now() + SOON;
        loop {
            match self.connect_agent() {
                Ok(_) => return Ok(()),
                Err(error) if std::time::Instant::now() > end => {
                    return Err(error.context("the agent does not listen; see agent.log"));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
            self.run("kill -0 $(cat /run/agent.pid)")
                .map_err(|_| anyhow::anyhow!("the agent ended; its log:\n{}", self.agent_log()))?;
        }
    }

    /// Ends the agent with a signal and waits until it is gone.
    pub fn kill_agent(&self, signal: &str) -> Result<()> {
        self.need_uml()?;
        self.run(&format!(
            "kill -{signal} $(cat /run/agent.pid); while kill -0 $(cat /run/agent.pid); do sleep 0.02; done"
        ))
        .map(drop)
    }

    /// What the agent said so far.
    pub fn agent_log(&self) -> String {
        std::fs::read_to_string(self.test.dir().join("agent.log")).unwrap_or_default()
    }

    /// Resident memory of the agent in KiB, its number of open files, and its threads.
    pub fn agent_usage(&self) -> Result<(u64, u64, u64)> {
        let text = self.run(
            "p=$(pidof transom-agent) && awk '/^VmRSS|^Threads/ {print $2}' /proc/$p/status && ls /proc/$p/fd | wc -l",
        )?;
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|w| w.parse().ok()).collect();
        let [rss, threads, files] = numbers[..] else { bail!("odd /proc of the agent: {text}") };
        Ok((rss, files, threads))
    }

    /// Takes the guest's screen and waits for orders: see `src/bin/testcard/main.rs`.
    pub fn testcard(&self) -> Result<Testcard<'_>> {
        self.need_uml()?;
        self.run(
            "rm -f /run/card.in /run/card.out; mkfifo /run/card.in /run/card.out; \
             setsid /host/bin/testcard </run/card.in >/run/card.out 2>>/host/log/testcard.log & \
             exec 8>/run/card.in 9</run/card.out",
        )?;
        let card = Testcard { guest: self };
        card.answer(SOON)?;
        Ok(card)
    }

    /// Starts the image's own compositor with the image's own program on VKMS, as root.
    /// For user-mode Linux only: in QEMU the image does so by itself.
    pub fn start_compositor(&self) -> Result<()> {
        self.need_uml()?;
        self.run(
            "/usr/lib/systemd/systemd-udevd --daemon && udevadm trigger && udevadm settle && \
             card=$(basename $(ls -d /sys/devices/faux/vkms/drm/card* /sys/devices/platform/vkms/drm/card* 2>/dev/null | head -1)) && \
             eval \"$(sed -n 's/^KIOSK=\\(.*\\)/KIOSK=\"\\1\"/p; /^[A-Z_]*=[^ ]*$/s/^/export /p' /etc/transom/kiosk)\" && \
             export XDG_RUNTIME_DIR=/run/user LIBSEAT_BACKEND=noop WLR_RENDERER=pixman \
                    WLR_LIBINPUT_NO_DEVICES=1 WLR_DRM_DEVICES=/dev/dri/$card \
                    SDL_VIDEO_WAYLAND_ALLOW_LIBDECOR=0",
        )?;
        self.run("setsid cage -d -- $KIOSK </dev/null >>/host/log/cage.log 2>&1 &").map(drop)
    }

    fn need_uml(&self) -> Result<()> {
        match self.machine {
            Machine::Uml { .. } => Ok(()),
            Machine::Qemu { .. } => bail!("the image has its own agent and no testcard"),
        }
    }
}

/// The helper that draws known pictures on the guest's screen.
pub struct Testcard<'a> {
    guest: &'a Guest,
}

impl Testcard<'_> {
    /// Gives an order and returns the answer behind its `ok`.
    pub fn tell(&mut self, order: &str) -> Result<String> {
        self.tell_within(order, SOON)
    }

    /// The same for orders that take their time.
    pub fn tell_within(&mut self, order: &str, deadline: Duration) -> Result<String> {
        self.guest.run(&format!("echo '{order}' >&8"))?;
        self.answer(deadline).with_context(|| format!("testcard: {order}"))
    }

    /// The picture that the screen shows now, cursor included.
    pub fn expected(&mut self) -> Result<Picture> {
        self.tell("expect /host/log/expected.ppm")?;
        Picture::read_ppm(&self.guest.test.dir().join("expected.ppm"))
    }

    /// When each flip was asked for, in nanoseconds of the guest's monotonic clock, with
    /// the number that the frame carries in its top row.
    pub fn flips(&mut self) -> Result<Vec<(u32, u64)>> {
        self.tell("flips /host/log/flips")?;
        let path = self.guest.test.dir().join("flips");
        BufReader::new(std::fs::File::open(path)?)
            .lines()
            .map(|line| {
                let line = line?;
                let parsed = line
                    .split_once(' ')
                    .and_then(|(n, at)| Some((n.parse().ok()?, at.parse().ok()?)));
                parsed.with_context(|| format!("odd line in flips: {line}"))
            })
            .collect()
    }

    fn answer(&self, deadline: Duration) -> Result<String> {
        let Output { text, .. } =
            self.guest.sh("read -r answer <&9; echo \"$answer\"", deadline)?;
        match text.strip_prefix("ok") {
            Some(rest) => Ok(rest.trim().into()),
            None if text.is_empty() => bail!("the testcard ended; see testcard.log"),
            None => bail!("{text}"),
        }
    }
}

/// Another encoder than the agent's own choice, for whole suites: `TRANSOM_TEST_ENCODER`.
///
/// # Errors
///
/// It is no name.
pub fn other_encoder() -> Result<Option<String>> {
    let encoder = std::env::var("TRANSOM_TEST_ENCODER").unwrap_or_default();
    ensure!(encoder.chars().all(char::is_alphanumeric), "there is no encoder '{encoder}'");
    Ok(Some(encoder).filter(|encoder| !encoder.is_empty()))
}
