//! See [`transom_fuzz::kernel::texts`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transom_fuzz::kernel::texts(data));
