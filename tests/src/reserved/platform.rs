//! The machines of QEMU that boot trees: where their parts lie, and the nodes and the command line that they need.

use super::tree::Node;

/// Where the parts of the arm64 guest lie: all below the memory that trees under test use.
pub const DTB: u64 = 0x4011_0000;
/// The kernel of the arm64 guest.
pub const KERNEL: u64 = 0x4020_0000;
/// The initramfs of the arm64 guest, and its end.
pub const INITRD: [u64; 2] = [0x4800_0000, 0x4810_0000];
/// The RAM of the arm64 guest below 4 GiB.
pub const RAM: [u64; 2] = [0x4000_0000, 0xc000_0000];
/// The RAM of the arm64 guest above 4 GiB, which few trees describe.
pub const HIGH_RAM: [u64; 2] = [0x1_0000_0000, 0x1_4000_0000];
/// The RAM of the x86_64 guest by its e820 map.
pub const PC_RAM: [[u64; 2]; 2] = [[0x1000, 0x9_f000], [0x10_0000, 0xbffe_0000]];

/// The arguments of every kernel: quick, and with an end.
const BOOTARGS: &str = "panic=-1 nokaslr mitigations=off rdinit=/init";
/// Those of arm64. The console has all that Linux reserves, which its log has no room for.
const VIRT_BOOTARGS: &str = "earlycon=pl011,0x9000000 console=ttyAMA0 loglevel=8 kpti=off init_on_alloc=0 audit=0 apparmor=0 cryptomgr.notests memblock=debug";
/// Those of x86_64. The log is the console: our kernel expects serial ports only where a tree has them.
const PC_BOOTARGS: &str = "earlycon=uart8250,io,0x3f8,115200 keep_bootcon loglevel=5 printk.devkmsg=on";

/// A machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// QEMU's `virt`, an arm64 machine.
    Virt,
    /// QEMU's `pc`, an x86_64 machine. Its e820 map describes the RAM, and its MP table the interrupts.
    Pc {
        /// The initramfs, for which QEMU chooses the place, and its end.
        initrd: [u64; 2],
    },
}

impl Platform {
    /// The kernel's arguments.
    pub fn bootargs(self) -> String {
        let own = match self {
            Self::Virt => VIRT_BOOTARGS,
            Self::Pc { .. } => PC_BOOTARGS,
        };
        format!("{own} {BOOTARGS}")
    }

    /// The root without children.
    pub fn root(self) -> Node {
        let root = Node::new("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
        match self {
            Self::Virt => root.cells("interrupt-parent", &[1]).strings("compatible", &["linux,dummy-virt"]),
            Self::Pc { .. } => root.strings("compatible", &["minivmm,check-trees"]),
        }
    }

    /// /chosen without the arguments.
    pub fn chosen(self) -> Node {
        let (chosen, [start, end]) = match self {
            Self::Virt => (Node::new("chosen").strings("stdout-path", &["/pl011@9000000"]), INITRD),
            Self::Pc { initrd } => (Node::new("chosen"), initrd),
        };
        chosen.numbers("linux,initrd-start", &[start]).numbers("linux,initrd-end", &[end])
    }

    /// The other nodes of the machine, each with its children. `devices` are those that the guest's module drives.
    pub fn nodes(self, devices: Vec<Node>) -> Vec<(Node, Vec<Node>)> {
        let plain = |node: Node| (node, Vec::new());
        let cpu = |compatible| {
            Node::new("cpu@0")
                .strings("device_type", &["cpu"])
                .strings("compatible", &[compatible])
                .cells("reg", &[0])
        };
        let cpus = |compatible| {
            (
                Node::new("cpus").cells("#address-cells", &[1]).cells("#size-cells", &[0]),
                vec![cpu(compatible)],
            )
        };
        match self {
            Self::Virt => {
                [vec![cpus("arm,cortex-a57")], virt(), devices.into_iter().map(plain).collect()].concat()
            }
            Self::Pc { .. } => {
                let soc = Node::new("soc").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
                let soc = soc.strings("compatible", &["intel,ce4100-cp", "simple-bus"]).mark("ranges");
                vec![cpus("x86"), (soc, devices)]
            }
        }
    }
}

/// Firmware, timer, interrupts and console of `virt`.
fn virt() -> Vec<(Node, Vec<Node>)> {
    [
        Node::new("psci")
            .strings("compatible", &["arm,psci-1.0", "arm,psci-0.2"])
            .strings("method", &["hvc"]),
        Node::new("timer")
            .strings("compatible", &["arm,armv8-timer"])
            .mark("always-on")
            .cells("interrupts", &[1, 13, 0x104, 1, 14, 0x104, 1, 11, 0x104, 1, 10, 0x104]),
        Node::new("intc@8000000")
            .strings("compatible", &["arm,cortex-a15-gic"])
            .cells("#interrupt-cells", &[3])
            .mark("interrupt-controller")
            .numbers("reg", &[0x800_0000, 0x1_0000, 0x801_0000, 0x1_0000])
            .cells("phandle", &[1]),
        Node::new("apb-pclk")
            .strings("compatible", &["fixed-clock"])
            .cells("#clock-cells", &[0])
            .cells("clock-frequency", &[24_000_000])
            .cells("phandle", &[2]),
        Node::new("pl011@9000000")
            .strings("compatible", &["arm,pl011", "arm,primecell"])
            .numbers("reg", &[0x900_0000, 0x1000])
            .cells("interrupts", &[0, 1, 4])
            .cells("clocks", &[2, 2])
            .strings("clock-names", &["uartclk", "apb_pclk"]),
    ]
    .map(|node| (node, Vec::new()))
    .to_vec()
}
