//! See [`transom_fuzz::vaapi::hevc_coded`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transom_fuzz::vaapi::hevc_coded(data));
