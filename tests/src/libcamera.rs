//! libcamera on the camera rkisp1, as Debian packages it: the machine that runs its program `cam`, and what `cam` prints.
//!
//! Debian builds libcamera's pipeline `rkisp1` for Arm only, so the guest is of aarch64. libcamera 0.4 needs a driver that enumerates
//! frame sizes, which Linux 6.1 does not have: the guest has Linux 6.12, which Debian 13 has, too.

use std::{io, path::Path, process::Command};

use guest_images::{Arch, Kind, Release, userland};

use crate::cross;

const ARCH: &Arch = Arch::AARCH64;
const KIND: Kind = Kind::Default(Release::V6_12);

/// Loads the drivers, and has udev describe their nodes, because libcamera finds cameras in its database. The modules are those of the
/// guest's first root.
const PRELUDE: &str = "set -e
    modprobe -d /proc/1/root -a i2c-rk3x phy-rockchip-dphy-rx0 imx219 rockchip-isp1
    until [ -e /dev/v4l-subdev4 ]; do sleep 0.1; done
    export SYSTEMD_IGNORE_CHROOT=1
    /usr/lib/systemd/systemd-udevd --daemon 2> /tmp/udevd
    udevadm trigger --subsystem-match=media --subsystem-match=video4linux
    udevadm settle
    ";

/// minivmm with the camera that has these keys, whose guest runs `script` in Debian, with /out in the folder `out`. What it needs is built
/// first.
///
/// # Errors
/// If the guest's kernel or userland, or minivmm, cannot be built.
pub fn minivmm(keys: &str, script: &str, out: &Path) -> io::Result<Command> {
    guest_images::build(ARCH, KIND).map_err(io::Error::other)?;
    let userland = userland::build(ARCH, userland::SUITE).map_err(io::Error::other)?;
    let mut minivmm = cross::command(ARCH)?;
    minivmm.args(["--image", &KIND.name(), "--cma", "256M", "--memory", "1G", "--camera", "none"]);
    minivmm.args(["--device", &format!("rkisp1,{keys}"), "--exec", &format!("{PRELUDE}{script}")]);
    minivmm.arg("--root").arg(userland).arg("--out").arg(out);
    Ok(minivmm)
}

/// A frame in what `cam --metadata` prints.
#[derive(Debug, Default)]
pub struct Frame {
    /// Its number.
    pub sequence: u32,
    /// The exposure time, in microseconds.
    pub exposure_us: f64,
    /// The gain of the sensor.
    pub gain: f64,
    /// The gains of red and blue.
    pub colours: [f64; 2],
}

/// Takes a line that cam prints into `frames`.
///
/// # Panics
/// If a value is not a number.
pub fn take(line: &str, frames: &mut Vec<Frame>) {
    if let Some((_, rest)) = line.split_once(" seq: ") {
        let sequence = rest.split(' ').next().and_then(|digits| digits.parse().ok()).expect("it is a number");
        frames.push(Frame { sequence, ..Frame::default() });
        return;
    }
    let (Some((key, value)), Some(frame)) = (line.trim().split_once(" = "), frames.last_mut()) else {
        return;
    };
    let numbers = || -> Vec<f64> {
        let digits = value.trim_matches(['[', ']', ' ']).split(',');
        digits.map(|number| number.trim().parse().unwrap_or_else(|_| panic!("{line}"))).collect()
    };
    match key {
        "ExposureTime" => frame.exposure_us = numbers()[0],
        "AnalogueGain" => frame.gain = numbers()[0],
        "ColourGains" => frame.colours = numbers().try_into().unwrap_or_else(|_| panic!("{line}")),
        _ => {}
    }
}

/// The script of `cam --script` with which the first eight frames have this exposure time in microseconds and this gain, and these gains of
/// red and blue if there are some, and libcamera chooses from there on. A shell writes it to /tmp/script.
pub fn by_hand(exposure_us: u32, gain: f64, colours: Option<[f64; 2]>) -> String {
    let indent = "      ";
    let [off, on] = match colours {
        Some([red, blue]) => [
            format!("{indent}AwbEnable: false\\n{indent}ColourGains: [ {red:.2}, {blue:.2} ]\\n"),
            format!("{indent}AwbEnable: true\\n"),
        ],
        None => [(); 2].map(|()| String::new()),
    };
    format!(
        "printf 'frames:\\n  - 0:\\n{indent}AeEnable: false\\n{indent}ExposureTime: {exposure_us}\\n{indent}AnalogueGain: {gain:.1}\\n{off}' > /tmp/script
        printf '  - 8:\\n{indent}AeEnable: true\\n{on}' >> /tmp/script\n"
    )
}
