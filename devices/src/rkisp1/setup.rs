//! The stores by which Linux's drivers set the camera up, for tests, benchmarks and programs without an operating system.

use super::regs::*;
use crate::{i2c::rk3x::regs as i2c, sensors::RAW10};

/// The region of the ISP.
pub const ISP: usize = 0;
/// The region of the general register file, which controls the D-PHY.
pub const GRF: usize = 1;
/// The region of the I2C controller.
pub const I2C: usize = 2;

/// The GRF's register for lanes that are on, and the one for the D-PHY's test interface.
pub const GRF_LANES: u32 = 0x6254;
/// See [`GRF_LANES`].
pub const GRF_TEST: u32 = 0x6264;

/// A store of the guest: region, offset in it, value.
pub type Store = (usize, u32, u32);

/// Has D-PHY and receiver take in frames of `size` with 10 bits by two lanes, and switches the ISP on with these bits of `ISP_CTRL`.
pub fn receive([width, height]: [u32; 2], control: u32) -> impl Iterator<Item = Store> {
    // A store of the GRF has a mask in its upper half. The lanes are on, and out of reset.
    let link = [(GRF, GRF_LANES, 0x000f_0003), (GRF, GRF_TEST, 0x0400_0000)];
    let isp = [
        (ISP_ACQ_H_OFFS, 0),
        (ISP_ACQ_V_OFFS, 0),
        (ISP_ACQ_H_SIZE, width),
        (ISP_ACQ_V_SIZE, height),
        (ISP_OUT_H_OFFS, 0),
        (ISP_OUT_V_OFFS, 0),
        (ISP_OUT_H_SIZE, width),
        (ISP_OUT_V_SIZE, height),
        (ISP_IS_H_OFFS, 0),
        (ISP_IS_V_OFFS, 0),
        (ISP_IS_H_SIZE, width),
        (ISP_IS_V_SIZE, height),
        (ISP_IMSC, ISP_FRAME | ISP_V_START | ISP_PIC_SIZE_ERROR),
        (VI_DPCL, DPCL_MIPI),
        (VI_CCL, 0),
        (VI_ICCL, u32::MAX),
        (MIPI_IMG_DATA_SEL, RAW10.into()),
        (MIPI_CTRL, MIPI_OUTPUT | 1 << MIPI_LANES.trailing_zeros()),
        (ISP_CTRL, control | ISP_ENABLE | ISP_INFORM | ISP_CFG_UPD),
    ];
    link.into_iter().chain(isp.into_iter().map(|(offset, value)| (ISP, offset, value)))
}

/// Writes `bytes` to the registers of the sensor at `address` from `register` on, in one message. There are at most 29.
pub fn sensor(address: u8, register: u16, bytes: &[u8]) -> impl Iterator<Item = Store> {
    let message = [&[address << 1][..], &register.to_be_bytes(), bytes].concat();
    let count = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let words: Vec<_> = (i2c::TXDATA..)
        .step_by(4)
        .zip(message.chunks(4))
        .map(|(offset, bytes)| {
            (offset, bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte)))
        })
        .collect();
    let start = [(i2c::CON, i2c::CON_EN | i2c::CON_START), (i2c::CON, i2c::CON_EN)];
    let stop = [
        (i2c::MTXCNT, count),
        (i2c::CON, i2c::CON_EN | i2c::CON_STOP),
        (i2c::IPD, i2c::INT_ALL),
        (i2c::CON, 0),
    ];
    start.into_iter().chain(words).chain(stop).map(|(offset, value)| (I2C, offset, value))
}
