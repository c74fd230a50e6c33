//! Hyper-V sockets: how a Windows host reaches the vsock ports of its guests.
//!
//! ```text
//!  SOCKADDR_HV (hvsocket.h), 36 bytes
//!  0          2          4                    20                   36
//! +----------+----------+--------------------+--------------------+
//! | 34, LE   | reserved | the VM's GUID      | the service's GUID |
//! +----------+----------+--------------------+--------------------+
//! ```
//!
//! A Linux guest's port N is the service `N as 8 hex digits-facb-11e6-bd58-64006a7986d3`
//! (`net/vmw_vsock/hyperv_transport.c`). The host connects, for a host that listens would need a
//! registry key per service.
//!
//! All that can be wrong without a Hyper-V host to try it on is here and tested everywhere; the
//! calls themselves are a page, in `hyperv/socket.rs`.

use std::{fmt, str::FromStr};

use super::Cause;
use crate::vm::hyperv::Listed;

#[cfg(windows)]
pub(super) mod socket;

/// Length of a socket address in bytes.
pub const ADDRESS: usize = 36;
/// The address family.
pub const AF_HYPERV: u16 = 34;

/// A GUID as it lies in memory: the first three groups are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guid([u8; 16]);

/// Why a text is no GUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a GUID is 32 hex digits in groups of 8, 4, 4, 4 and 12, with - between them")]
pub struct BadGuid;

/// Where a text's bytes lie in memory.
const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

impl FromStr for Guid {
    type Err = BadGuid;

    fn from_str(text: &str) -> Result<Self, BadGuid> {
        let bare = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        let groups = bare.split('-').map(str::len);
        if !groups.eq([8, 4, 4, 4, 12]) || !bare.is_ascii() {
            return Err(BadGuid);
        }
        let digits: String = bare.chars().filter(|c| *c != '-').collect();
        let mut bytes = [0; 16];
        for (i, place) in ORDER.into_iter().enumerate() {
            let pair = &digits[2 * i..2 * i + 2];
            if !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(BadGuid);
            }
            bytes[place] = u8::from_str_radix(pair, 16).map_err(|_| BadGuid)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, place) in ORDER.into_iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[place])?;
        }
        Ok(())
    }
}

impl Guid {
    /// The service of a vsock port.
    pub const fn service(port: u32) -> Self {
        let [a, b, c, d] = port.to_le_bytes();
        let rest = [0xbd, 0x58, 0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3];
        let [e, f, g, h, i, j, k, l] = rest;
        Self([a, b, c, d, 0xcb, 0xfa, 0xe6, 0x11, e, f, g, h, i, j, k, l])
    }
}

/// Names one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmRef {
    /// For good.
    Id(Guid),
    /// As long as no other has the same name.
    Name(String),
}

impl FromStr for VmRef {
    type Err = BadGuid;

    fn from_str(text: &str) -> Result<Self, BadGuid> {
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) if !text.is_empty() => Ok(Self::Name(text.into())),
            Err(e) => Err(e),
        }
    }
}

impl fmt::Display for VmRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The socket address of a service of a machine.
pub fn address(vm: Guid, service: Guid) -> [u8; ADDRESS] {
    let mut bytes = [0; ADDRESS];
    bytes[..2].copy_from_slice(&AF_HYPERV.to_le_bytes());
    bytes[4..20].copy_from_slice(&vm.0);
    bytes[20..].copy_from_slice(&service.0);
    bytes
}

/// The machine of a name, among those that the hypervisor lists.
///
/// # Errors
///
/// There is none, there are several, or it is not running.
pub fn resolve(name: &str, listed: &[Listed]) -> Result<Guid, Cause> {
    let mut found = listed.iter().filter(|vm| vm.name == name);
    let vm = match (found.next(), found.next()) {
        (None, _) => return Err(Cause::NoSuchVm),
        (Some(_), Some(_)) => return Err(Cause::AmbiguousVm),
        (Some(vm), None) => vm,
    };
    if vm.state != "Running" {
        return Err(Cause::VmOff);
    }
    vm.id.parse().map_err(|_| Cause::NoSuchVm)
}

/// What a failed connect means, by its number (winsock2.h); nothing for those without a meaning of
/// their own here.
pub fn cause(code: i32) -> Option<Cause> {
    Some(match code {
        // WSAEACCES: not in the group, or the machine of another user.
        10013 => Cause::NotHyperVAdministrator,
        // WSAEAFNOSUPPORT: no such family, for the role is not installed.
        10047 => Cause::NoHyperV,
        // WSAEADDRNOTAVAIL, WSAENETUNREACH, WSAEHOSTUNREACH: no partition of this id runs.
        10049 | 10051 | 10065 => Cause::VmOff,
        // WSAETIMEDOUT: the guest's kernel has no hv_sock yet, or hangs.
        10060 => Cause::Timeout,
        // WSAECONNREFUSED, WSAECONNRESET: it has, and nobody listens.
        10061 | 10054 => Cause::NoAgent,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: &str = "0f3c2a64-92a1-4a8b-8d5b-7a1d2f3e4c5b";

    fn guid(text: &str) -> Guid {
        text.parse().expect(text)
    }

    #[test]
    fn guids_read_and_print() {
        assert_eq!(guid(VM).to_string(), VM);
        assert_eq!(guid(&format!("{{{}}}", VM.to_uppercase())).to_string(), VM);
        for bad in ["", "x", &VM[1..], &VM.replace('a', "+"), &VM.replace('-', ""), "0f3c2a64-92a1"]
        {
            assert_eq!(bad.parse::<Guid>(), Err(BadGuid), "{bad}");
        }
    }

    /// The template's own GUID is port 0 (`HV_GUID_VSOCK_TEMPLATE`, hvsocket.h).
    #[test]
    fn ports_are_services() {
        assert_eq!(Guid::service(0).to_string(), "00000000-facb-11e6-bd58-64006a7986d3");
        assert_eq!(
            Guid::service(transom_protocol::PORT).to_string(),
            "00007472-facb-11e6-bd58-64006a7986d3"
        );
    }

    #[test]
    fn addresses_lie_as_windows_reads_them() {
        let bytes = address(guid(VM), Guid::service(0x7472));
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let (head, rest) = hex.split_at(8);
        let (vm, service) = rest.split_at(32);
        assert_eq!(head, "22000000");
        assert_eq!(vm, "642a3c0fa1928b4a8d5b7a1d2f3e4c5b");
        assert_eq!(service, "72740000cbfae611bd5864006a7986d3");
    }

    #[test]
    fn machines_are_found_by_name() {
        let vm = |name: &str, state: &str| Listed {
            id: VM.into(),
            state: state.into(),
            name: name.into(),
        };
        let listed =
            [vm("doom", "Running"), vm("off", "Off"), vm("two", "Off"), vm("two", "Running")];
        assert_eq!(resolve("doom", &listed).map_err(|e| e.to_string()), Ok(guid(VM)));
        let why = |name| resolve(name, &listed).expect_err(name).to_string();
        assert!(why("off").contains("is not running"), "{}", why("off"));
        assert!(why("two").contains("several"), "{}", why("two"));
        assert!(why("Doom").contains("no VM"), "{}", why("Doom"));
    }

    #[test]
    fn failures_are_told_apart() {
        for (code, words) in [
            (10013, "Hyper-V Administrators"),
            (10047, "Hyper-V is not installed"),
            (10049, "is not running"),
            (10060, "no answer"),
            (10061, "no agent listens"),
        ] {
            let said = cause(code).map(|cause| cause.to_string()).unwrap_or_default();
            assert!(said.contains(words), "{code}: {said}");
        }
        assert!(cause(10055).is_none());
    }
}
