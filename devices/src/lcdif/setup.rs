//! The stores by which Linux's driver switches the controller on, for tests and programs without an operating system.

use media::display::Pixel;

use super::regs::*;

/// A store of the guest: offset, value.
pub type Store = (u32, u32);

/// A frame in memory and the time that the panel takes for it.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// Its pixels in memory.
    pub pixel: Pixel,
    /// Width and height in pixels.
    pub size: [u32; 2],
    /// Pixel clocks of a line, and lines of a frame, with what lies around the picture.
    pub total: [u32; 2],
}

/// Takes the controller out of its reset, and scans out the frame at `address`. Interrupts at the end of a frame are enabled.
pub fn start(mode: &Mode, address: u32) -> impl Iterator<Item = Store> + use<> {
    let Mode { pixel, size: [width, height], total: [clocks, lines] } = *mode;
    let (length, packing) = match pixel {
        Pixel::Rgb565 => (CTRL_WORD_LENGTH_16, CTRL1_BYTE_PACKING),
        Pixel::Xrgb8888 => (CTRL_WORD_LENGTH_24, CTRL1_BYTE_PACKING_XRGB),
    };
    [
        (CTRL + CLR, CTRL_SFTRST),
        (CTRL + CLR, CTRL_CLKGATE),
        (CTRL1 + SET, CTRL1_FIFO_CLEAR),
        (CTRL1 + CLR, CTRL1_FIFO_CLEAR),
        (CTRL1, packing),
        (CTRL, CTRL_MASTER | length),
        (TRANSFER_COUNT, height << 16 | width),
        (VDCTRL0, VDCTRL0_VSYNC_PERIOD_UNIT),
        (VDCTRL1, lines),
        (VDCTRL2, clocks),
        (CUR_BUF, address),
        (NEXT_BUF, address),
        (CTRL + SET, CTRL_DOTCLK_MODE),
        (CTRL + SET, CTRL_RUN),
        (CTRL1 + CLR, CTRL1_CUR_FRAME_DONE_IRQ),
        (CTRL1 + SET, CTRL1_CUR_FRAME_DONE_IRQ_EN),
    ]
    .into_iter()
}
