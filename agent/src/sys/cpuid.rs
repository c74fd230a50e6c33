//! What the processor says about the hypervisor below it.

/// The signature of leaf 0x4000_0000, such as `KVMKVMKVM` or `Microsoft Hv`; `None` without one.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, unused_unsafe)]
pub fn hypervisor() -> Option<String> {
    use core::arch::x86_64::__cpuid;
    // SAFETY: every x86-64 processor has the instruction; the leaf of the hypervisor is asked for
    // only where bit 31 says that there is one.
    let signature = unsafe {
        if __cpuid(1).ecx >> 31 == 0 {
            return None;
        }
        let leaf = __cpuid(0x4000_0000);
        [leaf.ebx, leaf.ecx, leaf.edx]
    };
    let bytes: Vec<u8> = signature.iter().flat_map(|word| word.to_le_bytes()).collect();
    let text: String = bytes
        .iter()
        .filter(|byte| byte.is_ascii_graphic() || **byte == b' ')
        .map(|&b| char::from(b))
        .collect();
    (!text.is_empty()).then_some(text)
}

/// Other processors do not tell.
#[cfg(not(target_arch = "x86_64"))]
pub fn hypervisor() -> Option<String> {
    None
}
