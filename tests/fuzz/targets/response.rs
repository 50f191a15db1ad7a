#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rowbridge_publisher::fuzz::response(data));
