//! See [`transom_fuzz::linear::view`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transom_fuzz::linear::view(data));
