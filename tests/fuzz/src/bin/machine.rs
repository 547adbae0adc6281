//! No options make their readers or the layout of a machine panic. A machine that is laid out has its windows in memory, apart, at whole
//! pageblocks, and a tree that can be read.

#![no_main]

use cma::{
    check::{Arch, Boot, Kernel, Rules, Tree, check},
    size,
};
use fuzz::Start;
use vmm::{
    boot::load,
    machine::config::{CmaMode, Config},
};

/// Options, one a line: `--cma`, `--device`, and the others by their first letter.
fn seeds() -> Vec<Vec<u8>> {
    [
        "c 64M\nd camera\n",
        "c 64M,name=isp\nc size=16M,base=0x50000000,default\nd camera,window=isp,scene=gradient\nd msgdma,window=isp\n",
        "m 4G\nn 2\nu 2\nc 32M,node=1,name=a\nc 512M,within=0-4G\nd camera,node=1\n",
        "m 256M\np 2M\no\nc 16M,align=16M,default\nd msgdma,descriptors=8,response=no,address-bits=32\nd camera,sensor=yes,fps=50\n",
        "b\nc 16M\nd camera,timing=stall,noise=no,defects=3,lamp=1.4:1:0.6,auto=yes,address-bits=36,coherent=no\n",
    ]
    .map(|options| options.as_bytes().to_vec())
    .into()
}

fn words() -> Vec<String> {
    let keys = devices::REGISTRY.iter().flat_map(|device| device.keys.iter().copied().flatten());
    let keys = keys.map(|key| format!("{}=", key.name));
    let fields =
        ["size=", "name=", "base=", "node=", "default", "align=", "within=", "no-map", "camera,", "msgdma,"];
    keys.chain(fields.map(str::to_owned)).collect()
}

/// The machine that the options describe, unless one is invalid.
fn config(text: &str) -> Option<Config> {
    let mut config = Config { seed: Some(1), ..Config::default() };
    for line in text.lines() {
        let (option, value) = line.split_at_checked(2).unwrap_or((line, ""));
        match option.trim_end() {
            "c" => config.windows.push(value.parse().ok()?),
            "d" => config.devices.push(value.parse().ok()?),
            "a" => config.added.push(value.parse().ok()?),
            "m" => config.memory = size::parse(value).ok()?,
            "p" => config.pageblock = size::parse(value).ok()?,
            "n" => config.numa = value.parse().ok()?,
            "u" => config.cpus = value.parse().ok()?,
            "o" => config.cma_mode = CmaMode::Cmdline,
            "b" => config.cma_mode = CmaMode::Both,
            "l" => value.clone_into(&mut config.cmdline),
            _ => return None,
        }
    }
    // Files of the host are not read here.
    config.added.clear();
    Some(config)
}

fuzz::target!(Start { seeds: seeds(), words: words(), ..Start::default() }, |bytes| {
    let Some(config) = std::str::from_utf8(bytes).ok().and_then(config) else { return };
    let Ok(loaded) = load::load_with(&config, None) else { return };
    let mut windows: Vec<_> = loaded.windows.iter().map(|window| window.range()).collect();
    windows.sort_by_key(|window| window.start);
    assert!(windows.is_sorted_by(|a, b| a.end <= b.start), "windows overlap: {windows:x?}");
    let ram = vmm::arch::ram(config.memory);
    for window in windows {
        assert!(
            ram.iter().any(|ram| ram.start <= window.start && window.end <= ram.end),
            "{window:x?} is not in memory"
        );
        assert!(window.start.is_multiple_of(config.pageblock) && !window.is_empty(), "{window:x?}");
    }
    let tree = Tree::read(&loaded.tree).expect("our own tree can be read");
    let kernel = Kernel::guest(Rules::V6_1, Arch::X86_64, 4096, config.pageblock.max(4096));
    let _ = kernel.map(|kernel| check(&tree, &kernel, &Boot::default()).to_string());
});
