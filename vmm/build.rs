//! Compiles the program that `minivmm reproduce` runs in its guest. It needs no library, only the C compiler that also links Rust programs.

use std::{env, path::PathBuf, process::Command};

const SOURCE: &str = "guest/hold.c";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    let program = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("hold");
    let compiler = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let compiled = Command::new(&compiler)
        .args([
            "-O1",
            "-static",
            "-nostdlib",
            "-ffreestanding",
            "-fno-builtin",
            "-fno-stack-protector",
            "-fno-pic",
            "-no-pie",
        ])
        .args(["-Wall", "-Wextra", "-Werror", "-Wl,--build-id=none,-z,noexecstack", "-s", "-o"])
        .arg(&program)
        .arg(SOURCE)
        .status();
    assert!(
        compiled.is_ok_and(|status| status.success()),
        "{compiler:?} could not compile {SOURCE}; install gcc"
    );
}
