//! The levels of instruction sets. A kernel is compiled for each level, and the best one of the machine is chosen at run time.

/// A level of instructions that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(pub(crate) Kind);

// Private, so that a level exists only where the machine was found to have its instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Scalar,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// One value at a time. Every machine has it, and the other levels are tested against it.
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// All levels that this machine has, the best last.
    pub fn all() -> impl Iterator<Item = Self> {
        let scalar = std::iter::once(Self::SCALAR);
        #[cfg(target_arch = "x86_64")]
        let more = {
            let avx2 = is_x86_feature_detected!("avx2");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            avx2.then_some(Self(Kind::Avx2)).into_iter().chain(avx512.then_some(Self(Kind::Avx512)))
        };
        #[cfg(target_arch = "aarch64")]
        let more = [Self(Kind::Neon)];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let more = [];
        scalar.chain(more)
    }

    /// The best level that this machine has.
    pub fn best() -> Self {
        Self::all().last().unwrap_or(Self::SCALAR)
    }

    /// The name of the level.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "NEON",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "AVX-512",
        }
    }
}

/// Defines a kernel: a function that is compiled for each level, and takes the level as an additional first argument. Its type
/// parameter, if it has one, is the [`Vector`](super::vector::Vector) of the level. In a kernel without it the compiler
/// vectorises the loops.
macro_rules! kernel {
    (
        $(#[$attribute:meta])*
        fn $name:ident<$vector:ident>($($argument:ident: $type:ty),* $(,)?) $body:block
    ) => {
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments, reason = "slices that are arguments are known not to overlap")]
        pub(super) fn $name(level: $crate::simd::Level, $($argument: $type),*) {
            use $crate::simd::{Kind, vector};

            #[allow(clippy::too_many_arguments, reason = "as above")]
            #[inline(always)]
            fn body<$vector: vector::Vector>($($argument: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[allow(clippy::too_many_arguments, reason = "as above")]
            #[target_feature(enable = "avx2")]
            fn avx2($($argument: $type),*) {
                body::<vector::Avx2>($($argument),*);
            }

            #[cfg(target_arch = "x86_64")]
            #[allow(clippy::too_many_arguments, reason = "as above")]
            #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($argument: $type),*) {
                body::<vector::Avx512>($($argument),*);
            }

            match level.0 {
                Kind::Scalar => body::<vector::Scalar>($($argument),*),
                #[cfg(target_arch = "aarch64")]
                Kind::Neon => body::<vector::Neon>($($argument),*),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: a level exists only where the machine has its instructions.
                Kind::Avx2 => unsafe { avx2($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: a level exists only where the machine has its instructions.
                Kind::Avx512 => unsafe { avx512($($argument),*) },
            }
        }
    };
    ($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        $crate::simd::kernel! {
            $(#[$attribute])* fn $name<V>($($argument: $type),*) $body
        }
    };
}

pub(crate) use kernel;
