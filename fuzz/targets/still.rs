//! See [`transom_fuzz::encoder::still`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transom_fuzz::encoder::still(data));
