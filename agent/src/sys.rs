//! Everything that needs `unsafe`: safe methods and owned descriptors come out, no raw pointer
//! does. Each file says which kernel or library interface it wraps.

pub mod dmabuf;
pub mod kms;
pub mod memory;
pub mod openh264;
pub mod pair;
pub mod process;
pub mod shared;
pub mod uinput;
pub mod va;
