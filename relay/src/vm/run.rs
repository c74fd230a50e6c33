//! Machines of QEMU on this host: makes, starts, stops and deletes them.
//!
//! ```text
//!   $XDG_STATE_HOME/transom/vms/NAME/   vm.json, efivars.fd, console.log, qemu.log, vsock.log
//!   $XDG_RUNTIME_DIR/transom/NAME/      guest.vsock (for relays), qmp, qemu.pid, device, vsock.pid
//! ```
//!
//! Whether a machine runs is what its monitor says: a file that names a process may be old. QEMU
//! and the vsock daemon outlive the command that started them.

use std::{
    env, fs, io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Definition, Name,
    kvm::{self, Verdict},
    qemu::{self, Accelerator, Firmware, Places, Vsock},
    qmp::Qmp,
};

/// What gives a machine a vsock where the kernel does not.
const DAEMON: &str = "vhost-device-vsock";
/// Between looks at something that tells nobody when it is ready.
const LOOK: Duration = Duration::from_millis(50);
/// The vsock daemon makes its socket within milliseconds.
const DAEMON_DEADLINE: Duration = Duration::from_secs(10);
/// How long a guest may take to shut down before it is switched off.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest path of a Unix socket, with the zero behind it (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// Why a machine was not made, started, stopped or deleted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image is not there.
    #[error("there is no image {0}. Build it with `make image`, or name it with --vhdx")]
    NoImage(PathBuf),
    /// No such machine.
    #[error("there is no VM named {0}. `transom vm list` shows those that are there")]
    Unknown(Name),
    /// It is running.
    #[error("{0} is running. Stop it first: transom vm stop {0}")]
    Running(Name),
    /// QEMU takes no GPU apart.
    #[error("--gpu needs Hyper-V: QEMU on Linux has no GPU partitions")]
    NoGpu,
    /// OVMF is missing.
    #[error("there is no UEFI firmware for QEMU. On Debian: apt-get install ovmf")]
    NoFirmware,
    /// QEMU is missing.
    #[error("there is no qemu-system-x86_64. On Debian: apt-get install qemu-system-x86")]
    NoQemu,
    /// There is no way to a guest's vsock.
    #[error(
        "there is no vsock: /dev/vhost-vsock cannot be used (`modprobe vhost_vsock`; are you in the \
         group kvm?), and vhost-device-vsock is not installed (`cargo install vhost-device-vsock`)"
    )]
    NoVsock,
    /// The runtime folder is another user's.
    #[error("{0} belongs to somebody else. Set XDG_RUNTIME_DIR to a folder of your own")]
    NotOurs(PathBuf),
    /// A socket's path would be too long.
    #[error("{0} is too long for a socket. Choose a shorter name, or set XDG_RUNTIME_DIR")]
    TooLong(PathBuf),
    /// A program did not start; what it said.
    #[error("{program} did not start: {said}")]
    Start {
        /// Which.
        program: String,
        /// What it said.
        said: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// The monitor failed.
    #[error("QEMU's monitor: {0}")]
    Monitor(io::Error),
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    |why| Error::File { path: path.into(), why }
}

/// Whether a machine runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// What it is like.
    pub definition: Definition,
    /// Where a relay finds it; it need not run.
    pub guest: String,
    /// Whether it runs.
    pub running: bool,
}

/// `$XDG_STATE_HOME/transom`.
pub(super) fn state_home() -> PathBuf {
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    state.or_else(home).unwrap_or_else(env::temp_dir).join("transom")
}

/// `$XDG_RUNTIME_DIR/transom`, or a folder of this user's in /tmp.
fn run_home() -> PathBuf {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    runtime.map_or_else(
        || env::temp_dir().join(format!("transom-{}", user())),
        |runtime| runtime.join("transom"),
    )
}

/// The effective user: the owner of what we are.
fn user() -> u32 {
    fs::metadata("/proc/self").map_or(0, |meta| meta.uid())
}

/// Where relays and `transom list` find the sockets of machines.
pub fn run_folder() -> PathBuf {
    run_home()
}

fn places(name: &Name) -> Places {
    Places {
        state: state_home().join("vms").join(name.as_str()),
        run: run_home().join(name.as_str()),
    }
}

fn definition_file(places: &Places) -> PathBuf {
    places.state.join("vm.json")
}

/// What has to be run to start a machine.
#[derive(Debug)]
pub struct Plan {
    /// Its files and sockets.
    pub places: Places,
    /// First this, if anything.
    pub vsock: Option<super::Command>,
    /// Then this.
    pub qemu: super::Command,
    /// Where a relay finds the guest.
    pub guest: String,
}

/// The plan for a machine, with KVM or without.
///
/// # Errors
///
/// What it needs and is missing.
pub fn plan(vm: &Definition, accelerator: Accelerator) -> Result<Plan, Error> {
    if vm.gpu {
        return Err(Error::NoGpu);
    }
    let places = places(&vm.name);
    let firmware = Firmware::find(vm.secure_boot).ok_or(Error::NoFirmware)?;
    let vsock = vsock(&vm.name)?;
    let guest = guest(&places, &vsock);
    for socket in [places.guest_socket(), places.monitor()] {
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(Error::TooLong(socket));
        }
    }
    Ok(Plan {
        vsock: qemu::vsock_command(&vsock, &places),
        qemu: qemu::command(vm, &places, &firmware, &vsock, accelerator),
        guest,
        places,
    })
}

fn guest(places: &Places, vsock: &Vsock) -> String {
    match vsock {
        Vsock::Kernel { cid } => format!("vsock:{cid}"),
        Vsock::Daemon { .. } => format!("unix:{}", places.guest_socket().display()),
    }
}

fn vsock(name: &Name) -> Result<Vsock, Error> {
    if fs::File::options().read(true).write(true).open("/dev/vhost-vsock").is_ok() {
        return Ok(Vsock::Kernel { cid: cid(name) });
    }
    Ok(Vsock::Daemon { program: daemon().ok_or(Error::NoVsock)? })
}

/// The daemon that gives machines a vsock, in the path or in this project's cache.
pub(super) fn daemon() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cache = env::var_os("TRANSOM_CACHE").map(PathBuf::from).or_else(|| {
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        cache.or_else(home).map(|cache| cache.join("transom"))
    });
    let built = cache.map(|cache| cache.join(DAEMON).join("bin"));
    env::split_paths(&path)
        .chain(built)
        .map(|folder| folder.join(DAEMON))
        .find(|path| path.is_file())
}

/// A CID that stays the same: FNV-1a of the name, away from the small numbers that people choose.
fn cid(name: &Name) -> u32 {
    let hash = name
        .as_str()
        .bytes()
        .fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    0x1_0000 | hash & 0x7fff_ffff
}

/// Makes a machine, or makes it what it should be.
///
/// # Errors
///
/// The image is missing, the machine is running, or a file cannot be written.
pub fn create(vm: &Definition) -> Result<(), Error> {
    if vm.gpu {
        return Err(Error::NoGpu);
    }
    let image = &vm.vhdx;
    let vhdx = fs::canonicalize(image).map_err(|_| Error::NoImage(image.clone()))?;
    let places = places(&vm.name);
    if is_running(&places) {
        return Err(Error::Running(vm.name.clone()));
    }
    let firmware = Firmware::find(vm.secure_boot).ok_or(Error::NoFirmware)?;
    private_folder(&places.state)?;
    let variables = places.variables();
    fs::copy(&firmware.variables, &variables).map_err(file(&variables))?;
    let vm = Definition { vhdx, ..vm.clone() };
    let text = serde_json::to_string_pretty(&vm).map_err(io::Error::from);
    // Complete or not at all: a definition is what makes a folder a machine.
    let (path, new) = (definition_file(&places), places.state.join("vm.json.new"));
    text.and_then(|text| fs::write(&new, text + "\n"))
        .and_then(|()| fs::rename(&new, &path))
        .map_err(file(&path))
}

/// What a machine is like.
///
/// # Errors
///
/// There is none of this name, or its file does not read.
pub fn definition(name: &Name) -> Result<Definition, Error> {
    let path = definition_file(&places(name));
    let text = fs::read_to_string(&path).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => Error::Unknown(name.clone()),
        _ => Error::File { path: path.clone(), why },
    })?;
    serde_json::from_str(&text).map_err(|e| Error::File { path, why: e.into() })
}

/// All machines of this user, by name.
pub fn list() -> Vec<Machine> {
    let Ok(folder) = fs::read_dir(state_home().join("vms")) else { return Vec::new() };
    let mut machines: Vec<Machine> = folder
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let (definition, places) = (definition(&name).ok()?, places(&name));
            let guest = guest(&places, &vsock(&name).ok()?);
            Some(Machine { definition, guest, running: is_running(&places) })
        })
        .collect();
    machines.sort_by(|a, b| a.definition.name.as_str().cmp(b.definition.name.as_str()));
    machines
}

fn is_running(places: &Places) -> bool {
    Qmp::connect(&places.monitor()).is_ok()
}

/// Starts a machine unless it runs; yields where a relay finds it. `say` hears what takes time.
///
/// # Errors
///
/// What it needs and is missing, or what QEMU says.
pub fn start(name: &Name, say: &mut dyn FnMut(&str)) -> Result<String, Error> {
    let vm = definition(name)?;
    if !vm.vhdx.is_file() {
        return Err(Error::NoImage(vm.vhdx));
    }
    if is_running(&places(name)) {
        return Ok(plan(&vm, Accelerator::Kvm)?.guest);
    }
    let verdict = kvm::verdict();
    if verdict == Verdict::Unknown {
        say("trying KVM, for at most 30 s");
    }
    if verdict != Verdict::Useless {
        let plan = plan(&vm, Accelerator::Kvm)?;
        let started = launch(&plan);
        let works = verdict == Verdict::Works || started.is_ok() && kernel_speaks(&plan.places);
        if verdict == Verdict::Unknown {
            // Found out again next time, if it cannot be kept.
            let _ = kvm::remember(works);
        }
        if works {
            return started.map(|()| plan.guest);
        }
        switch_off(&plan.places);
    }
    say("KVM boots no kernel here: the machine is emulated. Everything works, slowly");
    let plan = plan(&vm, Accelerator::Emulation)?;
    launch(&plan).map(|()| plan.guest)
}

fn launch(plan: &Plan) -> Result<(), Error> {
    let places = &plan.places;
    private_folder(&places.run)?;
    for old in [places.monitor(), places.guest_socket(), places.vsock_device(), places.pid_file()] {
        let _ = fs::remove_file(old);
    }
    let console = places.console();
    fs::write(&console, "").map_err(file(&console))?;
    if let Some(daemon) = &plan.vsock {
        let log = places.state.join("vsock.log");
        let output = fs::File::create(&log).map_err(file(&log))?;
        let mut child = spawn(daemon, output, &log)?;
        let end = Instant::now() + DAEMON_DEADLINE;
        while !places.vsock_device().exists() {
            let ended = child.try_wait().map_err(file(&log))?.is_some();
            if ended || Instant::now() > end {
                let _ = child.kill();
                return Err(failed(daemon, &log));
            }
            sleep(LOOK);
        }
        let path = places.daemon_pid_file();
        fs::write(&path, child.id().to_string()).map_err(file(&path))?;
    }
    let log = places.state.join("qemu.log");
    let output = fs::File::create(&log).map_err(file(&log))?;
    // -daemonize: it returns once the machine runs, or with the reason why not.
    let status = spawn(&plan.qemu, output, &log)?.wait().map_err(file(&log))?;
    if status.success() {
        return Ok(());
    }
    end_daemon(places);
    Err(failed(&plan.qemu, &log))
}

/// A process that no key press in our terminal reaches.
fn spawn(
    command: &super::Command,
    log: fs::File,
    path: &Path,
) -> Result<std::process::Child, Error> {
    let errors = log.try_clone().map_err(file(path))?;
    std::process::Command::new(&command.words[0])
        .args(&command.words[1..])
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::NoQemu,
            _ => Error::Start { program: command.words[0].clone(), said: e.to_string() },
        })
}

fn failed(command: &super::Command, log: &Path) -> Error {
    let said = fs::read_to_string(log).unwrap_or_default();
    let said = said.trim().lines().last().unwrap_or("it said nothing").to_owned();
    Error::Start { program: command.words[0].clone(), said }
}

fn kernel_speaks(places: &Places) -> bool {
    let end = Instant::now() + kvm::DEADLINE;
    while Instant::now() < end && is_running(places) {
        let console = fs::read(places.console()).unwrap_or_default();
        if console.windows(13).any(|window| window == b"Linux version") {
            return true;
        }
        sleep(LOOK);
    }
    false
}

/// Stops a machine: by its power button, and by force if that does not help or at once with `now`.
/// Yields whether it was running.
///
/// # Errors
///
/// There is no such machine, or the monitor fails.
pub fn stop(name: &Name, now: bool, say: &mut dyn FnMut(&str)) -> Result<bool, Error> {
    definition(name)?;
    let places = places(name);
    let Ok(mut monitor) = Qmp::connect(&places.monitor()) else {
        end_daemon(&places);
        let _ = fs::remove_dir_all(&places.run);
        return Ok(false);
    };
    if !now {
        say("asking the guest to shut down");
        monitor.run("system_powerdown").map_err(Error::Monitor)?;
        // The monitor serves one at a time, and we want to see it go.
        drop(monitor);
        let end = Instant::now() + PATIENCE;
        while is_running(&places) && Instant::now() < end {
            sleep(LOOK);
        }
        if is_running(&places) {
            say("the guest does not shut down: switching it off");
        }
    }
    switch_off(&places);
    let _ = fs::remove_dir_all(&places.run);
    Ok(true)
}

fn switch_off(places: &Places) {
    if let Ok(mut monitor) = Qmp::connect(&places.monitor()) {
        // The end of the connection is an answer, too.
        let _ = monitor.run("quit");
    }
    let end = Instant::now() + DAEMON_DEADLINE;
    while is_running(places) && Instant::now() < end {
        sleep(LOOK);
    }
    end_daemon(places);
}

/// The vsock daemon waits for the next machine when its own is gone.
fn end_daemon(places: &Places) {
    let path = places.daemon_pid_file();
    let Some(pid) = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()) else {
        return;
    };
    let _ = fs::remove_file(path);
    // The number may belong to another program by now; the kernel shows 15 bytes of a name.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.trim() == &DAEMON[..15] {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

/// Deletes a machine and its files; the image stays.
///
/// # Errors
///
/// There is no such machine, it is running, or a file cannot be deleted.
pub fn delete(name: &Name) -> Result<(), Error> {
    definition(name)?;
    let places = places(name);
    if is_running(&places) {
        return Err(Error::Running(name.clone()));
    }
    let _ = fs::remove_dir_all(&places.run);
    fs::remove_dir_all(&places.state).map_err(file(&places.state))
}

/// A folder for this user alone. One in /tmp that another made before us would let them in.
fn private_folder(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(file(path))?;
    for path in [Some(path), path.parent()].into_iter().flatten() {
        let meta = fs::symlink_metadata(path).map_err(file(path))?;
        if meta.uid() != user() || !meta.is_dir() {
            return Err(Error::NotOurs(path.into()));
        }
    }
    Ok(())
}
