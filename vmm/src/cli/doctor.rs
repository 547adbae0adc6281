//! `minivmm doctor`: whether this host is fit to run Linux guests, and what to do if not.

use std::{fmt::Write as _, fs};

use crate::{
    arch,
    boot::images,
    lab,
    machine::kvm::{API_VERSION, DEV_KVM, check_fit, open_kvm},
};

/// Examines the host. Returns a line for each finding, and whether this host is fit for Linux guests.
pub fn examine() -> (String, bool) {
    let mut report = String::new();
    let mut fit = true;
    let mut line = |good: bool, text: &str| {
        let _ = writeln!(report, "{} {text}", if good { "ok  " } else { "BAD " });
        fit &= good;
    };
    match open_kvm() {
        Err(error) => line(false, &error.to_string()),
        Ok(kvm) => {
            line(true, &format!("{DEV_KVM} opens, with interface version {API_VERSION}"));
            let names: Vec<&str> = arch::NEEDED.iter().map(|(_, name)| *name).collect();
            line(true, &format!("it has {}", names.join(", ")));
            line(true, &format!("it takes up to {} vCPUs a guest", kvm.get_max_vcpus()));
            match check_fit(&kvm) {
                Ok(()) if lab::is_inside() => line(true, "Linux can run on it: this host is the lab"),
                Ok(()) => {
                    let mode = arch::KERNEL_MODE;
                    line(true, &format!("Linux can run on it: a tiny guest's system call came to {mode}"));
                }
                Err(error) => line(false, &error.to_string()),
            }
        }
    }
    match images::find(images::DEFAULT) {
        Ok(image) => line(true, &format!("the default guest image is {}", image.kernel.display())),
        Err(error) => line(false, &error.to_string()),
    }
    let free = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let free = free.map_or_else(|_| "no".to_owned(), |free| free.trim().to_owned());
    line(true, &format!("{free} huge pages of 2 MiB are free for --hugepages"));
    let verdict = if fit {
        "This host is fit: `minivmm --cma 256M` boots Linux here.".to_owned()
    } else {
        "This host is not fit for Linux guests: `minivmm --cma 256M` boots one in the lab, an emulated machine with a full KVM."
            .to_owned()
    };
    let _ = writeln!(report, "{verdict}");
    (report, fit)
}
