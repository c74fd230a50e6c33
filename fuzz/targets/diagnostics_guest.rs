//! See [`transom_fuzz::diagnostics::from_guest`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transom_fuzz::diagnostics::from_guest(data));
