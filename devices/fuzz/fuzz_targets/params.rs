//! No buffer of the ISP's parameters makes the parser panic, changes anything if it is wrong, or lets a value through that the
//! ISP refuses.

#![no_main]

use devices::camera::{
    isp::Params,
    meta::{PARAMS_MAX, Settings},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut settings, mut params) = (Settings::default(), Params::neutral());
    let taken = settings.take(bytes);
    settings.apply(&mut params);
    assert_eq!(params.check(), Ok(()));
    match taken {
        Ok(length) => assert!(length <= bytes.len().min(PARAMS_MAX)),
        Err(_) => assert_eq!(params, Params::neutral()),
    }
});
