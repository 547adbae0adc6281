//! The DMA engine `altr,socfpga-msgdma`: Altera's modular scatter-gather DMA with memory on both sides.
//!
//! Linux's driver is `drivers/dma/altera-msgdma.c`; its client `dmatest` copies buffers and compares them. The guest writes
//! descriptors into a FIFO, a worker thread copies what they describe, and responses and a level-triggered interrupt report
//! it. [`regs`] has the registers, `MSGDMA.md` the manual.
//!
//! The way of a descriptor: `registers` (the state machine) collects its words, holds it in the FIFO and hands it out as a
//! job; `worker` copies, through the DMA port only; `registers` reports it. `faults` declares its faults.

mod descriptor;
mod engine;
mod faults;
mod registers;
pub mod regs;
mod spec;
mod stepper;
#[cfg(test)]
mod tests;
mod worker;

pub use engine::Msgdma;
pub use spec::{MsgdmaSpec, REGISTRATION};
pub use stepper::Stepper;
