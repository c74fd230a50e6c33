//! Whether a thread is to run soon or long at a time: `sched_setattr(2)`, which has no wrapper in libc.
//! EPERM is under a sandbox that forbids the call.
#![allow(unsafe_code)]

use std::io;
use std::time::Duration;

use nix::libc::{PRIO_PROCESS, SCHED_BATCH, SCHED_OTHER, SYS_sched_setattr, getpriority, syscall};

/// What `LimitNICE=` of the agent's unit allows.
const PROMPT_NICE: i32 = -10;

/// `SCHED_FLAG_RESET_ON_FORK`: for this thread alone.
const RESET_ON_FORK: u64 = 1;

/// The shortest that the kernel grants.
const SHORTEST_SLICE: Duration = Duration::from_micros(100);

/// `struct sched_attr` of include/uapi/linux/sched/types.h, as long as its first version.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Soon: this thread has answers to give and is done with each at once. What it starts, such as a test of
/// an encoder or a shell, runs like everything else.
/// The kernel (6.12 and newer, kernel/sched/syscalls.c) takes `sched_runtime` as the slice that is asked
/// for; who asks for less than others at a time waits less for it. Older ones take it and do nothing.
/// Where this process may (`LimitNICE=`), such a thread comes before others, too: what it does is little.
///
/// # Errors
///
/// The kernel's.
pub fn be_prompt() -> io::Result<()> {
    let same = niceness();
    set(SCHED_OTHER, SHORTEST_SLICE, same.min(PROMPT_NICE))
        .or_else(|_| set(SCHED_OTHER, SHORTEST_SLICE, same))
}

/// Long at a time: this thread moves bytes by the megabyte. It interrupts nobody when it is woken, so
/// that more than one packet is there when its turn comes, and a read takes them all.
///
/// # Errors
///
/// The kernel's.
pub fn be_batch() -> io::Result<()> {
    set(SCHED_BATCH, Duration::ZERO, niceness().max(0))
}

/// A `runtime` of zero is whatever the kernel thinks best.
fn set(policy: i32, runtime: Duration, nice: i32) -> io::Result<()> {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: policy as u32,
        flags: RESET_ON_FORK,
        nice,
        priority: 0,
        runtime: runtime.as_nanos() as u64,
        deadline: 0,
        period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of `attr`, which outlives the call; 0 is this thread.
    let status = unsafe { syscall(SYS_sched_setattr, 0, &raw const attr, 0) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn niceness() -> i32 {
    // SAFETY: takes and returns numbers, and cannot fail for the calling thread.
    unsafe { getpriority(PRIO_PROCESS, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_it() {
        be_prompt().expect("ordinary threads may");
        be_batch().expect("ordinary threads may");
        be_prompt().expect("and back");
    }
}
