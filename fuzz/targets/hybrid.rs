//! See [`transom_fuzz::hybrid`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transom_fuzz::hybrid(data));
