//! Compiles the bare-metal guests and the programs for Linux guests, for the architecture of the tests. The machine where
//! the tests run need not have a compiler.

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[path = "src/bare_metal/parameters.rs"]
mod parameters;

/// The architectures of the guests, with their options for the compiler and the linker.
const ARCHITECTURES: [(&str, &[&str]); 2] = [
    ("x86_64", &["-m64", "-mno-red-zone", "-fcf-protection=none", "-Wl,-Ttext-segment=0x1000000"]),
    (
        "aarch64",
        &["-mstrict-align", "-mno-outline-atomics", "start.S", "-Timage.ld", "-Wl,--no-warn-rwx-segments"],
    ),
];

fn main() {
    let var = |name| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let (arch, out) = (var("CARGO_CFG_TARGET_ARCH"), PathBuf::from(var("OUT_DIR")));
    let sources = Path::new(&var("CARGO_MANIFEST_DIR")).join("bare-metal");
    let driver = sources.join("../../guest-images/driver");
    let headers = ["minivmm-camera-regs.h", "minivmm-camera-meta.h"].map(|header| driver.join(header));
    for watched in [sources.clone(), PathBuf::from("guest")].into_iter().chain(headers) {
        println!("cargo::rerun-if-changed={}", watched.display());
    }
    let Some((_, flags)) = ARCHITECTURES.iter().find(|(name, _)| *name == arch) else {
        panic!("there are bare-metal guests for x86_64 and aarch64, but none for {arch}");
    };

    let mut header = format!("#define PARAMETERS {}\n", parameters::NAMES.len());
    for (index, name) in parameters::NAMES.iter().enumerate() {
        let _ = writeln!(header, "#ifdef __ASSEMBLER__\n#define {name} parameters + 8 * {index}");
        let _ = writeln!(header, "#else\n#define {name} parameters[{index}]\n#endif");
    }
    let _ = writeln!(header, "#define PARAMETERS_MAGIC \"{}\"", parameters::MAGIC);
    fs::write(out.join("parameters.h"), header).expect("the output folder is ours");

    // The linker of Rust programs for that machine is also its C compiler.
    let compiler = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let mut table = "[\n".to_owned();
    for entry in fs::read_dir(&sources).expect("there are sources") {
        let source = entry.expect("the folder is read to its end").path();
        if source.extension().is_none_or(|extension| extension != "c") {
            continue;
        }
        let name = source.file_stem().expect("sources have names").to_string_lossy();
        let guest = out.join(&*name);
        let compiled = Command::new(&compiler)
            // Some of the flags name files in this folder.
            .current_dir(sources.join(&arch))
            .args(["-O2", "-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-no-pie"])
            .args(["-mgeneral-regs-only", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"])
            .args(["-Wall", "-Werror", "-Wl,--build-id=none,-z,noexecstack"])
            .args([Path::new("-I."), Path::new("-I.."), Path::new("-I"), &driver, Path::new("-I"), &out])
            .args(*flags)
            .args([Path::new("-o"), &guest, &source])
            .status();
        assert!(compiled.is_ok_and(|status| status.success()), "{compiler:?} could not compile {name}.c");
        if arch == "aarch64" {
            flatten(&compiler, &guest);
        }
        let _ = writeln!(table, "({name:?}, include_bytes!({guest:?})),");
    }
    table.push(']');
    compile_for_linux(&compiler, &driver, &out);
    fs::write(out.join("guests.rs"), table).expect("the output folder is ours");
}

/// Compiles the programs that tests run in Linux guests.
fn compile_for_linux(compiler: &OsStr, driver: &Path, out: &Path) {
    for name in [
        "cma-ops",
        "mcam-3a",
        "mcam-params",
        "pin",
        "rkisp1-buffers",
        "rkisp1-params",
        "vepu-encode",
        "vsock-echo",
    ] {
        let source = PathBuf::from(format!("guest/{name}.c"));
        let mut command = Command::new(compiler);
        command.args(["-O2", "-static", "-Wall", "-Werror", "-I"]).arg(driver);
        command.arg("-o").args([&out.join(name), &source]);
        let compiled = command.status().is_ok_and(|status| status.success());
        assert!(compiled, "{compiler:?} could not compile {}", source.display());
    }
}

/// Replaces the ELF file `guest` by its flat image.
fn flatten(compiler: &OsStr, guest: &Path) {
    let found = Command::new(compiler).arg("-print-prog-name=objcopy").output().expect("the compiler runs");
    let objcopy = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    let copied = Command::new(&objcopy).args(["-O", "binary"]).arg(guest).status();
    assert!(copied.is_ok_and(|status| status.success()), "{objcopy} could not copy {}", guest.display());
}
