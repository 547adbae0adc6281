//! The transfers of metadata: statistics to guest memory, and parameters from it.

use super::{
    channels::{PARAMS, STATISTICS},
    frame_config::FrameConfig,
    transfer::Refusal,
    uapi::{HEADER, PARAMS_FOURCC, PARAMS_MAX, STATISTICS_FOURCC, STATISTICS_SIZE},
};
use crate::dma::{DmaError, DmaPort, DmaWrite};

/// The guest memory for the statistics, if `config` is valid and has room for them.
pub(super) fn statistics<'a>(config: &FrameConfig, dma: &'a DmaPort) -> Result<DmaWrite<'a>, Refusal> {
    check(STATISTICS, config, STATISTICS_FOURCC, STATISTICS_SIZE)?;
    dma.begin_write(config.addresses[0], STATISTICS_SIZE as u64).map_err(refusal)
}

/// Copies the parameters from the address in `config`, so that the guest cannot change them while they are checked. Returns
/// their length.
pub(super) fn params(
    config: &FrameConfig,
    dma: &DmaPort,
    copy: &mut [u8; PARAMS_MAX],
) -> Result<usize, Refusal> {
    check(PARAMS, config, PARAMS_FOURCC, HEADER)?;
    // The part of a longer buffer beyond this cannot be valid.
    let length = PARAMS_MAX.min(config.lengths[0] as usize);
    dma.read_into(config.addresses[0], &mut copy[..length]).map_err(refusal)?;
    Ok(length)
}

/// Checks that the format of `config` is that of the channel, and that it has room for `least` bytes.
fn check(channel: usize, config: &FrameConfig, fourcc: u32, least: usize) -> Result<(), Refusal> {
    let length = config.lengths[0];
    if config.fourcc != fourcc {
        Err(Refusal::Channel { channel, fourcc: config.fourcc })
    } else if (length as usize) < least {
        Err(Refusal::Length { plane: 0, span: least as u64, length })
    } else {
        Ok(())
    }
}

fn refusal(error: DmaError) -> Refusal {
    Refusal::Bus { plane: 0, address: error.address }
}
