//! The macro that implements a vector with the instructions of a machine.

/// Implements [`Vector`] with the given instructions. Only kernels that are compiled for these instructions use the type, and
/// only where the machine has them (`level::kernel!`). A function `count` beside the use converts a number of bits to the
/// operand of the shifts.
macro_rules! vector {
    (
        $(#[$attribute:meta])* $name:ident($register:ty), $lanes:literal,
        load($pointer:ident) => $load:expr; store($to:ident, $stored:ident) => $store:expr;
        splat($value:ident) => $splat:expr;
        { $($operation:ident => $instruction:ident;)* }
        shl($shl_a:ident, $bits:ident) => $shl:expr;
        shr($shr_a:ident, $shr_bits:ident) => $shr:expr;
        greater($left:ident, $right:ident) => $greater:expr;
        pick($mask:ident, $if:ident, $else:ident) => $pick:expr;
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name($register);

        impl Vector for $name {
            const STEPS: usize = LANES / $lanes;

            #[inline(always)]
            fn load(values: &[i16; LANES], step: usize) -> Self {
                let values: &[i16; $lanes] = &values.as_chunks().0[step];
                let $pointer = values.as_ptr();
                // SAFETY: it reads exactly the values of the array, without alignment, and the machine has the instruction.
                Self(unsafe { $load })
            }

            #[inline(always)]
            fn store(self, values: &mut [i16; LANES], step: usize) {
                let values: &mut [i16; $lanes] = &mut values.as_chunks_mut().0[step];
                let ($to, $stored) = (values.as_mut_ptr(), self.0);
                // SAFETY: it writes exactly the values of the array, without alignment, and the machine has the instruction.
                unsafe { $store }
            }

            #[inline(always)]
            fn splat($value: i16) -> Self {
                // SAFETY: the machine has the instruction.
                Self(unsafe { $splat })
            }

            $(
                #[inline(always)]
                fn $operation(self, other: Self) -> Self {
                    // SAFETY: the machine has the instruction.
                    Self(unsafe { $instruction(self.0, other.0) })
                }
            )*

            #[inline(always)]
            fn shl(self, bits: u32) -> Self {
                let ($shl_a, $bits) = (self.0, count(bits));
                // SAFETY: the machine has the instruction.
                Self(unsafe { $shl })
            }

            #[inline(always)]
            fn shr<const BITS: u32>(self) -> Self {
                let ($shr_a, $shr_bits) = (self.0, count(BITS));
                // SAFETY: the machine has the instruction.
                Self(unsafe { $shr })
            }

            #[inline(always)]
            fn if_greater(self, other: Self, then: Self, otherwise: Self) -> Self {
                let ($left, $right) = (self.0, other.0);
                // SAFETY: the machine has the instruction.
                let $mask = unsafe { $greater };
                let ($if, $else) = (then.0, otherwise.0);
                // SAFETY: the machine has the instruction.
                Self(unsafe { $pick })
            }
        }
    };
}

pub(crate) use vector;
