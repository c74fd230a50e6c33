//! See [`transom_fuzz::wire_guest`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transom_fuzz::wire_guest(data));
