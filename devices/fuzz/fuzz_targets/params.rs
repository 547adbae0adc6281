//! No buffer of the ISP's parameters makes the parser panic, changes anything if it is wrong, or lets a value through that the
//! ISP refuses.

#![no_main]

use devices::{
    camera::uapi::{self, PARAMS_MAX},
    media::isp::{Overrides, Params},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut overrides, mut params) = (Overrides::default(), Params::neutral());
    let taken = uapi::take(&mut overrides, bytes);
    overrides.apply(&mut params);
    assert_eq!(params.check(), Ok(()));
    match taken {
        Ok(length) => assert!(length <= bytes.len().min(PARAMS_MAX)),
        Err(_) => assert_eq!(params, Params::neutral()),
    }
});
