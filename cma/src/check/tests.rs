//! Tests of each rule with a tree that violates it, and of blobs that are not device trees.

use proptest::prelude::*;
use vm_fdt::{FdtReserveEntry, FdtWriter};

use super::*;

const M: u64 = 1 << 20;

/// A property's name and value.
type Property = (&'static str, Vec<u8>);

fn flag(name: &'static str) -> Property {
    (name, Vec::new())
}

fn text(name: &'static str, text: &str) -> Property {
    (name, [text.as_bytes(), b"\0"].concat())
}

fn cells(name: &'static str, cells: &[u32]) -> Property {
    (name, cells.iter().flat_map(|cell| cell.to_be_bytes()).collect())
}

fn wide(name: &'static str, numbers: &[u64]) -> Property {
    (name, numbers.iter().flat_map(|number| number.to_be_bytes()).collect())
}

/// `compatible` of pools.
fn pool() -> Property {
    text("compatible", "shared-dma-pool")
}

fn reg(base: u64, size: u64) -> Property {
    wide("reg", &[base, size])
}

/// A window that Linux accepts.
fn window(base: u64) -> Vec<Property> {
    vec![pool(), flag("reusable"), reg(base, 64 * M)]
}

/// A device tree. Parts that are not given are valid.
struct Board {
    root: Vec<Property>,
    memory: Vec<(u64, u64)>,
    /// Whether each range of memory is a NUMA node of its own.
    numa: bool,
    reservations: Vec<(u64, u64)>,
    cmdline: &'static str,
    /// The address of a crashed kernel's ELF header.
    elfcorehdr: Option<u64>,
    /// The addresses of the initrd's beginning and end.
    initrd: Option<[u64; 2]>,
    parent: Vec<Property>,
    regions: Vec<(String, Vec<Property>)>,
    /// Properties of /soc, a bus with two address and two size cells.
    soc: Vec<Property>,
    devices: Vec<(&'static str, Vec<Property>)>,
}

impl Default for Board {
    /// 2 GiB at 2 GiB, and 1 GiB at 4 GiB.
    fn default() -> Self {
        let own = [cells("#address-cells", &[2]), cells("#size-cells", &[2])];
        Self {
            root: own.to_vec(),
            memory: vec![(0x8000_0000, 2048 * M), (0x1_0000_0000, 1024 * M)],
            numa: false,
            reservations: Vec::new(),
            cmdline: "quiet",
            elfcorehdr: None,
            initrd: None,
            parent: [&own[..], &[flag("ranges")]].concat(),
            regions: Vec::new(),
            soc: own.to_vec(),
            devices: Vec::new(),
        }
    }
}

impl Board {
    /// With one region.
    fn region(name: &str, properties: Vec<Property>) -> Self {
        Self { regions: vec![(name.to_owned(), properties)], ..Self::default() }
    }

    /// With a window of phandle 1 and a device that has `properties`.
    fn device(properties: Vec<Property>) -> Self {
        let window = [window(0x9000_0000), vec![cells("phandle", &[1])]].concat();
        Self { devices: vec![("camera", properties)], ..Self::region("isp@90000000", window) }
    }

    fn blob(&self) -> Vec<u8> {
        let entries: Vec<_> = self
            .reservations
            .iter()
            .map(|(base, size)| FdtReserveEntry::new(*base, *size).unwrap())
            .collect();
        let mut fdt = FdtWriter::new_with_mem_reserv(&entries).unwrap();
        let begin = |fdt: &mut FdtWriter, name: &str, properties: &[Property]| {
            let node = fdt.begin_node(name).unwrap();
            properties.iter().for_each(|(name, value)| fdt.property(name, value).unwrap());
            node
        };
        let root = begin(&mut fdt, "", &self.root);
        let mut chosen = vec![text("bootargs", self.cmdline)];
        chosen.extend(self.elfcorehdr.map(|base| wide("linux,elfcorehdr", &[base, 4096])));
        let [start, end] = [0, 1].map(|end| self.initrd.map(|initrd| initrd[end]));
        chosen.extend(start.map(|start| wide("linux,initrd-start", &[start])));
        chosen.extend(end.map(|end| wide("linux,initrd-end", &[end])));
        let chosen = begin(&mut fdt, "chosen", &chosen);
        fdt.end_node(chosen).unwrap();
        for (index, (base, size)) in (0..).zip(&self.memory) {
            let mut properties = vec![text("device_type", "memory"), reg(*base, *size)];
            properties.extend(self.numa.then(|| cells("numa-node-id", &[index])));
            let memory = begin(&mut fdt, &format!("memory@{base:x}"), &properties);
            fdt.end_node(memory).unwrap();
        }
        let parent = begin(&mut fdt, "reserved-memory", &self.parent);
        for (name, properties) in &self.regions {
            let region = begin(&mut fdt, name, properties);
            fdt.end_node(region).unwrap();
        }
        fdt.end_node(parent).unwrap();
        let soc = begin(&mut fdt, "soc", &self.soc);
        for (name, properties) in &self.devices {
            let device = begin(&mut fdt, name, properties);
            fdt.end_node(device).unwrap();
        }
        fdt.end_node(soc).unwrap();
        fdt.end_node(root).unwrap();
        fdt.finish().unwrap()
    }

    fn check(&self) -> Report {
        self.check_by(&kernel())
    }

    fn check_by(&self, kernel: &Kernel) -> Report {
        check(&Tree::read(&self.blob()).unwrap(), kernel, &Boot::default())
    }
}

/// The rules of Linux 6.1 with pageblocks of 4 MiB, restricted pools, and without a default window of its own.
fn kernel() -> Kernel {
    let mut kernel = Kernel::debian(Rules::V6_1, Arch::Arm64, 4096).unwrap().with_pageblock(4 * M).unwrap();
    kernel.options.dma_restricted_pool = true;
    kernel.options.cma_size_mbytes = 0;
    kernel
}

/// The same with other rules.
fn of(rules: Rules) -> Kernel {
    Kernel { rules, ..kernel() }
}

/// Asserts that there is one finding above the notes and that it contains `part`, or no finding if `part` is empty.
#[track_caller]
fn one_finding(report: &Report, level: Level, part: &str) {
    let findings: Vec<&Finding> = report.findings().filter(|finding| finding.level > Level::Note).collect();
    match &findings[..] {
        [] => assert!(part.is_empty(), "there is no finding, but \"{part}\" is expected: {report}"),
        [finding] => {
            assert_eq!(finding.level, level, "{finding}");
            assert!(!part.is_empty() && finding.text.contains(part), "\"{part}\" is expected: {finding}");
            assert!(finding.source.contains(".c, "), "{finding}");
            // The text for people has it, too.
            assert!(report.to_string().contains(&finding.text), "{report}");
        }
        _ => panic!("one finding is expected: {findings:#?}"),
    }
}

#[test]
fn what_becomes_of_one_region() {
    use Level::{Error, Warning};
    use NodeOutcome::{CmaPool, CoherentCarveout, Ignored, NoMap, Refused, Reserved, RestrictedDmaPool};
    let reusable = || vec![pool(), flag("reusable")];
    let at = |base, size| [reusable(), vec![reg(base, size)]].concat();
    let size = |size| [reusable(), vec![wide("size", &[size])]].concat();
    let with = |mut properties: Vec<Property>, more: Property| {
        properties.push(more);
        properties
    };
    let window = window(0x9000_0000);
    let carveout = vec![pool(), flag("no-map"), reg(0x9000_0000, M)];
    let restricted = vec![text("compatible", "restricted-dma-pool"), reg(0x9000_0000, M)];
    for (name, properties, outcome, level, part) in [
        // Valid.
        ("isp@90000000", window.clone(), CmaPool, Error, ""),
        ("isp", size(64 * M), CmaPool, Error, ""),
        ("isp@90000000", carveout.clone(), CoherentCarveout, Error, ""),
        ("isp@90000000", restricted.clone(), RestrictedDmaPool, Error, ""),
        ("tz@90000000", vec![flag("no-map"), reg(0x9000_0000, M)], NoMap, Error, ""),
        ("log@90000000", vec![reg(0x9000_0000, M)], Reserved, Error, ""),
        ("isp@90000000", with(window.clone(), text("status", "disabled")), Ignored, Error, ""),
        ("isp@90000000", with(window.clone(), text("status", "ok")), CmaPool, Error, ""),
        // rmem_cma_setup and cma_init_reserved_mem.
        ("isp@90000000", with(window.clone(), flag("no-map")), Refused, Error, "exclude each other"),
        ("isp@90200000", at(0x9020_0000, 64 * M), Refused, Error, "base 0x90200000 is not a multiple"),
        ("isp@90000000", at(0x9000_0000, 63 * M), Refused, Error, "; 0x4000000 is"),
        ("isp", size(6 * M), Refused, Error, "size 0x600000 is not a multiple of the pageblock of 4M"),
        ("isp", size(0), Refused, Error, "its size is zero"),
        ("isp@90000000", at(0x9000_0000, 0), Refused, Error, "reg has size zero"),
        ("isp@fc000000", at(0xfc00_0000, 128 * M), CmaPool, Error, "both sides of 4 GiB"),
        (
            "isp@40000000",
            at(0x4000_0000, 64 * M),
            CmaPool,
            Error,
            "no memory node covers all of 0x40000000..0x44000000: Linux makes the window, and panics at boot",
        ),
        // rmem_dma_setup and its consequences.
        ("isp@90000000", vec![pool(), reg(0x9000_0000, M)], CoherentCarveout, Warning, "mapped as RAM"),
        ("isp", vec![pool(), wide("size", &[M])], CoherentCarveout, Warning, "mapped as RAM"),
        ("sram@40000000", vec![pool(), reg(0x4000_0000, M)], CoherentCarveout, Error, ""),
        (
            "isp@90000000",
            with(carveout.clone(), flag("linux,cma-default")),
            CoherentCarveout,
            Error,
            "does not make it the default window",
        ),
        // rmem_swiotlb_setup.
        ("isp@90000000", with(restricted.clone(), flag("no-map")), Refused, Error, "cannot have no-map"),
        ("isp@90000000", with(restricted.clone(), flag("reusable")), Refused, Error, "cannot have reusable"),
        // Plain ones.
        (
            "log@90000000",
            vec![flag("reusable"), reg(0x9000_0000, M)],
            Reserved,
            Warning,
            "reusable has no effect",
        ),
        ("log@40000000", vec![reg(0x4000_0000, M)], Reserved, Error, ""),
        ("tz@40000000", vec![flag("no-map"), reg(0x4000_0000, M)], NoMap, Error, ""),
        // __reserved_mem_reserve_reg.
        (
            "isp@90000000",
            vec![pool(), cells("reg", &[0, 0x9000_0000, 0])],
            Ignored,
            Error,
            "reg has 12 bytes",
        ),
        ("isp@90000000", vec![pool(), cells("reg", &[])], Ignored, Error, "reg has 0 bytes"),
        ("isp", reusable(), Ignored, Error, "neither reg nor size"),
        ("isp@91000000", window.clone(), CmaPool, Warning, "unit address 91000000 is not"),
        (
            "isp@90000000",
            with(reusable(), wide("reg", &[0x9000_0000, 64 * M, 0xa000_0000, 64 * M])),
            CmaPool,
            Warning,
            "devices see only the first of 2 tuples",
        ),
        // __reserved_mem_alloc_size.
        (
            "isp",
            with(reusable(), cells("size", &[0x0400_0000])),
            Refused,
            Error,
            "size has 4 bytes; by the root's cells it must have 8",
        ),
        ("isp", with(size(64 * M), cells("alignment", &[4])), Refused, Error, "alignment has 4 bytes"),
        ("isp", with(size(64 * M), wide("alignment", &[3 * M])), CmaPool, Error, ""),
        ("isp", with(size(64 * M), wide("alloc-ranges", &[0])), Refused, Error, "alloc-ranges has 8 bytes"),
        ("isp", with(size(64 * M), wide("alloc-ranges", &[0x8800_0000, 64 * M])), CmaPool, Error, ""),
        (
            "isp",
            with(size(64 * M), wide("alloc-ranges", &[0x8820_0000, 64 * M])),
            Refused,
            Error,
            "no room for 64M at a multiple of 4M in its alloc-ranges, only for 62M",
        ),
        ("isp", with(size(64 * M), flag("alloc-ranges")), Refused, Error, "in its alloc-ranges, only for 0"),
        ("isp", size(4096 * M), Refused, Error, "in RAM, only for 3G"),
    ] {
        let report = Board::region(name, properties).check();
        assert_eq!(report.regions[0].outcome, outcome, "{part}: {report}");
        one_finding(&report, level, part);
    }
}

#[test]
fn the_node_around_them() {
    let cell = |name, cell| cells(name, &[cell]);
    let good = || vec![cell("#address-cells", 2), cell("#size-cells", 2), flag("ranges")];
    for (parent, outcome, level, part) in [
        (good(), NodeOutcome::CmaPool, Level::Error, ""),
        (good()[1..].to_vec(), NodeOutcome::Ignored, Level::Error, "has no #address-cells"),
        (good()[..2].to_vec(), NodeOutcome::Ignored, Level::Error, "has no ranges"),
        (
            vec![cell("#address-cells", 2), cell("#size-cells", 1), flag("ranges")],
            NodeOutcome::Ignored,
            Level::Error,
            "has #size-cells = 1; it must be the same as the root's, 2",
        ),
        (
            [&good()[..2], &[cells("ranges", &[0; 6])]].concat(),
            NodeOutcome::CmaPool,
            Level::Warning,
            "ranges property that is not empty",
        ),
    ] {
        let board = Board { parent, ..Board::region("isp@90000000", window(0x9000_0000)) };
        let report = board.check();
        assert_eq!(report.regions[0].outcome, outcome, "{part}");
        one_finding(&report, level, part);
    }
    for (name, value) in [("#address-cells", 0), ("#size-cells", 3), ("#size-cells", u32::MAX)] {
        let mut board = Board::region("isp@90000000", window(0x9000_0000));
        board.root.retain(|(other, _)| *other != name);
        board.root.push(cell(name, value));
        one_finding(&board.check(), Level::Error, &format!("the root has {name} = {value}"));
    }
}

#[test]
fn cells_of_one_word() {
    let own = [cells("#address-cells", &[1]), cells("#size-cells", &[1])];
    let window = vec![pool(), flag("reusable"), cells("reg", &[0x9000_0000, 0x0400_0000])];
    let board = Board {
        root: Vec::new(),
        memory: Vec::new(),
        parent: [&own[..], &[flag("ranges")]].concat(),
        ..Board::region("isp@90000000", window)
    };
    let report = board.check();
    assert_eq!((report.regions[0].base, report.regions[0].size), (Some(0x9000_0000), Some(64 * M)));
    assert_eq!(report.regions[0].outcome, NodeOutcome::CmaPool);
    assert!(report.findings[0].text.contains("no memory node has a size"), "{report}");
}

#[test]
fn several_regions() {
    let mut board = Board::region("a@90000000", window(0x9000_0000));
    board.regions.push(("b@93000000".into(), window(0x9300_0000)));
    one_finding(&board.check(), Level::Error, "it overlaps /reserved-memory/a@90000000: Linux logs it");

    // A device can have buffers in the memory of its own firmware.
    let carveout = |base| vec![pool(), flag("no-map"), reg(base, M), cells("phandle", &[2])];
    let firmware = vec![flag("no-map"), reg(0x9000_0000, 8 * M), cells("phandle", &[1])];
    let mut dsp = Board::region("firmware@90000000", firmware);
    dsp.regions.push(("buffers@90100000".into(), carveout(0x9010_0000)));
    dsp.devices = vec![("dsp", vec![cells("memory-region", &[1, 2])])];
    let overlap = |board: &Board| board.check().regions[1].findings[0].clone();
    assert!(overlap(&dsp).level == Level::Warning && overlap(&dsp).text.contains("both are of /soc/dsp"));
    dsp.devices.push(("gpu", vec![cells("memory-region", &[1])]));
    assert_eq!(overlap(&dsp).level, Level::Error);

    // Adjacent regions are valid. Plain ones may overlap, which Linux logs.
    board.regions[1] = ("b@94000000".into(), window(0x9400_0000));
    one_finding(&board.check(), Level::Error, "");
    board.regions = vec![
        ("a@90000000".into(), vec![reg(0x9000_0000, 2 * M)]),
        ("b@90100000".into(), vec![flag("no-map"), reg(0x9010_0000, M)]),
    ];
    let report = board.check();
    let [busy, overlap] = &report.regions[1].findings[..] else { panic!("{report}") };
    assert_eq!((busy.level, overlap.level), (Level::Error, Level::Warning));
    assert!(busy.text.contains("0x90100000..0x90200000 stays mapped in spite of no-map"), "{busy}");
    // In the other order no memory is reserved yet.
    board.regions.swap(0, 1);
    one_finding(&board.check(), Level::Warning, "OVERLAP DETECTED");

    // A large region contains two others. The second one is not its neighbour.
    board.regions = [(0x9000_0000, 8 * M), (0x9000_1000, M), (0x9040_0000, M)]
        .map(|(base, size)| (format!("r@{base:x}"), vec![reg(base, size)]))
        .into();
    let report = board.check();
    assert!(report.regions[1].findings[0].text.contains("r@90000000: Linux logs it"), "{report}");
    assert!(report.regions[2].findings[0].text.contains("r@90000000: Linux does not notice"), "{report}");

    // A /memreserve/ entry counts, too.
    let secure = vec![flag("no-map"), reg(0x9000_0000, M)];
    let board = Board { reservations: vec![(0x9000_0000, 4096)], ..Board::region("tz@90000000", secure) };
    one_finding(&board.check(), Level::Error, "or /memreserve/");
}

#[test]
fn one_window_is_the_default() {
    let default = |base| [window(base), vec![flag("linux,cma-default")]].concat();
    let mut board = Board::region("b@a0000000", default(0xa000_0000));
    assert!(board.check().regions[0].default);
    board.regions.push(("a@90000000".into(), default(0x9000_0000)));
    // The kernel sets them up in the order of their addresses.
    let report = board.check();
    one_finding(
        &report,
        Level::Warning,
        "/reserved-memory/b@a0000000 is the default window, because Linux sets it up last",
    );
    assert_eq!(report.regions.iter().map(|region| region.default).collect::<Vec<_>>(), [true, false]);

    board.regions.pop();
    board.cmdline = "quiet cma=64M";
    let report = board.check();
    one_finding(&report, Level::Warning, "cma= on the command line");
    assert_eq!(report.regions[0].outcome, NodeOutcome::Refused);
    board.cmdline = "nocma=64M cma";
    assert!(board.check().regions[0].default);
}

#[test]
fn sixty_five_regions_and_twenty_one_windows() {
    let many = |count: u64, properties: fn(u64) -> Vec<Property>| {
        let region = |index| {
            let base = 0x8000_0000 + index * 4 * M;
            (format!("r@{base:x}"), properties(base))
        };
        Board { regions: (0..count).map(region).collect(), ..Board::default() }
    };
    let plain = |base| vec![reg(base, M)];
    one_finding(&many(64, plain).check(), Level::Error, "");
    let report = many(65, plain).check();
    one_finding(&report, Level::Error, "it is number 65 and there is room for 64");
    assert_eq!(report.regions[64].outcome, NodeOutcome::Refused);

    let windows = |base| vec![pool(), flag("reusable"), reg(base, 4 * M)];
    one_finding(&many(20, windows).check(), Level::Error, "");
    let report = many(21, windows).check();
    one_finding(&report, Level::Error, "there are 20 CMA areas before it");
    assert_eq!(report.regions[20].outcome, NodeOutcome::Refused);
}

#[test]
fn what_a_device_gets() {
    let refer = |phandle| vec![cells("memory-region", &[phandle])];
    let report = Board::device(refer(1)).check();
    one_finding(&report, Level::Error, "");
    let reference = &report.users[0].references[0];
    assert_eq!((reference.errno, reference.gets), (0, Some(NodeOutcome::CmaPool)));
    assert_eq!(reference.target.as_deref(), Some("/reserved-memory/isp@90000000"));
    assert_eq!(report.users[0].node, "/soc/camera");

    for (properties, errno, level, part) in [
        (refer(7), -19, Level::Error, "no node has the phandle 0x7"),
        (refer(0), -19, Level::Error, ""),
        (vec![("memory-region", vec![0, 0, 1])], -19, Level::Error, "in the middle of a phandle"),
        (
            [refer(3), vec![cells("phandle", &[3])]].concat(),
            -22,
            Level::Warning,
            "not a child of /reserved-memory",
        ),
        // No driver uses the regions of a disabled device.
        ([refer(7), vec![text("status", "disabled")]].concat(), -19, Level::Error, ""),
    ] {
        let report = Board::device(properties).check();
        assert_eq!(report.users[0].references[0].errno, errno, "{part}");
        let findings: Vec<_> = report.findings().filter(|finding| finding.level > Level::Note).collect();
        // A reference to the node itself is a loop, too.
        let of_level =
            findings.iter().filter(|finding| finding.level == level && finding.text.contains(part));
        assert_eq!(of_level.count() > 0, !part.is_empty(), "{part}: {report}");
    }

    for (more, errno, level, part) in [
        (text("status", "disabled"), 0, Level::Warning, "the call succeeds"),
        (flag("no-map"), -22, Level::Error, "it is not a pool, because it is refused"),
    ] {
        let mut board = Board::device(refer(1));
        board.regions[0].1.push(more);
        let report = board.check();
        let reference = &report.users[0].references[0];
        assert_eq!((reference.errno, reference.gets), (errno, None));
        assert_eq!(reference.findings[0].level, level);
        assert!(reference.findings[0].text.contains(part), "{report}");
    }

    // A carveout that stays mapped, because a part of it was reserved before.
    let mut board = Board::device(refer(1));
    board.regions[0].1 = vec![pool(), flag("no-map"), reg(0x9000_0000, M), cells("phandle", &[1])];
    assert_eq!(board.check().users[0].references[0].gets, Some(NodeOutcome::CoherentCarveout));
    board.reservations = vec![(0x9000_0000, 4096)];
    let reference = &board.check().users[0].references[0];
    assert_eq!((reference.errno, reference.findings[0].level), (-22, Level::Error));

    let phandle = || cells("phandle", &[1]);
    for (region, errno, level) in [
        (vec![reg(0x9000_0000, M), phandle()], -22, Level::Note),
        (vec![pool(), reg(0x9000_0000, M), phandle()], -22, Level::Error),
        (vec![pool(), phandle()], -22, Level::Error),
    ] {
        let board = Board { devices: vec![("camera", refer(1))], ..Board::region("isp@90000000", region) };
        let report = board.check();
        let reference = &report.users[0].references[0];
        assert_eq!((reference.errno, reference.findings[0].level), (errno, level), "{report}");
    }
}

#[test]
fn phandles_twice_and_in_a_circle() {
    let handle = |phandle| cells("phandle", &[phandle]);
    let refer = |phandle| cells("memory-region", &[phandle]);
    let mut board = Board::device(vec![refer(1)]);
    board.regions.push(("b@a0000000".into(), [window(0xa000_0000), vec![handle(1)]].concat()));
    one_finding(&board.check(), Level::Error, "phandle 0x1 is also that of /reserved-memory/isp@90000000");

    board.regions[0].1.push(refer(2));
    board.regions[1] = ("b@a0000000".into(), [window(0xa000_0000), vec![handle(2), refer(1)]].concat());
    let report = board.check();
    let in_circle: Vec<&User> = report
        .users
        .iter()
        .filter(|user| user.references[0].findings.iter().any(|finding| finding.text.contains("refers back")))
        .collect();
    assert_eq!(in_circle.len(), 2, "{report}");
    assert_eq!((report.count(Level::Error), report.count(Level::Warning)), (0, 2), "{report}");
}

#[test]
fn a_window_is_in_one_numa_node() {
    let board = |base, numa| Board {
        memory: vec![(0x8000_0000, 512 * M), (0xa000_0000, 512 * M)],
        numa,
        ..Board::region("isp", [vec![pool(), flag("reusable")], vec![reg(base, 64 * M)]].concat())
    };
    for base in [0x9c00_0000, 0xa000_0000] {
        one_finding(&board(base, true).check(), Level::Error, "");
    }
    one_finding(&board(0x9e00_0000, false).check(), Level::Error, "");
    one_finding(&board(0x9e00_0000, true).check(), Level::Error, "lies in more than one NUMA node");
}

/// Each NUMA node has data at its end, where 6.12 does not map a page that is no-map in part (booted: Debian's 6.12.117, seed 430021).
#[test]
fn the_end_of_a_numa_node_is_used() {
    let panics = |numa, rules| {
        let memory = vec![(0x4000_0000, 1024 * M), (0x8000_0000, 1024 * M)];
        let region = Board::region("tz", vec![flag("no-map"), reg(0x7fff_e040, 4096)]);
        Board { memory, numa, ..region }.check_by(&of(rules)).panics
    };
    assert!(panics(true, Rules::V6_12));
    assert!(!panics(false, Rules::V6_12) && !panics(true, Rules::V6_1) && !panics(true, Rules::V7_2));
}

/// The last memory node of the tree decides whether Linux uses NUMA nodes, wherever it is since 6.12 (booted: Debian's kernels,
/// seeds 410093, 400160 and 430028).
#[test]
fn a_memory_node_without_a_numa_node_ends_numa() {
    let report_by = |last: &[Property], kernel: &Kernel| {
        let device = ("ram", [&[text("device_type", "memory")], last].concat());
        let window = Board::region("isp@bf800000", window(0xbf80_0000));
        let memory = vec![(0x8000_0000, 1024 * M), (0xc000_0000, 1024 * M)];
        Board { memory, numa: true, devices: vec![device], ..window }.check_by(kernel)
    };
    let said_by = |last: &[Property], part: &str, rules| {
        report_by(last, &of(rules)).findings().any(|finding| finding.text.contains(part))
    };
    let said = |last: &[Property], part: &str| said_by(last, part, Rules::V6_12);
    let reason = "Linux uses no NUMA nodes, because the last memory node, /soc/ram, has no numa-node-id";
    let several = "it lies in more than one NUMA node";
    assert!(said(&[], reason) && !said(&[], several));
    assert!(!said_by(&[], reason, Rules::V6_1) && said_by(&[], several, Rules::V6_1));
    let id = cells("numa-node-id", &[1]);
    assert!(said(std::slice::from_ref(&id), "/soc/ram has no address (\"bad property in memory node\")"));
    let whole = [id, reg(0, M)];
    assert!(!said(&whole, "NUMA nodes, because") && said(&whole, several));
}

/// Linux's page tables, and before 7.2 its memory map, are at the end of RAM before the default window is.
#[test]
fn a_default_window_beside_what_linux_allocates_before() {
    for rules in [Rules::V6_1, Rules::V6_12, Rules::V7_2] {
        for (cmdline, has_room) in [
            ("cma=40M@0xbd000000-0xc0000000", rules == Rules::V7_2),
            ("cma=24M@0xbd000000-0xc0000000", true),
            ("cma=48M@0xbc000000-0xc0000000", rules == Rules::V7_2),
            ("cma=64M@0xbc000000-0xc0100000", false),
        ] {
            let memory = vec![(0x8000_0000, 1024 * M)];
            let report = Board { memory, cmdline, ..Board::default() }.check_by(&of(rules));
            let text = report.to_string();
            assert_eq!(text.contains("there is no room for"), !has_room, "{rules} {cmdline} {text}");
        }
    }
}

/// 7.2 also reserves a window in each of several NUMA nodes (CONFIG_CMA_SIZE_PERNUMA).
#[test]
fn a_default_window_in_each_numa_node() {
    let memory = vec![(0x8000_0000, 512 * M), (0xa000_0000, 512 * M)];
    for (rules, numa, cmdline, windows) in [
        (Rules::V7_2, true, "cma=16M", vec![0x9ec0_0000..0x9fc0_0000, 0xbdc0_0000..0xbec0_0000]),
        // One that finds no room, one that has no room beside the page tables and the default window, one of a single node, and one
        // without a default window.
        (Rules::V7_2, true, "cma=300M", vec![0x8d00_0000..0x9fc0_0000]),
        (Rules::V7_2, true, "cma=256M", vec![0x8fc0_0000..0x9fc0_0000]),
        (Rules::V7_2, false, "cma=16M", vec![]),
        (Rules::V7_2, true, "cma=0", vec![]),
        (Rules::V6_12, true, "cma=16M", vec![]),
    ] {
        let board = Board { memory: memory.clone(), numa, cmdline, ..Board::default() };
        let mut kernel = of(rules);
        kernel.options.cma_size_pernuma = true;
        let report = board.check_by(&kernel);
        assert_eq!(report.memory.numa, windows, "{rules} {cmdline} {report}");
        let is_said = report.to_string().contains("of 2 NUMA nodes (CONFIG_CMA_SIZE_PERNUMA)");
        assert_eq!(is_said, !windows.is_empty(), "{report}");
    }
}

#[test]
fn what_a_bus_reaches() {
    let refer = || vec![cells("memory-region", &[1])];
    let own = [cells("#address-cells", &[2]), cells("#size-cells", &[2])];
    // The bus address 0xc0000000 is the CPU's 0x80000000. The bus reaches 256 MiB or 512 MiB from there.
    for (size, part) in [(256, "it can reach 0x80000000..0x90000000"), (512, "")] {
        let soc = [&own[..], &[wide("dma-ranges", &[0xc000_0000, 0x8000_0000, size * M])]].concat();
        let board = Board { soc, ..Board::device(refer()) };
        one_finding(&board.check(), Level::Warning, part);
    }
    let mut board = Board::device(refer());
    board.regions[0].1[2] = reg(0x1_0000_0000, 64 * M);
    board.regions[0].0 = "isp@100000000".into();
    let report = board.check();
    one_finding(&report, Level::Error, "");
    assert!(report.users[0].references[0].findings[0].text.contains("above 4 GiB"), "{report}");

    // A device can have one carveout.
    let mut board = Board::device(vec![cells("memory-region", &[1, 1])]);
    board.regions[0].1 = vec![pool(), flag("no-map"), reg(0x9000_0000, M), cells("phandle", &[1])];
    let report = board.check();
    assert!(report.users[0].references[1].findings[0].text.contains("(-EBUSY)"), "{report}");
    one_finding(&report, Level::Error, "");
}

#[test]
fn rules_that_differ_between_versions() {
    use Level::{Error, Warning};
    use NodeOutcome::{CmaPool, Ignored, NoMap, Refused};
    let reusable = || vec![pool(), flag("reusable")];
    let with = |more: Vec<Property>| [reusable(), more].concat();
    let size = || wide("size", &[64 * M]);
    for (properties, results) in [
        // A reg of a wrong length, beside a size.
        (
            with(vec![cells("reg", &[1]), size()]),
            [
                (Ignored, Error, "reg has 4 bytes"),
                (Ignored, Error, "reg has 4 bytes"),
                (CmaPool, Warning, "Linux ignores reg, and uses size"),
            ],
        ),
        // An empty one.
        (
            with(vec![flag("reg"), size()]),
            [
                (Ignored, Error, "reg has 0 bytes"),
                (Refused, Error, ""),
                (CmaPool, Warning, "Linux ignores reg, and uses size"),
            ],
        ),
        // A wrong length of alloc-ranges.
        (
            with(vec![size(), wide("alloc-ranges", &[0])]),
            [
                (Refused, Error, "alloc-ranges has 8 bytes"),
                (Refused, Error, "alloc-ranges has 8 bytes"),
                (CmaPool, Warning, "Linux ignores it"),
            ],
        ),
        // Both reusable and no-map.
        (
            with(vec![reg(0x9000_0000, 64 * M), flag("no-map")]),
            [
                (Refused, Error, "exclude each other"),
                (Refused, Error, "Linux frees its memory"),
                (Refused, Error, "Linux keeps its memory reserved"),
            ],
        ),
        // Several tuples.
        (
            vec![flag("no-map"), wide("reg", &[0x9000_0000, M, 0xa000_0000, M])],
            [(NoMap, Error, ""), (NoMap, Error, ""), (NoMap, Warning, "the others are ordinary memory")],
        ),
        // Size zero, and a reg that a boot loader fills in.
        (
            with(vec![reg(0x9000_0000, 0)]),
            [
                (Refused, Error, "it has no size property"),
                (Ignored, Error, "its reg has size zero"),
                (Ignored, Error, "its reg has size zero"),
            ],
        ),
        (with(vec![reg(0, 0)]), [(Ignored, Warning, "unless the boot loader"); 3]),
    ] {
        for (rules, (outcome, level, part)) in Rules::ALL.into_iter().zip(results) {
            let report = Board::region("isp", properties.clone()).check_by(&of(rules));
            assert_eq!(report.regions[0].outcome, outcome, "{rules}: {report}");
            if outcome != Refused || !part.is_empty() {
                one_finding(&report, level, part);
            }
        }
    }
}

#[test]
fn memory_is_taken_in_the_order_of_each_version() {
    // Two regions want the same 64 MiB, and /memreserve/ has a page of other 64 MiB.
    let dynamic = |base: u64, size: u64| {
        vec![flag("no-map"), wide("size", &[size]), wide("alloc-ranges", &[base, 64 * M])]
    };
    let board = Board {
        reservations: vec![(0xa000_0000, 4096)],
        regions: vec![
            ("a".into(), dynamic(0x9000_0000, 48 * M)),
            ("b".into(), dynamic(0x9000_0000, 48 * M)),
            ("c".into(), dynamic(0xa000_0000, 64 * M)),
        ],
        ..Board::default()
    };
    for (rules, got) in [
        (Rules::V6_1, [false, true, false]),
        (Rules::V6_12, [true, false, true]),
        (Rules::V7_2, [true, false, true]),
    ] {
        let report = board.check_by(&of(rules));
        let placed: Vec<bool> = report.regions.iter().map(|region| region.placed.is_some()).collect();
        assert_eq!(placed, got, "{rules}: {report}");
    }
    let report = board.check_by(&of(Rules::V6_12));
    assert!(
        report.regions[1].rule.contains("memory there went to /reserved-memory/a (48M at 0x91000000)"),
        "{report}"
    );
    assert_eq!(report.count(Level::Error), 1, "{report}");

    // A region at the end of an earlier one is placed from the bottom.
    let beside = |rules| {
        let mut board =
            Board::region("a", vec![wide("size", &[16 * M]), wide("alloc-ranges", &[0x9000_0000, 16 * M])]);
        let after = vec![wide("size", &[16 * M]), wide("alloc-ranges", &[0x9100_0000, 64 * M])];
        board.regions.push(("b".into(), after));
        board.check_by(&of(rules)).regions[1].placed
    };
    assert_eq!(Rules::ALL.map(beside), [0x9400_0000, 0x9100_0000, 0x9100_0000].map(Some));

    // 64 regions without an address, of which the last is refused since 6.12, too.
    let many: Vec<_> = (0..65).map(|index| (format!("r{index}"), vec![wide("size", &[4096])])).collect();
    let board = Board { regions: many, ..Board::default() };
    one_finding(&board.check_by(&of(Rules::V7_2)), Level::Error, "it is number 65 without an address");
}

#[test]
fn the_end_of_a_range_wraps() {
    let region = |base: u64, size: u64| {
        vec![pool(), flag("reusable"), wide("size", &[64 * M]), wide("alloc-ranges", &[base, size])]
    };
    // The sum is 0, which stands for any end, and 0x1000_0000.
    for (base, size, outcome) in [
        (0x9000_0000, 0_u64.wrapping_sub(0x9000_0000), NodeOutcome::CmaPool),
        (0xa000_0000, 0x1000_0000_u64.wrapping_sub(0xa000_0000), NodeOutcome::Refused),
    ] {
        let report = Board::region("isp", region(base, size)).check();
        assert_eq!(report.regions[0].outcome, outcome, "{report}");
    }
    // 32-bit Arm ignores the upper half of an address.
    let kernel = Kernel::debian(Rules::V6_12, Arch::Arm, 4096).unwrap();
    let board = Board::region("log@100001000", vec![reg(0x1_0000_1000, 4096)]);
    one_finding(
        &board.check_by(&kernel),
        Level::Error,
        "addresses have 32 bits: Linux takes 0x1000 bytes at 0x1000",
    );
}

#[test]
fn the_default_window_of_the_command_line() {
    let report = |cmdline, rules| Board { cmdline, ..Board::default() }.check_by(&of(rules));
    for (cmdline, rules, origin, part) in [
        ("cma=64M", Rules::V6_12, Origin::Cmdline, ""),
        ("cma=0", Rules::V6_12, Origin::None, ""),
        ("cma=64M@0x90000000", Rules::V6_1, Origin::Cmdline, ""),
        ("cma=64M@0x90200000", Rules::V6_1, Origin::None, "is not a multiple of the pageblock of 4M"),
        ("cma=2G", Rules::V6_12, Origin::Cmdline, ""),
        (
            "cma=2052M",
            Rules::V6_12,
            Origin::None,
            "no room for 2052M in one piece below 0x100000000, only for 2G",
        ),
        ("cma=64M@0x13e000000", Rules::V6_12, Origin::None, "reaches beyond 0x140000000"),
        ("cma=64M@0x13e000000", Rules::V7_2, Origin::None, "\"exceeds limit\""),
        ("cma=64M@0x90000000-0xa0000000", Rules::V6_12, Origin::Cmdline, ""),
        (
            "cma=64M@0x60000000",
            Rules::V6_12,
            Origin::Cmdline,
            "no memory node covers all of 0x60000000..0x64000000",
        ),
        // Above 4 GiB only 7.2 does what the command line says.
        ("cma=64M@0x100000000-0x140000000", Rules::V6_12, Origin::None, "\"exceeds limit\""),
        ("cma=64M@0x100000000-0x140000000", Rules::V7_2, Origin::Cmdline, ""),
    ] {
        let report = report(cmdline, rules);
        assert_eq!(report.default_window.origin, origin, "{cmdline}: {report}");
        one_finding(&report, Level::Error, part);
        assert_eq!(report.panics, part.contains("no memory node"), "{report}");
    }

    let board =
        Board { cmdline: "cma=64M@0x90000000", ..Board::region("tz@90000000", vec![reg(0x9000_0000, M)]) };
    one_finding(
        &board.check(),
        Level::Error,
        "is already reserved for /reserved-memory/tz@90000000 (-EBUSY)",
    );
    // The end of RAM has the first page table.
    let at_the_end = |base| Board {
        cmdline: base,
        memory: vec![(0x8000_0000, 1024 * M)],
        ..Board::region("tz@90000000", vec![reg(0x9000_0000, M)])
    };
    one_finding(
        &at_the_end("cma=64M@0xbc000000").check(),
        Level::Error,
        "Linux allocates its page tables before, at the end of free RAM, and 0xbffff000 is in",
    );
    one_finding(&at_the_end("cma=64M@0xb8000000").check(), Level::Error, "");
    // Each 2 MiB of the linear map have a table of 4 KiB, so 2 GiB have more than 4 MiB of tables (booted: Debian's 6.1.192, 6.12.117,
    // seed 410095).
    let large = |cmdline| Board { memory: vec![(0x4000_0000, 2048 * M)], ..at_the_end(cmdline) }.check();
    one_finding(&large("cma=4M@0xbf800000"), Level::Error, "at the end of free RAM, and 0xbfbff000 is in");
    // The memory map follows, 2 MiB for each 128 MiB (booted: seed 420025).
    one_finding(
        &large("cma=4M@0xbf400000"),
        Level::Error,
        "its memory map before, at the end of free RAM, and 0xbf7ff000 is",
    );
    one_finding(&large("cma=4M@0xbd400000"), Level::Error, "");
    let numa = Board {
        memory: vec![(0x4000_0000, 1024 * M), (0x8000_0000, 1024 * M)],
        numa: true,
        ..at_the_end("cma=4M@0x7fc00000")
    };
    let before = "the data of a NUMA node before, at the end of free RAM, and 0x7ffff000 is";
    one_finding(&numa.check(), Level::Error, before);
    // 7.2 allocates the memory map later (booted: seed 450091).
    let later = |board: &Board| board.check_by(&of(Rules::V7_2));
    let large = Board { memory: vec![(0x4000_0000, 2048 * M)], ..at_the_end("cma=4M@0xbf000000") };
    one_finding(&later(&large), Level::Error, "");
    one_finding(&large.check(), Level::Error, "its memory map before");
    one_finding(&later(&numa), Level::Error, before);
    // Memory without a mapping has no tables, but the kernel's image has some.
    let unmapped = vec![flag("no-map"), reg(0x5aa0_0000, 8 * M)];
    let board = Board {
        memory: vec![(0x4000_0000, 2048 * M)],
        cmdline: "cma=4M@0xbf800000",
        ..Board::region("tz", unmapped)
    };
    one_finding(&board.check(), Level::Error, "at the end of free RAM, and 0xbfbff000 is in");
    let high = Board { memory: vec![(0x4000_0000, 4096 * M)], ..at_the_end("cma=4M@0xbfc00000") };
    one_finding(&high.check(), Level::Error, "");
    // The configuration makes a window, and with CONFIG_DMA_CMA=n it makes no window.
    let mut kernel = Kernel::debian(Rules::V6_12, Arch::Arm64, 4096).unwrap();
    let board = Board::region("isp@90000000", window(0x9000_0000));
    let size = |kernel: &Kernel| board.check_by(kernel).default_window.size;
    assert_eq!(size(&kernel), Some(64 * M));
    kernel.options.cma_size_percentage = 10;
    kernel.options.cma_size_selection = SizeSelection::Max;
    assert_eq!(size(&kernel), Some(308 * M));
    kernel.options.cma_size_selection = SizeSelection::Min;
    assert_eq!(size(&kernel), Some(64 * M));
    kernel.options.dma_cma = false;
    one_finding(&board.check_by(&kernel), Level::Error, "reusable needs CONFIG_DMA_CMA");
    let board = Board { cmdline: "cma=64M", ..Board::default() };
    one_finding(&board.check_by(&kernel), Level::Warning, "has no effect without CONFIG_DMA_CMA");
}

#[test]
fn what_the_boot_adds() {
    let board = Board { cmdline: "cma=64M", ..Board::region("isp@90000000", window(0x9000_0000)) };
    let blob = board.blob();
    let checked = |ram: &[(u64, u64)], cmdline: Option<&str>| {
        let ram = ram.iter().map(|(base, size)| *base..base + size).collect();
        let boot = Boot { ram, cmdline: cmdline.map(str::to_owned) };
        check(&Tree::read(&blob).unwrap(), &kernel(), &boot)
    };
    one_finding(&checked(&[(0x8000_0000, 1024 * M)], None), Level::Error, "");
    let report = checked(&[(0x4000_0000, 1024 * M)], Some(""));
    one_finding(
        &report,
        Level::Error,
        "no --ram covers all of 0x90000000..0x94000000: Linux makes the window, and panics",
    );
    assert!(report.panics && report.default_window.origin == Origin::None, "{report}");
    let report = checked(&[], Some("crashkernel=64M mem=192M"));
    one_finding(&report, Level::Error, "mem= limits RAM, so that not all of 0x90000000..0x94000000 is RAM");
    assert!(report.findings[0].text.contains("crashkernel= on the command line is not judged"), "{report}");
}

#[test]
fn a_window_with_a_hole() {
    // RAM ends in the middle of a section of 128 MiB: Linux has page structures for the rest of it.
    let board = |base: u64, end: u64| Board {
        memory: vec![(0x8000_0000, end - 0x8000_0000)],
        ..Board::region(&format!("isp@{base:x}"), window(base))
    };
    let report = board(0x9000_0000, 0x9200_0000).check();
    one_finding(&report, Level::Error, "crashes when it first uses a page without memory");
    assert!(!report.panics);
    let report = board(0x9400_0000, 0x9000_0000).check();
    one_finding(&report, Level::Error, "panics at boot");
    assert!(report.panics);
    let report = board(0x9600_0000, 0x9700_0000).check();
    one_finding(&report, Level::Error, "panics at boot");
}

#[test]
fn a_window_of_zone_dma() {
    // All devices below /soc reach 1 GiB, which ends ZONE_DMA at 0xc0000000.
    let mut board = Board::region("isp@be000000", window(0xbe00_0000));
    board.soc.push(wide("dma-ranges", &[0, 0x8000_0000, 0x4000_0000]));
    one_finding(
        &board.check_by(&of(Rules::V6_12)),
        Level::Error,
        "both sides of 0xc0000000, the end of ZONE_DMA",
    );
    // 6.1 takes a number of address bits.
    one_finding(&board.check_by(&of(Rules::V6_1)), Level::Error, "");
    // A window that Linux places depends on the RAM that the boot loader describes.
    board.soc.pop();
    board.soc.push(wide("dma-ranges", &[0, 0x8000_0000, 0xbe00_0000]));
    board.regions[0] = ("isp".into(), vec![pool(), flag("reusable"), wide("size", &[64 * M])]);
    one_finding(&board.check_by(&of(Rules::V6_12)), Level::Warning, "");
}

/// The address of an inner bus that the outer one does not have counts as the largest number, so that the end of the zone wraps
/// (drivers/of/address.c, of_dma_get_max_cpu_address).
#[test]
fn a_bus_in_a_bus_that_has_no_such_address() {
    for (parent, origin) in [(0, Origin::Cmdline), (0x8000_0000, Origin::None)] {
        let mut board = Board { cmdline: "cma=64M", ..Board::default() };
        let own = [cells("#address-cells", &[2]), cells("#size-cells", &[2])];
        board.soc.push(wide("dma-ranges", &[0, 0x8000_0000, 0x8000_0000]));
        board.devices = vec![("bus", [&own[..], &[wide("dma-ranges", &[0, parent, 0x2000_0000])]].concat())];
        let report = board.check_by(&of(Rules::V6_12));
        assert_eq!(report.default_window.origin, origin, "{report}");
    }
}

#[test]
fn memory_that_is_freed_with_that_of_another_node() {
    // a is refused, and its memory, which is also that of b, is freed.
    let mut board = Board::region("a@90000000", vec![pool(), flag("reusable"), reg(0x9000_0000, 65 * M)]);
    board.regions.push(("b@90400000".into(), vec![pool(), flag("reusable"), reg(0x9040_0000, 4 * M)]));
    let report = board.check();
    assert!(report.regions[1].rule.contains("is not reserved any more"), "{report}");
    let board = Board {
        reservations: vec![(0x9000_0000, 4096)],
        ..Board::region("a@90000000", board.regions[0].1.clone())
    };
    let report = board.check();
    assert!(report.to_string().contains("Linux frees what is reserved for /memreserve/"), "{report}");
}

/// Linux gives the pages of a window to the page allocator a second time if it freed some of them with a region in it that it refuses.
#[test]
fn a_window_with_memory_that_is_freed() {
    let inner = vec![pool(), flag("reusable"), reg(0x9100_0000, 3 * M)];
    let mut board = Board::region("isp@90000000", window(0x9000_0000));
    board.regions.push(("tz@91000000".into(), inner));
    for rules in [Rules::V6_1, Rules::V6_12, Rules::V7_2] {
        let report = board.check_by(&of(rules));
        assert!(report.may_panic && !report.panics, "{report}");
        assert!(report.to_string().contains("0x91000000..0x91300000 in it is free"), "{report}");
    }
    // Valid, and beside it.
    board.regions[1] = ("tz@94000000".into(), vec![pool(), flag("reusable"), reg(0x9400_0000, 3 * M)]);
    assert!(!board.check().may_panic);
}

#[test]
fn the_pool_of_a_shared_phandle_is_named() {
    let plain = vec![reg(0x8ec0_0000, 2 * M), cells("phandle", &[1])];
    let pool = vec![pool(), flag("reusable"), wide("size", &[32 * M]), cells("phandle", &[1])];
    let board = Board {
        regions: vec![("r0@8ec00000".into(), plain), ("r7".into(), pool)],
        devices: vec![("camera", vec![cells("memory-region", &[1])])],
        ..Board::default()
    };
    let report = board.check_by(&of(Rules::V6_1));
    let reference = &report.users[0].references[0];
    assert_eq!(reference.target.as_deref(), Some("/reserved-memory/r0@8ec00000"));
    assert_eq!(reference.pool.as_deref(), Some("/reserved-memory/r7"));
    assert!(report.to_string().contains("gives it the CMA pool of /reserved-memory/r7"), "{report}");
}

#[test]
fn a_node_of_zeros_takes_part_in_the_sort() {
    // As a booted kernel of 6.1 places them: without the node of zeros, the last one would be above the first.
    let dynamic = || vec![wide("size", &[0x1_0000])];
    let nodes = [dynamic(), vec![reg(0, 0)], vec![reg(0x87e0_0000, M)], vec![reg(0x8fe0_0000, M)], dynamic()];
    let regions =
        ["r0", "r16", "r17@87e00000", "r18@8fe00000", "r19"].map(str::to_owned).into_iter().zip(nodes);
    let board = Board { regions: regions.collect(), ..Board::default() };
    let report = board.check_by(&of(Rules::V6_1));
    let place = |index: usize| report.regions[index].placed.unwrap();
    assert!(place(0) > place(4), "{report}");
}

#[test]
fn a_window_with_memory_that_is_not_mapped_or_is_given_twice() {
    let mut board = Board::region("isp@90000000", window(0x9000_0000));
    board.regions.push(("vpu@90000000".into(), window(0x9000_0000)));
    let report = board.check();
    assert!(report.may_panic && report.to_string().contains("the page allocator gets it twice"), "{report}");
    // The last tuple is lost for the pool, but not mapped.
    let unmapped =
        vec![flag("no-map"), cells("reg", &[0, 0x8000_0000, 0, 0x1000, 0, 0x9000_0000, 0, 0x1000])];
    let mut board = Board::region("tz@80000000", unmapped);
    board.regions.push(("isp@90000000".into(), window(0x9000_0000)));
    let report = board.check();
    assert!(
        report.may_panic && report.to_string().contains("0x90000000..0x90001000 in it is not mapped"),
        "{report}"
    );
}

#[test]
fn options_of_the_kernel() {
    let restricted = vec![text("compatible", "restricted-dma-pool"), reg(0x9000_0000, M)];
    let debian = Kernel::debian(Rules::V6_12, Arch::Arm64, 4096).unwrap();
    let board = Board::region("isp@90000000", restricted);
    one_finding(&board.check_by(&debian), Level::Warning, "needs CONFIG_DMA_RESTRICTED_POOL");
    assert_eq!(board.check_by(&debian).regions[0].outcome, NodeOutcome::Reserved);

    let carveout = |base| vec![pool(), flag("no-map"), flag("linux,dma-default"), reg(base, M)];
    let mut board = Board::region("a@90000000", carveout(0x9000_0000));
    let report = board.check();
    one_finding(&report, Level::Error, "");
    assert!(report.to_string().contains("only with CONFIG_DMA_GLOBAL_POOL"), "{report}");
    board.regions.push(("b@91000000".into(), carveout(0x9100_0000)));
    one_finding(&board.check(), Level::Warning, "region for default DMA coherent area is redefined");
    let window = [window(0x9000_0000), vec![flag("linux,dma-default")]].concat();
    one_finding(
        &Board::region("isp@90000000", window).check(),
        Level::Warning,
        "linux,dma-default has no effect",
    );
}

#[test]
fn names_that_linux_does_not_read() {
    let misspelt = [window(0x9000_0000), vec![flag("linux,cma_default"), flag("my-own")]].concat();
    let report = Board::region("isp@90000000", misspelt).check();
    one_finding(
        &report,
        Level::Warning,
        "does not read its property linux,cma_default; linux,cma-default is meant",
    );
    assert!(report.to_string().contains("note: not judged: my-own"), "{report}");
    let poll = vec![text("compatible", "shared-dma-poll"), reg(0x9000_0000, M)];
    one_finding(&Board::region("isp@90000000", poll).check(), Level::Warning, "\"shared-dma-pool\" is meant");

    let refer = || cells("memory-region", &[1]);
    for (properties, level, part) in [
        (
            vec![cells("memory-regions", &[1])],
            Level::Warning,
            "the property memory-regions, which Linux does not read",
        ),
        (vec![refer(), text("memory-region-names", "isp")], Level::Warning, ""),
        (vec![text("memory-region-names", "isp")], Level::Warning, "has no effect without memory-region"),
        (
            vec![cells("memory-region", &[1, 0]), text("memory-region-names", "isp")],
            Level::Warning,
            "has 1 names for 2 entries",
        ),
        (
            vec![cells("memory-region", &[1, 0]), text("memory-region-names", "isp\0isp")],
            Level::Warning,
            "has the name isp twice",
        ),
        (vec![pool(), reg(0, 0)], Level::Error, "/soc/camera is not a child of /reserved-memory"),
    ] {
        one_finding(&Board::device(properties).check(), level, part);
    }
    let report = Board::device(vec![refer(), text("memory-region-names", "isp")]).check();
    assert!(
        report.to_string().contains("memory-region 0 (isp): /reserved-memory/isp@90000000: "),
        "{report}"
    );
}

#[test]
fn regions_are_found_by_phandle_or_by_name() {
    // A node elsewhere with the name of a region: since 6.12 Linux looks for the name.
    let mut board = Board::device(vec![cells("memory-region", &[2])]);
    board.devices.push(("isp@90000000", vec![cells("phandle", &[2])]));
    let errno = |rules| board.check_by(&of(rules)).users[0].references[0].errno;
    assert_eq!(Rules::ALL.map(errno), [-22, 0, 0]);
}

/// A tree with all kinds of nodes.
fn full() -> Board {
    let mut board = Board::device(vec![cells("memory-region", &[1, 2, 0, 9])]);
    let carveout = vec![pool(), flag("no-map"), reg(0xa000_0000, M), cells("phandle", &[2])];
    board.regions.push(("log@a0000000".into(), carveout));
    let size = vec![pool(), flag("reusable"), wide("size", &[64 * M]), wide("alloc-ranges", &[0, u64::MAX])];
    board.regions.push(("dynamic".into(), size));
    board.soc.push(wide("dma-ranges", &[0, 0, u64::MAX]));
    board.reservations = vec![(0xb000_0000, 4096)];
    board
}

#[test]
fn what_is_no_tree() {
    let blob = full().blob();
    let refused = |blob: &[u8], part: &str| {
        let error = Tree::read(blob).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(b"", "it begins with []");
    refused(b"#!/bin/sh\n", "it begins with [23, 21, 2f, 62]");
    refused(
        &[0xd0, 0x0d, 0xfe, 0xed],
        "truncated: its header says 40 bytes (totalsize, at offset 0x4), but it has 4",
    );
    let size = blob.len();
    refused(
        &blob[..size - 1],
        &format!("its header says {size} bytes (totalsize, at offset 0x4), but it has {}", size - 1),
    );
    // Bytes after the end are ignored.
    assert!(Tree::read(&[&blob[..], &[0; 7]].concat()).is_ok());

    let patched = |at: usize, word: u32| {
        let mut blob = blob.clone();
        blob[at..at + 4].copy_from_slice(&word.to_be_bytes());
        blob
    };
    refused(&patched(20, 3), "version 3");
    refused(&patched(24, 18), "compatible down to 18");
    refused(&patched(12, u32::MAX), "offset 0xc, in the node /: the strings block lies outside");
    refused(&patched(8, u32::MAX - 3), "the structure block lies outside");
    refused(&patched(16, u32::try_from(size).unwrap()), "the list of /memreserve/ has no final entry");
    let nodes = u32::from_be_bytes(blob[8..12].try_into().unwrap()) as usize;
    refused(&patched(nodes, 2), &format!("offset {nodes:#x}, in the node /: a node ends"));
    refused(&patched(nodes, 9), "there is no root");
    refused(&patched(nodes + 12, u32::MAX), "the name or value of a property");
    let name = blob.windows(6).position(|bytes| bytes == b"camera").unwrap();
    refused(
        &patched(name + 8, 7),
        &format!("offset {:#x}, in the node /soc/camera: the token is invalid", name + 8),
    );
    refused(&patched(name + 8, 9), "the end token 9 comes before the end of this node");
    let names = u32::from_be_bytes(blob[12..16].try_into().unwrap()) as usize;
    let end = names - 4;
    assert_eq!(blob[end..names], [0, 0, 0, 9]);
    refused(&patched(end, 4), "the tree ends here");
    refused(&patched(end, 1), "a node's name is longer");
    refused(&patched(end - 4, 4), "in the node /: the end token 9 comes before the end");
}

#[test]
fn nodes_too_deep_and_out_of_order() {
    let tree = |words: &[u32]| {
        let header =
            [0xd00d_feed, 0, 56, 40, 40, 17, 16, 0, 0, 4 * u32::try_from(words.len()).unwrap(), 0, 0, 0, 0];
        let mut blob: Vec<u8> = header.iter().chain(words).flat_map(|word| word.to_be_bytes()).collect();
        let size = u32::try_from(blob.len()).unwrap();
        blob[4..8].copy_from_slice(&size.to_be_bytes());
        Tree::read(&blob).map(|_| ()).map_err(|error| error.to_string())
    };
    let name = u32::from_be_bytes(*b"abc\0");
    let deep = |levels| [vec![1, 0], [1, name].repeat(levels - 1), vec![2; levels], vec![9]].concat();
    assert_eq!(tree(&deep(63)), Ok(()));
    assert!(tree(&deep(64)).unwrap_err().contains("more than 63 levels deep"));
    assert!(tree(&[1, 0, 2, 1, 0, 2, 9]).unwrap_err().contains("a second root"));
    assert!(tree(&[4, 1, 0, 4, 2, 4, 9]).is_ok());
    let error = tree(&[1, 0, 1, name, 2, 3, 0, 0, 2, 9]).unwrap_err();
    assert!(error.contains("offset 0x4c, in the node /: the name or value of a property"), "{error}");
}

#[test]
fn the_largest_trees_are_no_trouble() {
    // 2 MiB: a region that refers to itself 250,000 times, and a device that refers to it as often.
    let many = || cells("memory-region", &vec![1; 250_000]);
    let mut board = Board::device(vec![many()]);
    board.regions[0].1.push(many());
    let report = board.check();
    assert_eq!((report.users[0].references.len(), report.count(Level::Warning)), (250_000, 250_000));
    // Many devices below a bus with many ranges.
    let mut board = Board::device(Vec::new());
    board.devices = vec![("camera", vec![cells("memory-region", &[1])]); 10_000];
    let ranges: Vec<u64> = (0..40_000).flat_map(|index| [index, index << 13, 1 << 12]).collect();
    board.soc.push(wide("dma-ranges", &ranges));
    let report = board.check();
    assert_eq!(report.count(Level::Warning), 10_000);
    assert!(report.users[0].references[0].findings[0].text.ends_with("0x6000..0x7000 and more"), "{report}");
    // Regions that all overlap, with and without an address.
    let mut board = Board::default();
    for index in 0..10_000 {
        let place = if index < 40 { wide("size", &[8 << 30]) } else { reg(0x9000_0000 + index * 8192, 4096) };
        board.regions.push((format!("r{index}"), vec![place]));
    }
    let report = board.check();
    assert_eq!(report.count(Level::Error), 40 + 10_000 - 64);
}

/// Reads, checks and prints a blob.
fn use_all(blob: &[u8]) {
    if let Ok(tree) = Tree::read(blob) {
        let report = check(&tree, &Kernel { cma_areas: 2, ..kernel() }, &Boot::default());
        assert!(report.to_string().ends_with(|c: char| c.is_ascii_alphabetic()));
    }
}

/// The page in which no-map memory begins stays unmapped in 6.12, which then panics; the others use it, so that a carveout in it cannot be
/// mapped (booted: Debian's 6.1.192, 6.12.117 and 7.2.13).
#[test]
fn carveouts_that_begin_within_a_page() {
    let carveout = |properties: &[Property]| {
        let all = [&[pool(), cells("phandle", &[1])], properties].concat();
        let device = ("camera", vec![cells("memory-region", &[1])]);
        Board { devices: vec![device], memory: vec![(0x8000_0000, 1024 * M)], ..Board::region("isp", all) }
    };
    let errno = |report: &Report| report.users[0].references[0].errno;
    let small = |size| carveout(&[flag("no-map"), wide("size", &[size])]);
    for rules in [Rules::V6_1, Rules::V6_12, Rules::V7_2] {
        let kernel = of(rules);
        let report = small(5000).check_by(&kernel);
        assert_eq!(report.regions[0].placed, Some(0xbfff_ec40), "{report}");
        assert_eq!((report.panics, errno(&report)), (rules == Rules::V6_12, -22), "{report}");
        let part = "it begins at 0xbfffec40, in the middle of a page of which Linux uses the rest";
        assert!(report.regions[0].findings.iter().any(|finding| finding.text.contains(part)), "{report}");
        let report = small(8192).check_by(&kernel);
        assert_eq!((report.panics, errno(&report)), (false, 0), "{report}");
        // Its device gets pages that begin before it (booted: 7.2.13, seed 300073).
        let report = carveout(&[flag("no-map"), reg(0xc000_0e00, M)]).check_by(&kernel);
        let part = "it begins in the middle of a page: devices get memory from 0xc0000000 on";
        assert!(report.regions[0].findings.iter().any(|finding| finding.text.contains(part)), "{report}");
        // The rest of its last page is below much free memory.
        let report = carveout(&[flag("no-map"), reg(0x9000_0000, 5000)]).check_by(&kernel);
        assert_eq!((report.panics, errno(&report)), (false, 0), "{report}");
        let report = small(0).check_by(&kernel);
        assert_eq!((report.panics, errno(&report)), (false, -22), "{report}");
        let part = "no device can use it: its size is zero";
        assert!(report.regions[0].findings.iter().any(|finding| finding.text.contains(part)), "{report}");
        // A carveout without no-map in memory that another node does not map.
        let mut board = carveout(&[reg(0x9000_0000, M)]);
        assert_eq!(errno(&board.check_by(&kernel)), -22);
        board.regions.insert(0, ("tz".to_owned(), vec![flag("no-map"), reg(0x9000_0000, 4 * M)]));
        assert_eq!(errno(&board.check_by(&kernel)), 0);
    }
}

/// 6.1 keeps the property `phandle` with a region, although it is zero and devices refer to `linux,phandle`. Later kernels find a region by
/// its name (booted: Debian's 6.1.192, seed 300073).
#[test]
fn a_region_with_two_phandles() {
    let answer = |phandles: [u32; 2], rules| {
        let handles = [cells("phandle", &phandles[..1]), cells("linux,phandle", &phandles[1..])];
        let region = [&[pool(), flag("no-map"), reg(0x9000_0000, M)], &handles[..]].concat();
        let board = Board {
            devices: vec![("camera", vec![cells("memory-region", &[1])])],
            ..Board::region("isp", region)
        };
        board.check_by(&of(rules)).users[0].references[0].errno
    };
    let answers = |phandles| [Rules::V6_1, Rules::V6_12, Rules::V7_2].map(|rules| answer(phandles, rules));
    assert_eq!(answers([0, 1]), [-22, 0, 0]);
    assert_eq!(answers([1, 0]), [0, 0, 0]);
}

/// A carveout has a bitmap of a bit for each page, for which kmalloc gives at most 4 MiB (booted: Debian's 6.12.117).
#[test]
fn carveouts_that_are_too_large_for_their_bitmap() {
    let answer = |size, kernel: &Kernel| {
        let region = vec![pool(), flag("no-map"), reg(64 << 30, size), cells("phandle", &[1])];
        let device = ("camera", vec![cells("memory-region", &[1])]);
        let board = Board { devices: vec![device], ..Board::region("isp", region) };
        board.check_by(kernel).users[0].references[0].errno
    };
    for rules in [Rules::V6_1, Rules::V6_12, Rules::V7_2] {
        let kernel = of(rules);
        assert_eq!([128 << 30, (128 << 30) + 4096].map(|size| answer(size, &kernel)), [0, -12]);
    }
    let large = Kernel::debian(Rules::V6_12, Arch::Arm64, 64 << 10).unwrap();
    assert_eq!(answer(1 << 40, &large), 0);
    // A configuration may say anything.
    let mut odd = of(Rules::V6_12);
    odd.options.max_order = u32::MAX;
    assert_eq!(answer(1 << 40, &odd), 0);
}

/// Linux maps a carveout that is not RAM when a device asks for it, and crashes when the device uses it, unless other memory is there: the
/// request itself is granted (booted: Debian's 6.1.192, 6.12.117 and 7.2.13).
#[test]
fn carveouts_that_are_not_ram() {
    const BASE: u64 = 0xc000_0000 - M;
    let board = |base, cmdline| {
        let region = vec![pool(), flag("no-map"), reg(base, 2 * M), cells("phandle", &[1])];
        let device = ("camera", vec![cells("memory-region", &[1])]);
        let memory = vec![(0x8000_0000, 1024 * M)];
        Board { devices: vec![device], memory, cmdline, ..Board::region("isp", region) }
    };
    let ram = |end| Boot { ram: std::iter::once(0x8000_0000..end).collect(), cmdline: None };
    for rules in [Rules::V6_1, Rules::V6_12, Rules::V7_2] {
        let said = |board: &Board, boot: &Boot| {
            let report = check(&Tree::read(&board.blob()).unwrap(), &of(rules), boot);
            let reference = &report.users[0].references[0];
            assert_eq!(
                (report.regions[0].outcome, reference.errno),
                (NodeOutcome::CoherentCarveout, 0),
                "{report}"
            );
            assert_eq!(reference.gets, Some(NodeOutcome::CoherentCarveout), "{report}");
            assert!(!report.panics, "{report}");
            let end = "unless other memory is there, Linux crashes when a device uses it";
            let findings: Vec<_> =
                report.findings().filter(|finding| finding.text.ends_with(end)).cloned().collect();
            assert_eq!(report.may_panic, !findings.is_empty(), "{report}");
            assert!(findings.iter().all(|finding| finding.level == Level::Note), "{report}");
            findings.first().map(|finding| finding.text.split(": ").next().unwrap_or_default().to_owned())
        };
        let none = Boot::default();
        let range = |base: u64| format!("all of {base:#x}..{:#x}", base + 2 * M);
        // Whole outside of RAM, and in part.
        for base in [0x4000_0000, BASE, 0xc000_0000] {
            let expected = format!("no memory node covers {}", range(base));
            assert_eq!(said(&board(base, "quiet"), &none), Some(expected));
        }
        assert_eq!(said(&board(0x9000_0000, "quiet"), &none), None);
        // What the boot loader adds, and what the command line takes away.
        assert_eq!(said(&board(BASE, "quiet"), &ram(0xd000_0000)), None);
        assert_eq!(
            said(&board(BASE, "quiet"), &ram(0xc000_0000)),
            Some(format!("no --ram covers {}", range(BASE)))
        );
        let limited = Some(format!("mem= limits RAM, so that not {} is RAM", range(0xb000_0000)));
        assert_eq!(said(&board(0xb000_0000, "mem=512M"), &none), limited);
    }
}

/// x86_64 has no-map memory in its e820 map, and maps no page that is no-map in part (booted: our 6.1.192).
/// Linux reads the header of a crashed kernel through its map of RAM.
#[test]
fn the_elf_header_of_a_crashed_kernel() {
    let board = |base: u64| {
        let no_map = ("tz@90000000".to_owned(), vec![flag("no-map"), reg(0x9000_0000, M)]);
        Board { elfcorehdr: Some(base), regions: vec![no_map], ..Board::default() }
    };
    for rules in [Rules::V6_1, Rules::V6_12, Rules::V7_2] {
        // Since 6.12 it is reserved first, and the node is refused.
        for (base, panics) in [(0xa000_0000, false), (0x9000_0000, rules == Rules::V6_1), (0x4000_0000, true)]
        {
            let report = board(base).check_by(&of(rules));
            assert_eq!(report.panics, panics, "{report}");
            assert_eq!(report.to_string().contains("is not in mapped RAM"), panics, "{report}");
        }
    }
}

/// No page table has their address, and no RAM is there, so that nothing crashes.
#[test]
fn carveouts_beyond_all_addresses() {
    for (base, errno) in [(0xffff_ffff_ffe0_0000, -22), (0xf_ffff_fff0_0000, -22), (0x4000_0000, 0)] {
        let region = vec![pool(), flag("no-map"), reg(base, 2 * M), cells("phandle", &[1])];
        let device = ("camera", vec![cells("memory-region", &[1])]);
        let board = Board { devices: vec![device], ..Board::region("isp", region) };
        for rules in [Rules::V6_1, Rules::V6_12, Rules::V7_2] {
            let report = board.check_by(&of(rules));
            assert_eq!(
                (report.users[0].references[0].errno, report.may_panic),
                (errno, errno == 0),
                "{report}"
            );
        }
    }
}

/// Linux allocates upwards beside an earlier region. 7.2 forgets one that it refused (seed 700595 of the random trees).
#[test]
fn a_dynamic_region_beside_a_refused_one() {
    for (rules, base) in [(Rules::V6_12, 0x9000_0000), (Rules::V7_2, 0x9080_0000)] {
        let refused =
            vec![pool(), flag("reusable"), wide("size", &[5000]), wide("alloc-ranges", &[0x9000_0000, M])];
        let plain = vec![wide("size", &[8 * M]), wide("alloc-ranges", &[0x9000_0000, 16 * M])];
        let regions = vec![("r9".to_owned(), refused), ("z0a".to_owned(), plain)];
        let report = Board { regions, ..Board::default() }.check_by(&of(rules));
        assert_eq!(report.regions[0].outcome, NodeOutcome::Refused, "{report}");
        assert_eq!(
            (report.regions[1].base, report.regions[1].placed),
            (None, Some(base)),
            "{rules} {report}"
        );
    }
}

/// x86 moves an initrd beyond the end of mapped memory below that end, before it reserves the default window (booted: our 6.1).
#[test]
fn a_default_window_beside_a_moved_initrd() {
    let kernel = Kernel::guest(Rules::V6_1, Arch::X86_64, 4096, 4 * M).unwrap();
    for (initrd, cmdline, base) in [
        ([0x7ff0_9000, 0x8000_0000], "mem=1G cma=32M", 0x3dc0_0000),
        ([0x3ff0_9000, 0x4000_0000], "mem=1G cma=32M", 0x3dc0_0000),
        ([0x2000_0000, 0x2010_0000], "mem=1G cma=32M", 0x3e00_0000),
        ([0x7ff0_9000, 0x8000_0000], "cma=32M", 0x7dc0_0000),
    ] {
        let board = Board { initrd: Some(initrd), ..Board::default() };
        let ram = std::iter::once(0x10_0000..0x8000_0000).collect();
        let boot = Boot { ram, cmdline: Some(cmdline.to_owned()) };
        let report = check(&Tree::read(&board.blob()).unwrap(), &kernel, &boot);
        assert_eq!(
            report.memory.window.as_ref().map(|window| window.start),
            Some(base),
            "{cmdline} {report}"
        );
    }
}

/// The memory map of a NUMA node is as large as what Linux uses of it (booted: seed 800151, with linux,usable-memory-range).
#[test]
fn a_default_window_beside_the_map_of_a_limited_node() {
    for (cmdline, base) in [("cma=64M mem=1280M", 0x8b80_0000), ("cma=64M", 0xba80_0000)] {
        let memory = vec![(0x4000_0000, 1024 * M), (0x8000_0000, 1024 * M)];
        let board = Board { memory, numa: true, cmdline, ..Board::default() };
        let report = board.check_by(&of(Rules::V6_1));
        let window = report.memory.window.as_ref().map(|window| window.start);
        assert_eq!(window, Some(base), "{cmdline} {report}");
    }
}

#[test]
fn carveouts_of_x86_64() {
    let kernel = Kernel::guest(Rules::V6_1, Arch::X86_64, 4096, 4 * M).unwrap();
    let nodes = |regions: &[Vec<Property>]| {
        let regions = regions.iter().enumerate().map(|(index, node)| (format!("r{index}"), node.clone()));
        let device = ("camera", vec![cells("memory-region", &[1])]);
        let board = Board { devices: vec![device], regions: regions.collect(), ..Board::default() };
        let boot = Boot { ram: std::iter::once(0x10_0000..0x4000_0000).collect(), cmdline: None };
        check(&Tree::read(&board.blob()).unwrap(), &kernel, &boot)
    };
    let carveout =
        [vec![pool(), flag("no-map"), cells("phandle", &[1])], vec![wide("size", &[4 * M])]].concat();
    let small = vec![flag("no-map"), wide("size", &[5000])];
    let report = nodes(std::slice::from_ref(&carveout));
    assert_eq!((report.panics, report.users[0].references[0].errno), (false, -22), "{report}");
    // Beyond the end of what is mapped.
    assert!(!nodes(std::slice::from_ref(&small)).panics);
    assert!(nodes(&[carveout, small]).panics);
}

/// 6.12 frees the memory of a refused no-map node with an address, and has not mapped it (booted: Debian's 6.12.117).
#[test]
fn freed_memory_that_is_not_mapped() {
    let refused = |base| {
        let region = vec![pool(), flag("reusable"), flag("no-map"), reg(base, 4 * M)];
        Board { memory: vec![(0x8000_0000, 1024 * M)], ..Board::region("isp", region) }
    };
    let crashes = |base, rules| {
        let report = refused(base).check_by(&of(rules));
        (report.panics, report.may_panic)
    };
    assert_eq!(crashes(0xbfc0_0000, Rules::V6_12), (true, false));
    assert_eq!(crashes(0x9000_0000, Rules::V6_12), (false, true));
    assert_eq!(crashes(0xbfc0_0000, Rules::V6_1), (false, false));
    assert_eq!(crashes(0xbfc0_0000, Rules::V7_2), (false, false));
}

/// 6.12 allocates its list of regions before it frees the memory of a refused node, and the room below that memory is not mapped
/// (booted: Debian's 6.12.117).
#[test]
fn the_list_of_regions_comes_before_freed_memory() {
    let mut board = Board::region("small", vec![flag("no-map"), wide("size", &[5000])]);
    board.memory = vec![(0x8000_0000, 1024 * M)];
    board.regions.push(("isp@90100000".into(), vec![pool(), flag("reusable"), reg(0x9010_0000, 767 * M)]));
    for (rules, panics) in [(Rules::V6_1, false), (Rules::V6_12, true), (Rules::V7_2, false)] {
        let report = board.check_by(&of(rules));
        assert_eq!((report.regions[1].outcome, report.panics), (NodeOutcome::Refused, panics), "{report}");
    }
    // Whole pages leave nothing unmapped.
    board.regions[0].1[1] = wide("size", &[8192]);
    assert!(!board.check_by(&of(Rules::V6_12)).panics);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        use_all(&bytes);
        use_all(&[&[0xd0, 0x0d, 0xfe, 0xed], &bytes[..]].concat());
    }

    #[test]
    fn no_change_of_a_tree_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        words in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 0..4),
    ) {
        let mut blob = full().blob();
        for (at, byte) in changes {
            let at = at.index(blob.len());
            blob[at] = byte;
        }
        for (at, word) in words {
            let at = at.index(blob.len() / 4) * 4;
            blob[at..at + 4].copy_from_slice(&(word % 70).to_be_bytes());
        }
        use_all(&blob);
    }

    #[test]
    fn no_part_of_a_tree_is_taken_for_one(part: prop::sample::Index) {
        let blob = full().blob();
        let part = &blob[..part.index(blob.len())];
        prop_assert!(Tree::read(part).is_err());
    }
}
