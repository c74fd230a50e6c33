//! See [`transom_fuzz::diagnostics::from_host`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transom_fuzz::diagnostics::from_host(data));
