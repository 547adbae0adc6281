//! The command `minivmm`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vmm::cli::main()
}
