//! The likely reason for a guest that did not come up, by what its kernel embeds and has printed.

use crate::boot::kernel_options::{Compression, missing, unpacks};

/// What is known of a guest that did not come up.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The configuration that its kernel embeds.
    pub config: Option<&'a str>,
    /// The compression of its initramfs.
    pub compression: Option<&'static Compression>,
    /// The last lines of its serial console.
    pub console: &'a [String],
}

/// Messages of kernels that could not unpack the initramfs (init/initramfs.c, init/do_mounts.c).
const NOT_UNPACKED: [&str; 4] = [
    "Initramfs unpacking failed",
    "invalid magic at start of compressed archive",
    "junk within compressed archive",
    "Unable to mount root fs",
];

/// The help that lists the needed options.
const SEE_HELP: &str = "`minivmm --help` lists under --kernel the options that it must have";

impl Evidence<'_> {
    /// The likely reason, in a sentence without a full stop.
    pub fn likely_reason(self) -> String {
        let Self { config, compression, console } = self;
        let printed =
            |texts: &[&str]| console.iter().any(|line| texts.iter().any(|text| line.contains(text)));
        let mut reasons = Vec::new();
        let lacking: Vec<String> = config
            .map(missing)
            .unwrap_or_default()
            .into_iter()
            .map(|option| format!("CONFIG_{} ({})", option.name, option.purpose))
            .collect();
        if !lacking.is_empty() {
            reasons.push(format!("the kernel lacks {}", lacking.join(", ")));
        }
        let foreign =
            compression.filter(|compression| config.is_some_and(|config| !unpacks(config, compression)));
        if let Some(Compression { name, option, .. }) = foreign {
            reasons.push(format!(
                "the initramfs is compressed with {name}, and the kernel lacks CONFIG_{option}"
            ));
        }
        if reasons.is_empty() && printed(&NOT_UNPACKED) {
            reasons.push("the kernel could not unpack the initramfs".to_owned());
        }
        if reasons.is_empty() && printed(&["No working init found", "Failed to execute /init"]) {
            reasons.push("the initramfs has no /init that this kernel can run".to_owned());
        }
        if config.is_none() {
            let silent = if console.is_empty() { "printed nothing on its serial console and " } else { "" };
            let unknown = match compression.filter(|_| printed(&NOT_UNPACKED)) {
                Some(Compression { name, option, .. }) => format!("CONFIG_{option}, for {name}"),
                None => "its options".to_owned(),
            };
            reasons.push(format!(
                "the kernel {silent}embeds no configuration (CONFIG_IKCONFIG) in which minivmm could look for {unknown}; {SEE_HELP}"
            ));
        }
        if reasons.is_empty() {
            reasons.push(
                "unknown, as the kernel has the options that a guest needs; --console-log FILE records all of its messages, and \
                 --boot-timeout gives a slow host more time"
                    .to_owned(),
            );
        }
        reasons.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::kernel_options::compression;

    fn reason(config: Option<&str>, initramfs: &[u8], console: &[&str]) -> String {
        let console: Vec<String> = console.iter().map(ToString::to_string).collect();
        Evidence { config, compression: compression(initramfs), console: &console }.likely_reason()
    }

    #[test]
    fn a_kernel_that_embeds_nothing() {
        let silent = reason(None, b"", &[]);
        assert!(
            silent
                .starts_with("the kernel printed nothing on its serial console and embeds no configuration"),
            "{silent}"
        );
        assert!(silent.contains("--kernel"), "{silent}");
        let zstd =
            reason(None, b"\x28\xb5\x2f\xfd", &["Kernel panic: VFS: Unable to mount root fs on unknown"]);
        assert!(
            zstd.starts_with("the kernel could not unpack the initramfs; the kernel embeds no configuration"),
            "{zstd}"
        );
        assert!(zstd.contains("look for CONFIG_RD_ZSTD, for zstd;"), "{zstd}");
    }

    #[test]
    fn a_kernel_that_embeds_its_configuration() {
        let all: String = missing("").iter().map(|option| format!("CONFIG_{}=y\n", option.name)).collect();
        let without = reason(Some(&all.replace("CONFIG_OF=y", "")), b"", &[]);
        assert_eq!(without, "the kernel lacks CONFIG_OF (reads the device tree)");
        let zstd =
            reason(Some(&all), b"\x28\xb5\x2f\xfd", &["VFS: Unable to mount root fs on unknown-block"]);
        assert_eq!(zstd, "the initramfs is compressed with zstd, and the kernel lacks CONFIG_RD_ZSTD");
        let init = reason(Some(&all), b"", &["Kernel panic - not syncing: No working init found."]);
        assert_eq!(init, "the initramfs has no /init that this kernel can run");
        assert!(reason(Some(&all), b"", &[]).contains("--boot-timeout"));
    }
}
