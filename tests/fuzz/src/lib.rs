//! What fuzz targets share: the parts of an input, the limit of the heap, guest memory, and the start of a target.

pub mod guest;
mod heap;
mod input;
pub mod kernels;
pub mod virtio;

pub use heap::Heap;
pub use input::Input;
pub use libfuzzer_sys;

use std::{env, fs, path::Path, process};

#[global_allocator]
static HEAP: Heap = Heap;

/// Where a target writes its seeds and words, instead of running, if this variable of the environment names a folder.
pub const SEEDS: &str = "MINIVMM_FUZZ_SEEDS";

/// What a target begins with.
#[derive(Debug, Default)]
pub struct Start {
    /// Inputs that reach the depth of the code.
    pub seeds: Vec<Vec<u8>>,
    /// Words of its language.
    pub words: Vec<String>,
    /// The most bytes that its heap may have, if not [`Heap::USUAL`].
    pub heap: Option<usize>,
}

/// Starts a target. Exits if only its seeds are wanted.
pub fn start(start: Start) {
    if let Some(folder) = env::var_os(SEEDS) {
        write(Path::new(&folder), &start).expect("the folder of the seeds can be written");
        process::exit(0);
    }
    heap::limit(start.heap.unwrap_or(Heap::USUAL));
}

fn write(folder: &Path, start: &Start) -> std::io::Result<()> {
    fs::create_dir_all(folder.join("seeds"))?;
    for (number, seed) in start.seeds.iter().enumerate() {
        fs::write(folder.join(format!("seeds/{number:03}")), seed)?;
    }
    let words = start.words.iter().map(|word| {
        let bytes: String = word.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("\"{bytes}\"\n")
    });
    fs::write(folder.join("words"), words.collect::<String>())
}

/// A target: what it starts with, and what it does with an input.
#[macro_export]
macro_rules! target {
    ($start:expr, |$input:ident| $body:expr) => {
        $crate::libfuzzer_sys::fuzz_target!(
            init: $crate::start($start),
            |bytes: &[u8]| {
                let $input = bytes;
                $body
            }
        );
    };
}
