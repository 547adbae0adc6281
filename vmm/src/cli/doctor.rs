//! `minivmm doctor`: whether this host is fit to run Linux guests, and what to do if not.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use guest_images::{Arch, debian};

use crate::{
    arch,
    boot::{
        images,
        kernel_options::{config_in, missing, missing_for_uses},
    },
    lab,
    machine::kvm::{API_VERSION, DEV_KVM, check_fit, open_kvm},
    sandbox::landlock_abi,
};

/// The arguments of `minivmm doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print only the Debian packages that minivmm installs for this purpose when it needs them
    ///
    /// It installs them as root or with passwordless sudo. To install them first: `sudo apt-get install $(minivmm doctor --packages
    /// image)`
    #[arg(long, value_name = "PURPOSE")]
    pub packages: Option<Purpose>,
    /// Examine this kernel instead of the host: say which options a guest needs that it lacks
    ///
    /// FILE is a kernel, its .config, or the folder where Linux was built. A kernel that embeds no configuration (CONFIG_IKCONFIG)
    /// needs its .config, or config-VERSION, beside it.
    #[arg(long, value_name = "FILE", conflicts_with = "packages")]
    pub kernel: Option<PathBuf>,
}

/// Examines the kernel `path`. Returns a line for each finding, and whether guests boot it.
///
/// # Errors
/// If it has no configuration: a sentence.
pub fn examine_kernel(path: &Path) -> Result<(String, bool), String> {
    let config = config_of(path).ok_or_else(|| {
        format!(
            "{} has no configuration: it embeds none (CONFIG_IKCONFIG), and there is no .config or config-VERSION beside it",
            path.display()
        )
    })?;
    let mut report = String::new();
    let lacking = missing(&config);
    for option in &lacking {
        let kind = if option.may_be_module { "=y or =m" } else { "=y" };
        let _ = writeln!(report, "BAD  it lacks CONFIG_{}{kind}: {}", option.name, option.purpose);
    }
    if lacking.is_empty() {
        report += "ok   it has the options that every guest needs\n";
    }
    for (what, names) in missing_for_uses(&config) {
        let _ = writeln!(report, "note it lacks CONFIG_{} for {what}", names.join(" and CONFIG_"));
    }
    Ok((report, lacking.is_empty()))
}

/// The configuration of a kernel: in the file, or beside it.
fn config_of(path: &Path) -> Option<String> {
    let read = |path: &Path| fs::read(path).ok().and_then(|file| config_in(&file));
    if path.is_dir() {
        return read(&path.join(".config"));
    }
    let folder = path.parent()?;
    let version = path.file_name()?.to_str()?.split_once('-').map(|(_, version)| version);
    let beside = version.map(|version| folder.join(format!("config-{version}")));
    read(path).or_else(|| beside.and_then(|beside| read(&beside))).or_else(|| read(&folder.join(".config")))
}

/// What Debian packages are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    /// To build guest images
    Image,
    /// To run guests in the lab
    Lab,
}

/// The names of the packages, in one line.
pub fn packages(purpose: Purpose) -> String {
    let packages = match purpose {
        Purpose::Image => guest_images::packages(Arch::host()),
        Purpose::Lab => lab::packages(Arch::host()).to_vec(),
    };
    format!("{}\n", packages.join(" "))
}

/// A finding: whether it is good, and the sentence.
type Finding = (bool, String);

/// Examines the host. Returns a line for each finding, and whether Linux guests boot here, on this host's KVM or in the lab.
pub fn examine() -> (String, bool) {
    let mut findings = kvm();
    let has_fit_kvm = are_good(&findings);
    if !has_fit_kvm && !lab::is_inside() {
        findings.push(packages_of_the_lab());
    }
    findings.push(match images::find(images::DEFAULT) {
        Ok(image) => (true, format!("the default guest image is {}", image.kernel.display())),
        Err(error) => (false, error.to_string()),
    });
    let free = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let free = free.map_or_else(|_| "no".to_owned(), |free| free.trim().to_owned());
    findings.push((true, format!("{free} huge pages of 2 MiB are free for --hugepages")));
    findings.push(sandbox());

    let fit = are_good(&findings);
    let others_are_good = findings.iter().filter(|(good, _)| !good).count() <= 1;
    let mut report = String::new();
    for (good, sentence) in findings {
        let _ = writeln!(report, "{} {sentence}", if good { "ok  " } else { "BAD " });
    }
    let boots_in_the_lab = !fit && !has_fit_kvm && others_are_good && !lab::is_inside();
    report += if fit {
        "This host is fit: `minivmm --cma 256M` boots Linux here.\n"
    } else if boots_in_the_lab {
        "This host is not fit for Linux guests: `minivmm --cma 256M` boots one in the lab, an emulated machine with a full KVM.\n"
    } else {
        "This host is not ready for Linux guests: the lines that begin with BAD say what to do.\n"
    };
    (report, fit || boots_in_the_lab)
}

fn are_good(findings: &[Finding]) -> bool {
    findings.iter().all(|(good, _)| *good)
}

/// What the sandbox has here. Only a filter of system calls is necessary.
fn sandbox() -> Finding {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if !actions.split_whitespace().any(|action| action == "trap") {
        let why = "this kernel has no seccomp filters, which the sandbox needs; build it with CONFIG_SECCOMP_FILTER, or run \
                   machines with --sandbox off";
        return (false, why.to_owned());
    }
    let files = landlock_abi().map_or_else(
        || "this kernel has no Landlock to limit files".to_owned(),
        |abi| format!("Landlock limits files (ABI {abi})"),
    );
    (true, format!("the sandbox works: seccomp limits system calls, and {files}"))
}

/// What this host's KVM is like: at most one of these findings is bad.
fn kvm() -> Vec<Finding> {
    let kvm = match open_kvm() {
        Ok(kvm) => kvm,
        Err(error) => return vec![(false, error.to_string())],
    };
    let names: Vec<&str> = arch::NEEDED.iter().map(|(_, name)| *name).collect();
    let linux = match check_fit(&kvm) {
        Ok(()) if lab::is_inside() => (true, "Linux can run on it: this host is the lab".to_owned()),
        Ok(()) => {
            let mode = arch::KERNEL_MODE;
            (true, format!("Linux can run on it: a tiny guest's system call came to {mode}"))
        }
        Err(error) => (false, error.to_string()),
    };
    vec![
        (true, format!("{DEV_KVM} opens, with interface version {API_VERSION}")),
        (true, format!("it has {}", names.join(", "))),
        (true, format!("it takes up to {} vCPUs a guest", kvm.get_max_vcpus())),
        linux,
    ]
}

/// Whether the lab can run here.
fn packages_of_the_lab() -> Finding {
    let packages = lab::packages(Arch::host());
    match debian::missing(packages) {
        Ok(missing) if missing.is_empty() => {
            (true, format!("the lab has its Debian packages: {}", packages.join(", ")))
        }
        Ok(packages) => (false, format!("for the lab {}", guest_images::Error::Missing { packages })),
        Err(error) => (false, format!("the lab needs Debian's packages: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_configuration_is_in_it_or_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("vmlinuz-6.1.0-1"), b"MZ no configuration").unwrap();
        let error = examine_kernel(&path("vmlinuz-6.1.0-1")).unwrap_err();
        assert!(error.contains("vmlinuz-6.1.0-1 has no configuration: it embeds none"), "{error}");
        let all: String = missing("").iter().map(|option| format!("CONFIG_{}=y\n", option.name)).collect();
        fs::write(path("config-6.1.0-1"), &all).unwrap();
        let (report, is_fit) = examine_kernel(&path("vmlinuz-6.1.0-1")).unwrap();
        assert!(is_fit && report.starts_with("ok   it has the options"), "{report}");
        assert!(
            report.contains("note it lacks CONFIG_INET and CONFIG_PACKET and CONFIG_VIRTIO_NET for --net\n")
        );
        fs::write(path(".config"), all.replace("CONFIG_DEVMEM=y", "# CONFIG_DEVMEM is not set")).unwrap();
        for place in [folder.path().to_owned(), path(".config")] {
            let (report, is_fit) = examine_kernel(&place).unwrap();
            assert!(!is_fit);
            assert!(report.starts_with("BAD  it lacks CONFIG_DEVMEM=y: writes the boot mark\n"), "{report}");
        }
    }
}
