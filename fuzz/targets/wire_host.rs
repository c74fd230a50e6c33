//! See [`transom_fuzz::wire_host`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transom_fuzz::wire_host(data));
