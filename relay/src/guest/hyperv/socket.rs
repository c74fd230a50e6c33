//! The calls for Hyper-V sockets. std and tokio know no such family; the socket is made and
//! connected here and then is a stream like any other: winsock's polling works with it, and of a
//! TCP stream nothing is asked that this one has not (no options, no addresses).
#![allow(unsafe_code, reason = "socket2 takes addresses of foreign families, and options, raw")]

use std::{io, os::windows::io::AsRawSocket, time::Duration};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use windows_sys::Win32::{
    Networking::WinSock::setsockopt,
    System::Hypervisor::{HV_PROTOCOL_RAW, HVSOCKET_CONNECT_TIMEOUT, HVSOCKET_CONNECT_TIMEOUT_MAX},
};

use super::{ADDRESS, AF_HYPERV};

/// Connects within `limit`; blocks for as long.
pub(in crate::guest) fn connect(
    address: [u8; ADDRESS],
    limit: Duration,
) -> io::Result<std::net::TcpStream> {
    let domain = Domain::from(i32::from(AF_HYPERV));
    let protocol = Protocol::from(HV_PROTOCOL_RAW as i32);
    let socket = Socket::new(domain, Type::STREAM, Some(protocol))?;
    // A raw connect can block for good otherwise.
    let limit = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    let limit = limit.clamp(1, HVSOCKET_CONNECT_TIMEOUT_MAX).to_ne_bytes();
    // SAFETY: the socket is open for the whole call, and the option's value is four bytes that the
    // call only reads.
    let set = unsafe {
        setsockopt(
            socket.as_raw_socket() as usize,
            HV_PROTOCOL_RAW as i32,
            HVSOCKET_CONNECT_TIMEOUT as i32,
            limit.as_ptr(),
            limit.len() as i32,
        )
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the storage is zeroed and at least 128 bytes long, more than an address; its family
    // is the first field of what is copied, and the length is set to what was written.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            storage.cast::<[u8; ADDRESS]>().write_unaligned(address);
            length.write(ADDRESS as _);
            Ok(())
        })
    }?;
    socket.connect(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
