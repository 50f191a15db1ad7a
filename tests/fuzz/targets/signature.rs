#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rowbridge_schema::fuzz::signature(data));
