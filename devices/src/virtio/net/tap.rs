//! A tap device of the host's (Documentation/networking/tuntap.rst).

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::fs::OpenOptionsExt as _,
    },
};

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
};
use vmm_sys_util::{ioctl::ioctl_with_val, ioctl_iow_nr};

use super::link::{HEADER, Link, Sent};

/// The longest name of an interface (IFNAMSIZ, with its NUL).
pub(super) const NAME_MAX: usize = libc::IFNAMSIZ - 1;

const DEVICE: &str = "/dev/net/tun";

/// The default MTU of a tap device.
const MTU: u16 = 1500;

// include/uapi/linux/if_tun.h
const TUN: u32 = b'T' as u32;
ioctl_iow_nr!(TUNSETIFF, TUN, 202, libc::c_int);
ioctl_iow_nr!(TUNSETOFFLOAD, TUN, 208, libc::c_uint);
ioctl_iow_nr!(TUNSETVNETHDRSZ, TUN, 216, libc::c_int);
const TUN_F_CSUM: u64 = 1 << 0;
const TUN_F_TSO4: u64 = 1 << 1;
const TUN_F_TSO6: u64 = 1 << 2;

/// The offloads of frames for the guest, and the tap device's names for them.
const OFFLOADS: [(u32, u64); 3] = [
    (VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM),
    (VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4),
    (VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6),
];

/// An open tap device.
pub(super) struct Tap(File);

impl Tap {
    /// The tap device `name`, which is made if it does not exist and the user may do that.
    ///
    /// # Errors
    /// Those of open(2) and ioctl(2).
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let file = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE)?;
        // SAFETY: all bytes of the structure may be zero.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().take(NAME_MAX).zip(name.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        request.ifr_ifru.ifru_flags = i16::from_ne_bytes([flags.to_le_bytes()[0], flags.to_le_bytes()[1]]);
        // SAFETY: the kernel reads and writes the structure, which outlives the call.
        checked(unsafe { vmm_sys_util::ioctl::ioctl_with_mut_ref(&file, TUNSETIFF(), &mut request) })?;
        let length = libc::c_int::try_from(HEADER).unwrap_or(0);
        // SAFETY: the kernel reads the number, which outlives the call.
        checked(unsafe { vmm_sys_util::ioctl::ioctl_with_ref(&file, TUNSETVNETHDRSZ(), &length) })?;
        let mut tap = Self(file);
        tap.agree(0)?;
        Ok(tap)
    }
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The request that the device's thread makes when a driver begins.
pub const AGREE_REQUEST: fn() -> libc::c_ulong = TUNSETOFFLOAD;

impl Link for Tap {
    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn features(&self) -> u64 {
        let to_guest = OFFLOADS.iter().map(|(feature, _)| 1 << feature);
        [VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6]
            .iter()
            .map(|feature| 1 << feature)
            .chain(to_guest)
            .fold(0, |all, feature: u64| all | feature)
    }

    fn mtu(&self) -> u16 {
        MTU
    }

    fn agree(&mut self, features: u64) -> io::Result<()> {
        let chosen = OFFLOADS.iter().filter(|(feature, _)| features & 1 << feature != 0);
        let offloads = chosen.fold(0, |all, (_, offload)| all | offload);
        // SAFETY: the request takes a number, and touches no memory of ours.
        checked(unsafe { ioctl_with_val(&self.0, TUNSETOFFLOAD(), offloads) })
    }

    fn receive(&mut self, frame: &mut [u8]) -> io::Result<Option<usize>> {
        match self.0.read(frame) {
            Ok(length) if length >= HEADER => Ok(Some(length)),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<Sent> {
        match self.0.write(frame) {
            Ok(_) => Ok(Sent::Yes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Sent::Later),
            // The device was removed.
            Err(error) if error.raw_os_error() == Some(libc::EBADFD) => Err(error),
            // The interface is down, or the guest's header is wrong.
            Err(_) => Ok(Sent::Dropped),
        }
    }
}
