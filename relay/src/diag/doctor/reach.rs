//! How far a connection to the agent gets: pure judgement of one attempt.
//!
//! Every layer below the one that failed answered, every layer above it was not asked.

use transom_protocol::{
    VERSION_MAX, VERSION_MIN,
    diagnostics::{Check, Verdict},
    message::Refusal,
};

use super::check;
use crate::{
    diag::DiagError,
    guest::{Cause, GuestAddr},
    link::LinkError,
    session::{SessionError, Welcome},
};

/// What there is on the way to an agent, from below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Socket,
    Hypervisor,
    Kernel,
    Listens,
    Answers,
    Versions,
}

const LAYERS: [(Layer, &str); 6] = [
    (Layer::Socket, "vsock-socket"),
    (Layer::Hypervisor, "hypervisor"),
    (Layer::Kernel, "guest-kernel"),
    (Layer::Listens, "agent-listens"),
    (Layer::Answers, "agent-answers"),
    (Layer::Versions, "versions"),
];

/// The checks of one attempt.
pub fn checks(guest: &GuestAddr, reached: Result<&Welcome, &DiagError>) -> Vec<Check> {
    let failed = reached.err().map(|error| (blame(error), error));
    LAYERS
        .iter()
        .map(|&(layer, name)| match (failed, reached) {
            (Some(((at, remedy), error)), _) if layer == at => {
                check(name, Verdict::Fail, words(error), remedy)
            }
            (Some(((at, _), _)), _) if layer > at => {
                check(name, Verdict::Skip, "was not reached", "")
            }
            (_, Ok(welcome)) if layer == Layer::Versions => versions(welcome),
            _ => check(name, Verdict::Pass, fine(guest, layer, reached.ok()), ""),
        })
        .collect()
}

/// At which layer an attempt ended, and what to do about it.
fn blame(error: &DiagError) -> (Layer, &'static str) {
    match error {
        DiagError::Connect(error) => match &error.cause {
            Cause::NoSuchPath => (
                Layer::Socket,
                "Start the VM, or look up where it keeps its vsock socket (uds-path). `transom list` finds those that run",
            ),
            Cause::NotASocket => (Layer::Socket, "Name the VM's vsock socket (uds-path)"),
            Cause::Permission => {
                (Layer::Socket, "Run as the user who started the VM, or with sudo")
            }
            Cause::NoVsock => {
                (Layer::Socket, "Run `modprobe vhost_vsock`, or use the hybrid socket: unix:PATH")
            }
            Cause::HypervisorGone => (
                Layer::Hypervisor,
                "The hypervisor, or its vsock daemon, has ended and left its socket behind: start the VM again",
            ),
            Cause::NoVm => (
                Layer::Hypervisor,
                "Start the VM with a vsock device of this CID. `transom list` finds those that run",
            ),
            Cause::Handshake(_) => (
                Layer::Hypervisor,
                "Name the socket for connections to the guest, not a control socket",
            ),
            Cause::Timeout => (
                Layer::Kernel,
                "The guest is paused, hangs, is still booting, or has no vsock driver: look at its serial console",
            ),
            Cause::NoAgent => (
                Layer::Listens,
                "The guest's kernel runs, transom-agent does not: wait if it is still booting, else look at transom-agent.service there",
            ),
            _ => (Layer::Hypervisor, "See whether the VM runs"),
        },
        DiagError::HelloTimeout { .. } => (
            Layer::Answers,
            "The agent is stopped or hangs; systemd restarts it within its watchdog's time. Else restart transom-agent.service from the guest's console",
        ),
        DiagError::Link { why: LinkError::Session(SessionError::Refused { why, .. }), .. } => {
            match why {
                Refusal::Busy => (Layer::Answers, "Close other diagnostic connections"),
                Refusal::Role(_) | Refusal::Version { .. } => (
                    Layer::Versions,
                    "Update transom-agent in the guest, or use the transom it came with",
                ),
                _ => (Layer::Versions, "Use transom and transom-agent of one release"),
            }
        }
        DiagError::Link { why: LinkError::Session(SessionError::Version(_)), .. } => {
            (Layer::Versions, "Use transom and transom-agent of one release")
        }
        DiagError::Link { .. } => (
            Layer::Answers,
            "The agent went away within its answer: look at `journalctl -u transom-agent` in the guest",
        ),
        _ => (Layer::Answers, "Try again"),
    }
}

/// The error's own sentence, without the guest's name in front.
fn words(error: &DiagError) -> String {
    match error {
        DiagError::Connect(error) => error.cause.to_string(),
        DiagError::Link { why, .. } => why.to_string(),
        other => other.to_string(),
    }
}

fn fine(guest: &GuestAddr, layer: Layer, welcome: Option<&Welcome>) -> String {
    match (layer, guest) {
        (Layer::Socket, GuestAddr::Unix(path)) => format!("{} is a socket", path.display()),
        (Layer::Socket, _) => "this host has vsock".into(),
        (Layer::Hypervisor, GuestAddr::Unix(_)) => "listens on it".into(),
        (Layer::Hypervisor, _) => "has this VM".into(),
        (Layer::Kernel, _) => "answers on vsock".into(),
        (Layer::Listens, _) => "the connection was taken".into(),
        (Layer::Answers | Layer::Versions, _) => {
            welcome.map_or_else(String::new, |welcome| format!("{} answered", welcome.software))
        }
    }
}

fn versions(welcome: &Welcome) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    let protocol = if VERSION_MIN == VERSION_MAX {
        format!("protocol {VERSION_MAX}")
    } else {
        format!("protocols {VERSION_MIN} to {VERSION_MAX}")
    };
    let found = format!("{} there, transom {ours} here, {protocol}", welcome.software);
    if welcome.software.as_str().split_whitespace().any(|word| word == ours) {
        check("versions", Verdict::Pass, found, "")
    } else {
        check(
            "versions",
            Verdict::Warn,
            found,
            "They talk to each other, but not every request may be known on both sides: update the older one",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::{CONNECT_TIMEOUT, ConnectError, hybrid::HandshakeError};
    use transom_protocol::{Role, message::Text};

    fn guest() -> GuestAddr {
        GuestAddr::Unix("/run/vm.vsock".into())
    }

    fn verdicts(reached: Result<&Welcome, &DiagError>) -> String {
        let letter = |check: &Check| match check.verdict {
            Verdict::Pass => 'p',
            Verdict::Skip => 's',
            Verdict::Warn => 'w',
            Verdict::Fail => 'F',
        };
        checks(&guest(), reached).iter().map(letter).collect()
    }

    fn connect(cause: Cause) -> String {
        let error = ConnectError { guest: guest(), port: 1, cause };
        verdicts(Err(&DiagError::Connect(error)))
    }

    #[test]
    fn each_failure_has_its_layer() {
        assert_eq!(connect(Cause::NoSuchPath), "Fsssss");
        assert_eq!(connect(Cause::Permission), "Fsssss");
        assert_eq!(connect(Cause::HypervisorGone), "pFssss");
        assert_eq!(connect(Cause::NoVm), "pFssss");
        assert_eq!(connect(Cause::Handshake(HandshakeError::NobodyListens)), "pFssss");
        assert_eq!(connect(Cause::Timeout), "ppFsss");
        assert_eq!(connect(Cause::NoAgent), "pppFss");
        let error = DiagError::HelloTimeout { guest: guest(), after: CONNECT_TIMEOUT };
        assert_eq!(verdicts(Err(&error)), "ppppFs");
        let role = Role::DIAGNOSTICS;
        let why = SessionError::Refused { role, why: Refusal::Role(role) }.into();
        assert_eq!(verdicts(Err(&DiagError::Link { guest: guest(), why })), "pppppF");
    }

    #[test]
    fn another_release_is_a_blemish() {
        let mut welcome = Welcome {
            capabilities: transom_protocol::Capabilities::H264,
            boot: [0; 16],
            software: Text::new(concat!("transom-agent ", env!("CARGO_PKG_VERSION"))),
        };
        assert_eq!(verdicts(Ok(&welcome)), "pppppp");
        welcome.software = Text::new("transom-agent 99.0.0");
        assert_eq!(verdicts(Ok(&welcome)), "pppppw");
    }

    #[test]
    fn every_failure_has_a_remedy() {
        let error = ConnectError { guest: guest(), port: 1, cause: Cause::NoAgent };
        for check in checks(&guest(), Err(&DiagError::Connect(error))) {
            assert_eq!(
                check.verdict == Verdict::Fail,
                !check.remedy.as_str().is_empty(),
                "{check:?}"
            );
        }
    }
}
