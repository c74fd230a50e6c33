//! See [`transom_fuzz::reader::reader`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transom_fuzz::reader::reader(data));
