//! Which instructions a kernel may use: each is compiled once for every level, and the machine's best is taken as it runs.

/// A set of instructions that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(pub(in crate::media) Kind);

// Private to the ISP: a level is made only where the machine was seen to have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::media) enum Kind {
    Scalar,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// One value after another: what all others are held against, and what any machine can do.
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// All that this machine has, the best last.
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

    /// The best that this machine has.
    pub fn best() -> Self {
        Self::all().last().unwrap_or(Self::SCALAR)
    }

    /// Its name.
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

/// Makes of a function one that is compiled for each level, with the level's [`Vector`](super::vector::Vector) as its type,
/// and takes the level as its first argument. Where a
/// function has no such type, the compiler makes vectors of its loops.
macro_rules! kernel {
    (
        $(#[$attribute:meta])*
        fn $name:ident<$vector:ident>($($argument:ident: $type:ty),* $(,)?) $body:block
    ) => {
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments, reason = "each slice is an argument: then the compiler knows them apart")]
        pub(super) fn $name(level: crate::media::simd::Level, $($argument: $type),*) {
            use crate::media::simd::{Kind, vector};

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
                // SAFETY: there is such a level only where the machine has it.
                Kind::Avx2 => unsafe { avx2($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: there is such a level only where the machine has it.
                Kind::Avx512 => unsafe { avx512($($argument),*) },
            }
        }
    };
    ($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        crate::media::simd::kernel! {
            $(#[$attribute])* fn $name<V>($($argument: $type),*) $body
        }
    };
}

pub(in crate::media) use kernel;
