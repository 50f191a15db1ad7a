#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rowbridge_subscriber::fuzz::request(data));
