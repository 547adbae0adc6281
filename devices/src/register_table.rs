//! Tables of registers: a device's register constants, its manual and its driver's header are made from them.

use std::fmt::Write as _;

/// The access mode of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read only; writes have no effect.
    Ro,
    /// Read and write.
    Rw,
    /// Read; writing a 1 clears the bit.
    W1c,
    /// Write only; reads as zero.
    Wo,
}

/// One register.
#[derive(Debug, Clone, Copy)]
pub struct Register {
    /// Offset from the start of the device's registers, in bytes.
    pub offset: u32,
    /// Its name.
    pub name: &'static str,
    /// Its access mode.
    pub access: Access,
    /// Value after reset.
    pub reset: u32,
    /// Its meaning, with units.
    pub meaning: &'static str,
}

/// One bit of a register, or another constant of the interface.
#[derive(Debug, Clone, Copy)]
pub struct Constant {
    /// Name, as for registers.
    pub name: &'static str,
    /// Value.
    pub value: u32,
    /// Its meaning.
    pub meaning: &'static str,
}

/// The offset of an access, if it can be that of a register: of 32 bits, and aligned.
pub(crate) fn word_offset(offset: u64) -> Option<u32> {
    u32::try_from(offset).ok().filter(|offset| offset.is_multiple_of(4))
}

/// Declares a device's registers, by offset: a constant for the offset of each, and the table `REGISTERS`.
macro_rules! registers {
    ($($name:ident = $offset:literal, $access:ident, $reset:expr, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $name: u32 = $offset;)*
        /// All registers, by offset.
        pub const REGISTERS: &[$crate::register_table::Register] = &[$($crate::register_table::Register {
            offset: $offset,
            name: stringify!($name),
            access: $crate::register_table::Access::$access,
            reset: $reset,
            meaning: $meaning,
        }),*];
    };
}

/// Declares the bits of a device's registers and its limits: a constant for each, and the table `CONSTANTS`.
macro_rules! constants {
    ($($name:ident = $value:expr, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $name: u32 = $value;)*
        /// Bits and limits, in the order of the registers they belong to.
        pub const CONSTANTS: &[$crate::register_table::Constant] = &[$($crate::register_table::Constant {
            name: stringify!($name),
            value: $value,
            meaning: $meaning,
        }),*];
    };
}

pub(crate) use {constants, registers};

/// The section of a manual that lists registers.
pub(crate) fn registers_page(registers: &[Register]) -> String {
    let mut page = String::from(
        "\n## Registers\n\n\
         Ro: read only, writes have no effect. Rw: read and write. W1c: writing 1 clears the bit. Wo: write only, reads as zero.\n\n\
         | offset | name | access | reset | meaning |\n|---|---|---|---|---|\n",
    );
    for Register { offset, name, access, reset, meaning } in registers {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| {offset:#05x} | `{name}` | {access:?} | {reset:#x} | {meaning} |");
    }
    page
}

/// The section of a manual that lists bits and limits.
pub(crate) fn constants_page(constants: &[Constant]) -> String {
    let mut page =
        String::from("\n## Bits and other constants\n\n| name | value | meaning |\n|---|---|---|\n");
    for Constant { name, value, meaning } in constants {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{name}` | {value:#x} | {meaning} |");
    }
    page
}

/// The page of a device: its title, its `manual.md`, and the tables of `regs.rs` in the same folder.
pub(crate) fn manual_page(
    title: &str,
    manual: &str,
    registers: &[Register],
    constants: &[Constant],
) -> String {
    format!(
        "# {title}\n\n\
         Generated from `regs.rs` and `manual.md`. A test there compares them, and says how to regenerate this page.\n\n\
         {manual}{}{}",
        registers_page(registers),
        constants_page(constants)
    )
}

/// Panics if the file `path`, relative to this crate's folder, differs from `made`, the text that a table gives.
#[cfg(test)]
#[track_caller]
pub(crate) fn is_in_file(path: &str, made: &str) {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == made,
        "{path} differs from the table; regenerate it with UPDATE_PAGES=1 cargo test -p devices"
    );
}
