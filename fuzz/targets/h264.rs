//! See [`transom_fuzz::h264`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transom_fuzz::h264(data));
