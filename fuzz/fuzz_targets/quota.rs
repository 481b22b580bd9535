#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| redis_meter_properties::quota(input));
