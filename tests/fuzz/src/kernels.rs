//! Small files of kernels.

/// A small vmlinux, a bzImage, a boot Image, and a kernel with its configuration.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut elf = vec![0; 0x1100];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let fields: [(usize, u64, usize); 10] = [
        (16, 2, 2),            // ET_EXEC
        (18, 62, 2),           // EM_X86_64
        (20, 1, 4),            // version
        (24, 0x100_0000, 8),   // entry
        (32, 64, 8),           // program headers
        (52, 64, 2),           // e_ehsize
        (54, 56, 2),           // e_phentsize
        (56, 2, 2),            // e_phnum
        (64, 1 | 5 << 32, 8),  // PT_LOAD
        (120, 4 | 4 << 32, 8), // PT_NOTE
    ];
    for (at, value, length) in fields {
        elf[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
    }
    for (at, value) in [
        (72, 0x1000_u64),
        (80, 0x10_0000),
        (88, 0x10_0000),
        (96, 0x100),
        (104, 0x200),
        (128, 0x1000),
        (152, 32),
        (160, 32),
    ] {
        elf[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let mut bzimage = vec![0; 0x800];
    bzimage[0x1f1] = 1;
    bzimage[0x1f4] = 0x40;
    bzimage[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    bzimage[0x202..0x206].copy_from_slice(b"HdrS");
    bzimage[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    bzimage[0x211] = 1;
    bzimage[0x214..0x218].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    bzimage[0x230..0x234].copy_from_slice(&0x20_0000_u32.to_le_bytes());
    bzimage[0x234] = 1;
    bzimage[0x236] = 1;
    bzimage[0x260..0x264].copy_from_slice(&0x1000_u32.to_le_bytes());
    let mut image = vec![0; 0x200];
    image[16..20].copy_from_slice(&0x200_u32.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    // "CONFIG_OF=y", packed by gzip without compression.
    let config = b"CONFIG_OF=y\n";
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 12, 0, 0xf3, 0xff];
    packed.extend(config);
    packed.extend([0; 8]);
    let configured = [&b"\x7fELF IKCFG_ST"[..], &packed, b"IKCFG_ED"].concat();
    vec![elf, bzimage, image, configured, b"MZ\0\0zimg".to_vec()]
}
