//! See [`transom_fuzz::hevc`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transom_fuzz::hevc(data));
