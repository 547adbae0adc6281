//! The host's KVM: opens it, and checks that it has what minivmm needs and that Linux can run on it.

use std::{fs::OpenOptions, io, os::fd::IntoRawFd};

use kvm_ioctls::Kvm;

use crate::{arch, lab::inside};

/// The device that KVM is behind.
pub const DEV_KVM: &str = "/dev/kvm";
/// The one stable version of KVM's interface (Documentation/virt/kvm/api.rst, KVM_GET_API_VERSION).
pub const API_VERSION: i32 = 12;
/// Why KVM cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// There is no such device.
    #[error("there is no {DEV_KVM} on this host: {without}", without = arch::WITHOUT_KVM)]
    Absent,
    /// The user lacks the permission.
    #[error("{DEV_KVM} may not be opened by this user: add the user to the group kvm, or run as root")]
    NotPermitted,
    /// The host returned another error.
    #[error("{DEV_KVM} cannot be opened: {0}")]
    Open(io::Error),
    /// The interface has another version.
    #[error("{DEV_KVM} has interface version {0}, not {API_VERSION}: this is no KVM that minivmm knows")]
    Version(i32),
    /// A capability is missing.
    #[error("this host's KVM lacks {0}, which minivmm needs")]
    Lacks(&'static str),
    /// It lacks something that the options ask for.
    #[error("{0}")]
    Options(String),
    /// It does not run Linux.
    #[error("this host's KVM cannot run Linux: {0}")]
    Unfit(String),
}

/// Opens KVM and checks that it has what minivmm needs.
///
/// # Errors
/// If it is not there, not permitted, or lacks something.
pub fn open_kvm() -> Result<Kvm, KvmError> {
    let file =
        OpenOptions::new().read(true).write(true).open(DEV_KVM).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => KvmError::Absent,
            io::ErrorKind::PermissionDenied => KvmError::NotPermitted,
            _ => KvmError::Open(error),
        })?;
    // SAFETY: the descriptor is that of /dev/kvm, and is handed over.
    let kvm = unsafe { std::os::fd::FromRawFd::from_raw_fd(file.into_raw_fd()) };
    let kvm: Kvm = kvm;
    match kvm.get_api_version() {
        API_VERSION => {}
        version => return Err(KvmError::Version(version)),
    }
    match arch::NEEDED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
        Some((_, name)) => Err(KvmError::Lacks(name)),
        None => Ok(kvm),
    }
}

/// Checks that Linux can run on this KVM: everything that asks so asks here. The lab is trusted, as its KVM is known.
///
/// # Errors
/// If it cannot: the reason.
pub fn check_fit(kvm: &Kvm) -> Result<(), KvmError> {
    if inside::is_inside() {
        return Ok(());
    }
    arch::probe(kvm).map_err(KvmError::Unfit)
}
