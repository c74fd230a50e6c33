//! See [`transom_fuzz::rtsp`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transom_fuzz::rtsp(data));
