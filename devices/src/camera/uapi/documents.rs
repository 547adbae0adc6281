//! The C header and the reference page, made from the table.

use super::{
    params::{PARAMS_MAX, ParamsFault},
    table::{
        BLOCKS, Block, FLAG_DISABLE, FLAG_ENABLE, HEADER, PARAMS_VERSION, STATISTICS, STATISTICS_VERSION,
        Struct, ZONE,
    },
};

#[expect(clippy::cast_possible_truncation, reason = "the size is small")]
const PARAMS_MAX_SIZE: u32 = PARAMS_MAX as u32;

/// A constant of the C header.
struct Constant {
    name: &'static str,
    value: u32,
    meaning: &'static str,
}

/// The reasons for which a buffer of parameters is refused, and other constants.
const CONSTANTS: &[Constant] = &[
    constant("STATS_VERSION", STATISTICS_VERSION, "`version` of a buffer of statistics."),
    constant("PARAMS_VERSION", PARAMS_VERSION, "`version` of a buffer of parameters. 0 means the same."),
    constant(
        "PARAMS_MAX_SIZE",
        PARAMS_MAX_SIZE,
        "Bytes of a buffer with all blocks of parameters, including the header.",
    ),
    constant(
        "PARAMS_FL_BLOCK_DISABLE",
        FLAG_DISABLE as u32,
        "The stage does nothing. The block can end after its header.",
    ),
    constant(
        "PARAMS_FL_BLOCK_ENABLE",
        FLAG_ENABLE as u32,
        "The block sets the stage. A block without flags does the same.",
    ),
    constant("PARAMS_ERROR_VERSION", ParamsFault::VERSION, "The version is unknown."),
    constant(
        "PARAMS_ERROR_DATA_SIZE",
        ParamsFault::DATA_SIZE,
        "`data_size` is larger than the buffer or than PARAMS_MAX_SIZE.",
    ),
    constant(
        "PARAMS_ERROR_TRUNCATED",
        ParamsFault::TRUNCATED,
        "A block does not fit in the rest of `data_size`.",
    ),
    constant("PARAMS_ERROR_TYPE", ParamsFault::TYPE, "The type of a block is unknown."),
    constant("PARAMS_ERROR_FLAGS", ParamsFault::FLAGS, "A flag is unknown, or both flags are set."),
    constant("PARAMS_ERROR_SIZE", ParamsFault::SIZE, "The size is wrong for a block of this type."),
    constant(
        "PARAMS_ERROR_DUPLICATE",
        ParamsFault::DUPLICATE,
        "The buffer already has a block of this type.",
    ),
    constant("PARAMS_ERROR_RANGE", ParamsFault::RANGE, "The value is out of its field's range."),
];

const fn constant(name: &'static str, value: u32, meaning: &'static str) -> Constant {
    Constant { name, value, meaning }
}

/// The C header with the layouts, for programs and for the driver.
pub fn c_header() -> String {
    use std::fmt::Write as _;
    let mut out = String::from(include_str!("header.h"));
    // Writing to a String cannot fail.
    for Constant { name, value, meaning } in CONSTANTS {
        let _ = writeln!(out, "/* {} */\n#define MINIVMM_{name} {value}", meaning.replace('`', ""));
    }
    out += "\n/* The type of each block. */\nenum minivmm_params_block_type {\n";
    for Block { kind, name, .. } in &BLOCKS {
        let _ = writeln!(out, "\tMINIVMM_PARAMS_BLOCK_{name} = {},", *kind as u16);
    }
    out += "};\n";
    for block in &BLOCKS {
        let header = "\tstruct minivmm_params_block_header header;\n";
        c_struct(&mut out, &block.body, header, " __attribute__((aligned(8)))", block.size());
    }
    c_struct(&mut out, &ZONE, "", "", ZONE.size());
    c_struct(&mut out, &STATISTICS, "", "", STATISTICS.size());
    out += "\n#endif\n";
    out
}

fn c_struct(out: &mut String, of: &Struct, header: &str, attribute: &str, size: usize) {
    use std::fmt::Write as _;
    let Struct { name, fields, meaning } = of;
    let _ = write!(out, "\n/* {} */\nstruct minivmm_{name} {{\n{header}", meaning.replace('`', ""));
    for field in *fields {
        let meaning = field.meaning.replace('`', "");
        let _ = writeln!(out, "\t/* {meaning} */\n\t{} {};", field.kind.c_name(), field.declarator());
    }
    let _ = writeln!(
        out,
        "}}{attribute};\n\n_Static_assert(sizeof(struct minivmm_{name}) == {size}, \"no padding\");"
    );
}

/// The reference page of the layouts, in Markdown.
pub fn reference() -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "# The ISP's metadata\n\n\
         This page is generated from `uapi/table.rs` and `uapi/uapi.md`. A test compares them, and says how to regenerate it.\n\
         In the C header for programs, `guest-images/driver/minivmm-camera-meta.h`, each name begins with `MINIVMM_` or\n\
         `struct minivmm_`.\n\n\
         ## Layout and use\n\n",
    );
    out += include_str!("uapi.md");
    out += "\n## Constants\n\n| name | value | meaning |\n|---|---|---|\n";
    for Constant { name, value, meaning } in CONSTANTS {
        let _ = writeln!(out, "| `{name}` | {value} | {meaning} |");
    }
    for block in &BLOCKS {
        let _ = write!(
            out,
            "\n## Block {}, `{}`: {} bytes\n\n{}\n",
            block.kind as u16,
            block.name,
            block.size(),
            block.body.meaning
        );
        table(&mut out, &block.body, HEADER, true);
    }
    for part in [&STATISTICS, &ZONE] {
        let _ = write!(out, "\n## `{}`: {} bytes\n\n{}\n", part.name, part.size(), part.meaning);
        table(&mut out, part, 0, false);
    }
    out
}

fn table(out: &mut String, of: &Struct, start: usize, has_ranges: bool) {
    use std::fmt::Write as _;
    out.push_str(if has_ranges {
        "\n| offset | field | type | range | meaning |\n|---|---|---|---|---|\n"
    } else {
        "\n| offset | field | type | meaning |\n|---|---|---|---|\n"
    });
    let mut offset = start;
    for field in of.fields {
        let kind = field.kind.c_name();
        let kind = kind.trim_start_matches('_').trim_start_matches("struct minivmm_");
        let _ = write!(out, "| {offset} | `{}` | {kind} |", field.declarator());
        if has_ranges {
            let _ = write!(out, " {} to {} |", field.range[0], field.range[1]);
        }
        let _ = writeln!(out, " {} |", field.meaning);
        offset += field.size();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register_table::is_in_file;

    #[test]
    fn the_programs_header_is_this_table() {
        is_in_file("../guest-images/driver/minivmm-camera-meta.h", &c_header());
    }

    #[test]
    fn the_reference_page_is_this_table() {
        is_in_file("src/camera/METADATA.md", &reference());
    }
}
