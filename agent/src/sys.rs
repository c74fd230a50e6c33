//! Everything that needs `unsafe`: safe methods and owned descriptors come out, no raw pointer
//! does. Each file says which kernel or library interface it wraps.

pub mod blocks;
pub mod colour;
pub mod cpuid;
pub mod dl;
pub mod dmabuf;
pub mod gbm;
pub mod handover;
pub mod kms;
pub mod lent;
pub mod memory;
pub mod openh264;
pub mod openh264_decoder;
pub mod pair;
pub mod process;
pub mod sched;
pub mod shared;
pub mod simd;
pub mod terminal;
pub mod uinput;
pub mod va;
