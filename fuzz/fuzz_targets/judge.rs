#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bindgate_core::fuzz::judge(data));
