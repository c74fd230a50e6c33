//! The allocator's habits (`mallopt(3)`).

/// Pictures are megabytes and come and go with display modes. glibc would map the first ones apart
/// and, once they were freed, cut later ones from its heap, where they leave holes: resident memory
/// would wander by the size of a picture. A fixed threshold gives each back to the kernel.
pub fn map_pictures_apart() {
    // SAFETY: sets a parameter of the allocator; called before there are other threads.
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, 512 * 1024);
    }
}
