//! Where a guest is, and one kind of stream to it.
//!
//! In: a [`GuestAddr`] and a port. Out: a connected [`GuestStream`], or an error that tells the
//! ways to fail apart and says what to do about each. Every connect has a deadline.

use std::{
    fmt, io,
    net::SocketAddr,
    path::PathBuf,
    str::FromStr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

pub mod hybrid;
pub mod hyperv;
#[cfg(target_os = "linux")]
mod vsock;

use hybrid::{Handshake, HandshakeError};
use hyperv::VmRef;

/// How long one connect may take. A guest under emulation answers within a second; a raw connect
/// to a guest that does not run can block for good.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the answer of a hybrid socket may take before it is closed, though nobody waits for it:
/// at most so many attempts of a relay lie about as fit into it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// A byte stream to the guest, whatever carries it.
#[cfg(unix)]
pub type GuestStream = tokio::net::UnixStream;
/// A byte stream to the guest, whatever carries it.
#[cfg(not(unix))]
pub type GuestStream = tokio::net::TcpStream;

/// Where a guest's vsock ports are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestAddr {
    /// A hybrid vsock socket.
    Unix(PathBuf),
    /// AF_VSOCK of a Linux host.
    Vsock {
        /// The guest's context id.
        cid: u32,
    },
    /// A Hyper-V machine of a Windows host.
    HyperV(VmRef),
    /// A hybrid vsock socket at the other end of a tunnel: for tests of the Windows program, and
    /// for `ssh -L`. Loopback alone, for nothing on the way would be encrypted.
    Tcp(SocketAddr),
}

/// Why a text names no guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Neither of the known kinds.
    #[error("a guest is unix:PATH, vsock:CID or, on Windows, hyperv:NAME")]
    Kind,
    /// A name that would not do in a URL.
    #[error("a name in front of = has 1 to {MAX_NAME} letters, digits, '-', '_' or '.'")]
    Name,
    /// `unix:` alone.
    #[error("unix: needs the path of the guest's vsock socket behind it")]
    NoPath,
    /// Not a context id.
    #[error("vsock: needs a guest's CID behind it, a number from 3 on (1 and 2 are the host)")]
    Cid,
    /// `hyperv:` alone.
    #[error("hyperv: needs the name or the GUID of a VM behind it. `transom vm list` shows them")]
    NoVm,
    /// No loopback address, or no port.
    #[error(
        "tcp: is for tunnels to a hybrid vsock socket and needs a loopback address and a port \
         behind it, such as tcp:127.0.0.1:7472"
    )]
    Tcp,
    /// A Hyper-V guest, and this is no Windows build.
    #[error("hyperv:NAME needs the Windows build of transom, run on the Hyper-V host")]
    HyperV,
}

impl FromStr for GuestAddr {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.split_once(':') {
            Some(("unix", "")) => Err(ParseError::NoPath),
            Some(("unix", path)) => Ok(Self::Unix(path.into())),
            Some(("vsock", cid)) => match cid.parse() {
                Ok(cid) if (3..u32::MAX).contains(&cid) => Ok(Self::Vsock { cid }),
                _ => Err(ParseError::Cid),
            },
            Some(("hyperv", _)) if !cfg!(windows) => Err(ParseError::HyperV),
            Some(("hyperv", vm)) => vm.parse().map(Self::HyperV).map_err(|_| ParseError::NoVm),
            Some(("tcp", address)) => match address.parse::<SocketAddr>() {
                Ok(address) if address.ip().is_loopback() && address.port() != 0 => {
                    Ok(Self::Tcp(address))
                }
                _ => Err(ParseError::Tcp),
            },
            _ => Err(ParseError::Kind),
        }
    }
}

impl fmt::Display for GuestAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock { cid } => write!(f, "vsock:{cid}"),
            Self::HyperV(vm) => write!(f, "hyperv:{vm}"),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// Longest name of a guest in bytes.
const MAX_NAME: usize = 64;

/// A guest and what to call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedGuest {
    /// The user's choice; letters, digits, `-`, `_` and `.`, for it becomes part of URLs.
    pub name: Option<String>,
    /// Where it is.
    pub guest: GuestAddr,
}

impl FromStr for NamedGuest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.split_once('=') {
            // An equals sign behind the colon belongs to a path.
            Some((name, guest)) if !name.contains(':') => {
                if is_name(name) {
                    Ok(Self { name: Some(name.into()), guest: guest.parse()? })
                } else {
                    Err(ParseError::Name)
                }
            }
            _ => Ok(Self { name: None, guest: text.parse()? }),
        }
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(is_name_byte)
        && name.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

/// The nearest name that is fit for a URL.
fn fit_name(text: &str) -> String {
    let fit = |c: char| if c.is_ascii() && is_name_byte(c as u8) { c } else { '-' };
    let name: String = text.chars().take(MAX_NAME).map(fit).collect();
    if is_name(&name) { name } else { "guest".into() }
}

/// A name for each guest, all different: the user's own, else the stem of the socket's file or
/// the CID, with a number behind it where that is taken.
pub fn names(guests: &[NamedGuest]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(guests.len());
    for NamedGuest { name, guest } in guests {
        let name = name.clone().unwrap_or_else(|| match guest {
            GuestAddr::Vsock { cid } => format!("vsock-{cid}"),
            GuestAddr::Unix(path) => {
                let stem = path.file_stem().map(|stem| stem.to_string_lossy());
                fit_name(&stem.unwrap_or_default())
            }
            GuestAddr::HyperV(vm) => fit_name(&vm.to_string()),
            GuestAddr::Tcp(address) => format!("tcp-{}", address.port()),
        });
        let numbered = (2..).map(|n| format!("{name}-{n}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|n| !names.contains(n));
        names.extend(free);
    }
    names
}

/// Why a guest could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("{guest}, port {port}: {cause}")]
pub struct ConnectError {
    /// Which guest.
    pub guest: GuestAddr,
    /// Which vsock port.
    pub port: u32,
    /// What happened.
    pub cause: Cause,
}

/// What happened when a guest was not reached, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// No such path.
    #[error("there is no such file. Is the VM started, and is this its vsock socket (uds-path)?")]
    NoSuchPath,
    /// A file of another kind.
    #[error("this is no socket. Name the VM's vsock socket (uds-path)")]
    NotASocket,
    /// Access denied.
    #[error("permission denied. Run as the user who started the VM, or with sudo")]
    Permission,
    /// A socket without a listener.
    #[error("nobody listens on this socket. The hypervisor is gone: start the VM")]
    HypervisorGone,
    /// No agent yet, or not any more.
    #[error(
        "no agent listens in the guest. It may still be booting; else look at transom-agent.service there"
    )]
    NoAgent,
    /// No such VM.
    #[error("no VM with this CID runs")]
    NoVm,
    /// No vsock on this host.
    #[error("this host has no vsock. Try `modprobe vhost_vsock`, or use unix:PATH")]
    NoVsock,
    /// A hybrid socket, on Windows.
    #[error("hybrid vsock sockets are for Linux hosts: on Windows name a Hyper-V VM, hyperv:NAME")]
    NoHybrid,
    /// Nothing at the near end of a tunnel.
    #[error("nobody listens at this end of the tunnel. Is it up?")]
    NoTunnel,
    /// No such machine on this host.
    #[error("there is no VM of this name. `transom vm list` shows those that are there")]
    NoSuchVm,
    /// More than one.
    #[error("there are several VMs of this name. Name it by its GUID: `transom vm list` shows it")]
    AmbiguousVm,
    /// It does not run.
    #[error("the VM is not running. Start it: transom vm start NAME")]
    VmOff,
    /// Hyper-V sockets are for some users only.
    #[error(
        "access denied. Join the group Hyper-V Administrators (net localgroup \"Hyper-V \
         Administrators\" %USERNAME% /add, then sign in again), or run this elevated"
    )]
    NotHyperVAdministrator,
    /// The role is missing.
    #[error(
        "Hyper-V is not installed. In an elevated PowerShell: Enable-WindowsOptionalFeature \
         -Online -FeatureName Microsoft-Hyper-V-All"
    )]
    NoHyperV,
    /// The hypervisor did not list its machines.
    #[error("{0}")]
    NoList(String),
    /// Not the protocol of a hybrid socket.
    #[error(transparent)]
    Handshake(HandshakeError),
    /// No answer in time.
    #[error("no answer within {} s. The guest may hang or still be booting", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    /// Anything else.
    #[error(transparent)]
    Io(io::Error),
}

impl Cause {
    /// Whether waiting cannot help: worth ending at once when nothing was ever connected.
    pub fn is_users_to_mend(&self) -> bool {
        matches!(self, Self::NoSuchPath | Self::NotASocket | Self::Permission | Self::NoVsock)
            || matches!(self, Self::NoSuchVm | Self::AmbiguousVm | Self::NoHyperV)
            || matches!(self, Self::NotHyperVAdministrator | Self::NoHybrid | Self::NoList(_))
            || matches!(self, Self::Handshake(HandshakeError::Strange(_)))
            || matches!(self, Self::Io(e) if e.kind() == io::ErrorKind::InvalidInput)
    }
}

/// Connects to a port of the guest.
///
/// # Errors
///
/// Guest, port and the cause with its remedy.
pub async fn connect(guest: &GuestAddr, port: u32) -> Result<GuestStream, ConnectError> {
    let attempt = async {
        match guest {
            GuestAddr::Unix(path) => see_through(connect_hybrid(path.clone(), port)).await,
            GuestAddr::Vsock { cid } => connect_vsock(*cid, port).await,
            GuestAddr::HyperV(vm) => connect_hyperv(vm, port).await,
            GuestAddr::Tcp(address) => see_through(connect_tunnel(*address, port)).await,
        }
    };
    let cause = match timeout(CONNECT_TIMEOUT, attempt).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(cause)) => cause,
        Err(_elapsed) => Cause::Timeout,
    };
    Err(ConnectError { guest: guest.clone(), port, cause })
}

/// An attempt that goes on when nobody waits for it any more. A host that closes between CONNECT and
/// the answer takes all of that guest's vsock down with it in some hypervisors (vhost-device-vsock
/// 0.3.0 panics), and a guest that is short of time answers late.
async fn see_through(
    attempt: impl Future<Output = Result<GuestStream, Cause>> + Send + 'static,
) -> Result<GuestStream, Cause> {
    let under_way = UnderWay::begin();
    let attempt = async move {
        let _under_way = under_way;
        timeout(HANDSHAKE_TIMEOUT, attempt).await
    };
    match tokio::spawn(attempt).await {
        Ok(Ok(result)) => result,
        Ok(Err(_elapsed)) => Err(Cause::Timeout),
        Err(panicked) => Err(Cause::Io(io::Error::other(panicked))),
    }
}

/// Handshakes that wait for their answer.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

struct UnderWay;

impl UnderWay {
    fn begin() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits, before a program ends, for the answers to handshakes that it began and needs no more: at
/// most for half a second, and not at all if there are none.
pub async fn settle() {
    for _ in 0..50 {
        if UNDER_WAY.load(Ordering::SeqCst) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[cfg(unix)]
async fn connect_hybrid(path: PathBuf, port: u32) -> Result<GuestStream, Cause> {
    use std::os::unix::fs::FileTypeExt;

    let stream = GuestStream::connect(&path).await.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Cause::NoSuchPath,
        io::ErrorKind::PermissionDenied => Cause::Permission,
        io::ErrorKind::ConnectionRefused => match std::fs::metadata(&path) {
            Ok(meta) if !meta.file_type().is_socket() => Cause::NotASocket,
            _ => Cause::HypervisorGone,
        },
        _ => Cause::Io(e),
    })?;
    shake_hands(stream, port).await
}

/// The same conversation, through a tunnel.
async fn connect_tunnel(address: SocketAddr, port: u32) -> Result<GuestStream, Cause> {
    let stream = tokio::net::TcpStream::connect(address).await.map_err(|e| match e.kind() {
        io::ErrorKind::ConnectionRefused => Cause::NoTunnel,
        _ => Cause::Io(e),
    })?;
    stream.set_nodelay(true).map_err(Cause::Io)?;
    #[cfg(unix)]
    let stream = {
        // As for vsock: of this stream nothing is asked that a Unix one has not.
        let stream = std::os::fd::OwnedFd::from(stream.into_std().map_err(Cause::Io)?);
        GuestStream::from_std(stream.into()).map_err(Cause::Io)?
    };
    shake_hands(stream, port).await
}

async fn shake_hands(mut stream: GuestStream, port: u32) -> Result<GuestStream, Cause> {
    stream.write_all(Handshake::request(port).as_bytes()).await.map_err(ended)?;
    let mut handshake = Handshake::default();
    loop {
        let mut byte = [0];
        if stream.read(&mut byte).await.map_err(ended)? == 0 {
            return Err(match handshake.handle_end() {
                HandshakeError::NobodyListens => Cause::NoAgent,
                cut => Cause::Handshake(cut),
            });
        }
        if handshake.handle_byte(byte[0]).map_err(Cause::Handshake)? {
            return Ok(stream);
        }
    }
}

/// Some hypervisors reset instead of closing when no guest process listens.
fn ended(e: io::Error) -> Cause {
    match e.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Cause::NoAgent,
        _ => Cause::Io(e),
    }
}

#[cfg(not(unix))]
async fn connect_hybrid(_: PathBuf, _: u32) -> Result<GuestStream, Cause> {
    Err(Cause::NoHybrid)
}

#[cfg(windows)]
async fn connect_hyperv(vm: &VmRef, port: u32) -> Result<GuestStream, Cause> {
    let vm = vm.clone();
    // Both block: PowerShell for a second or two, connect until its own limit.
    let attempt = tokio::task::spawn_blocking(move || {
        let vm = match vm {
            VmRef::Id(id) => id,
            VmRef::Name(name) => {
                let listed = crate::vm::powershell::list().map_err(Cause::NoList)?;
                hyperv::resolve(&name, &listed)?
            }
        };
        let address = hyperv::address(vm, hyperv::Guid::service(port));
        hyperv::socket::connect(address, CONNECT_TIMEOUT)
            .map_err(|e| e.raw_os_error().and_then(hyperv::cause).unwrap_or(Cause::Io(e)))
    });
    let stream = attempt.await.map_err(|e| Cause::Io(io::Error::other(e)))??;
    GuestStream::from_std(stream).map_err(Cause::Io)
}

#[cfg(not(windows))]
async fn connect_hyperv(_: &VmRef, _: u32) -> Result<GuestStream, Cause> {
    Err(Cause::NoHyperV)
}

#[cfg(target_os = "linux")]
async fn connect_vsock(cid: u32, port: u32) -> Result<GuestStream, Cause> {
    /// From Linux' asm-generic/errno.h; std has no kind for them.
    const EAFNOSUPPORT: i32 = 97;
    const ENODEV: i32 = 19;
    vsock::connect(cid, port).await.map_err(|e| match (e.raw_os_error(), e.kind()) {
        (Some(EAFNOSUPPORT), _) => Cause::NoVsock,
        (Some(ENODEV), _) => Cause::NoVm,
        (_, io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => Cause::NoVm,
        (_, io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset) => Cause::NoAgent,
        (_, io::ErrorKind::PermissionDenied) => Cause::Permission,
        (_, io::ErrorKind::TimedOut) => Cause::Timeout,
        _ => Cause::Io(e),
    })
}

#[cfg(not(target_os = "linux"))]
async fn connect_vsock(_: u32, _: u32) -> Result<GuestStream, Cause> {
    Err(Cause::NoVsock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_have_names_that_differ() {
        let named = |texts: &[&str]| {
            names(&texts.iter().map(|text| text.parse().expect(text)).collect::<Vec<_>>())
        };
        assert_eq!(
            named(&[
                "doom=vsock:3",
                "vsock:4",
                "unix:/run/a b.vsock",
                "unix:/x/doom.sock",
                "unix:/."
            ]),
            ["doom", "vsock-4", "a-b", "doom-2", "guest"]
        );
        assert_eq!(named(&["unix:/run/a=b.vsock"]), ["a-b"]);
        for text in ["=vsock:3", "a/b=vsock:3", "..=vsock:3"] {
            assert_eq!(text.parse::<NamedGuest>(), Err(ParseError::Name), "{text}");
        }
    }

    #[test]
    fn addresses_read_and_print() {
        for text in ["unix:/run/vm.vsock", "unix:a:b", "vsock:3"] {
            assert_eq!(text.parse::<GuestAddr>().map(|a| a.to_string()), Ok(text.into()));
        }
        let refused = |text: &str| text.parse::<GuestAddr>().expect_err(text);
        assert_eq!(refused("unix:"), ParseError::NoPath);
        assert_eq!(refused("vsock:2"), ParseError::Cid);
        assert_eq!(refused("vsock:4294967295"), ParseError::Cid);
        assert_eq!(refused("vsock:x"), ParseError::Cid);
        #[cfg(not(windows))]
        assert_eq!(refused("hyperv:doom"), ParseError::HyperV);
        #[cfg(windows)]
        assert_eq!(refused("hyperv:"), ParseError::NoVm);
        assert_eq!(refused("/run/vm.vsock"), ParseError::Kind);
        for text in ["tcp:127.0.0.1:7472", "tcp:[::1]:7472"] {
            assert_eq!(text.parse::<GuestAddr>().map(|a| a.to_string()), Ok(text.into()));
        }
        for text in
            ["tcp:", "tcp:192.0.2.1:1", "tcp:127.0.0.1", "tcp:127.0.0.1:0", "tcp:localhost:1"]
        {
            assert_eq!(refused(text), ParseError::Tcp, "{text}");
        }
    }
}
