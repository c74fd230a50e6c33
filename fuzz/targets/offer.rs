//! See [`transom_fuzz::web::offer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transom_fuzz::web::offer(data));
