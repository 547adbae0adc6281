//! Vectors of 16-bit values, for kernels: the operations, and their implementation for each instruction set.
//!
//! Nearly every operation is one instruction of AVX2, AVX-512 and NEON, and its result is the same to the bit in all of them.
//! [`Scalar`] defines the result.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod implement;
mod operations;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::Neon;
pub(crate) use operations::{LANES, Vector};
pub(crate) use scalar::Scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{Avx2, Avx512};
