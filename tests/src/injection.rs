//! Code injection: has a thread of another process make a system call of our choice (ptrace(2)), as an intruder in it would.

use std::{fs::File, io, mem::MaybeUninit, os::unix::fs::FileExt as _};

use libc::{c_int, c_long, c_uint, c_void, pid_t, user_regs_struct};

/// A word of AT_ENTRY in /proc/PID/auxv (getauxval(3)).
const AT_ENTRY: u64 = 9;
/// The stop that PTRACE_INTERRUPT asks for.
const EVENT_STOP: c_int = 128;
/// The general registers (include/uapi/linux/elf.h).
const NT_PRSTATUS: usize = 1;
/// Where the data lies behind the code, in bytes.
const DATA: u64 = 64;
/// The longest data, in bytes.
const DATA_MAX: usize = 4096;

#[cfg(target_arch = "x86_64")]
mod arch {
    use super::{c_long, user_regs_struct};

    /// syscall; int3.
    pub(super) const CODE: &[u8] = &[0x0f, 0x05, 0xcc];

    pub(super) fn prepare(registers: &mut user_regs_struct, pc: u64, call: c_long, arguments: [u64; 6]) {
        registers.rip = pc;
        registers.rax = call.cast_unsigned();
        // The system call that was interrupted is not restarted here.
        registers.orig_rax = u64::MAX;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = arguments;
    }

    pub(super) fn result(registers: &user_regs_struct) -> i64 {
        registers.rax.cast_signed()
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use super::{c_long, user_regs_struct};

    /// svc #0; brk #0.
    pub(super) const CODE: &[u8] = &[0x01, 0x00, 0x00, 0xd4, 0x00, 0x00, 0x20, 0xd4];

    pub(super) fn prepare(registers: &mut user_regs_struct, pc: u64, call: c_long, arguments: [u64; 6]) {
        registers.pc = pc;
        registers.regs[..6].copy_from_slice(&arguments);
        registers.regs[8] = call.cast_unsigned();
    }

    pub(super) fn result(registers: &user_regs_struct) -> i64 {
        registers.regs[0].cast_signed()
    }
}

/// An argument of a system call.
#[derive(Debug, Clone, Copy)]
pub enum Argument<'a> {
    /// A number.
    Number(i64),
    /// The address of these bytes, with a zero behind them.
    Text(&'a str),
}

/// Has thread `tid` of process `pid` make the system call `number`. Returns the result, which is a negative error number if the call
/// failed. The thread then goes on as if nothing had been.
///
/// The code lies for that time at the program's entry, where no thread runs any more.
///
/// # Errors
/// If the thread cannot be traced, or ends meanwhile.
pub fn call(pid: u32, tid: u32, number: c_long, arguments: &[Argument<'_>]) -> io::Result<i64> {
    let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
    let entry = entry(pid)?;
    let thread = Traced::stop(tid.cast_signed())?;

    let mut before = vec![0; usize::try_from(DATA).map_err(io::Error::other)? + DATA_MAX];
    memory.read_exact_at(&mut before, entry)?;
    let mut data = Vec::new();
    let mut values = [0; 6];
    for (value, argument) in values.iter_mut().zip(arguments) {
        *value = match argument {
            Argument::Number(number) => number.cast_unsigned(),
            Argument::Text(text) => {
                let address = entry + DATA + data.len() as u64;
                data.extend_from_slice(text.as_bytes());
                data.push(0);
                address
            }
        };
    }
    assert!(data.len() <= DATA_MAX, "the texts are too long");
    memory.write_all_at(arch::CODE, entry)?;
    memory.write_all_at(&data, entry + DATA)?;

    let registers = thread.registers()?;
    let mut ours = registers;
    arch::prepare(&mut ours, entry, number, values);
    thread.set_registers(&ours)?;
    let result = thread.run_to_trap().and_then(|()| thread.registers()).map(|after| arch::result(&after));
    memory.write_all_at(&before, entry)?;
    thread.set_registers(&registers)?;
    result
}

/// Where the program of a process began.
fn entry(pid: u32) -> io::Result<u64> {
    let words = std::fs::read(format!("/proc/{pid}/auxv"))?;
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    let mut pairs = words.chunks_exact(16).map(|pair| (word(&pair[..8]), word(&pair[8..])));
    let entry = pairs.find(|(key, _)| *key == AT_ENTRY).map(|(_, value)| value);
    entry.ok_or_else(|| io::Error::other("the process has no AT_ENTRY"))
}

/// A thread that is stopped. Dropping this lets it go.
struct Traced(pid_t);

fn ptrace(request: c_uint, tid: pid_t, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: the callers pass what the request needs: numbers, or the address of a structure of theirs.
    let result = unsafe { libc::ptrace(request, tid, address as *mut c_void, data as *mut c_void) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Traced {
    fn stop(tid: pid_t) -> io::Result<Self> {
        ptrace(libc::PTRACE_SEIZE, tid, 0, 0)?;
        let thread = Self(tid);
        ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0)?;
        loop {
            match thread.wait()? {
                (libc::SIGTRAP, EVENT_STOP) => return Ok(thread),
                (signal, _) => thread.go_on(signal)?,
            }
        }
    }

    /// Waits until it stops. Returns the signal, and the event.
    fn wait(&self) -> io::Result<(c_int, c_int)> {
        let mut status = 0;
        // SAFETY: a word of ours.
        let waited = unsafe { libc::waitpid(self.0, &raw mut status, libc::__WALL) };
        if waited == -1 {
            return Err(io::Error::last_os_error());
        }
        if libc::WIFSTOPPED(status) {
            Ok((libc::WSTOPSIG(status), status >> 16))
        } else {
            Err(io::Error::other(format!("the thread ended with status {status:#x}")))
        }
    }

    /// Lets it go on, and take `signal`.
    fn go_on(&self, signal: c_int) -> io::Result<()> {
        ptrace(libc::PTRACE_CONT, self.0, 0, signal.cast_unsigned() as usize)
    }

    /// Lets it run to the end of the code, with the signals that come on the way.
    fn run_to_trap(&self) -> io::Result<()> {
        let mut signal = 0;
        loop {
            self.go_on(signal)?;
            signal = match self.wait()? {
                (libc::SIGTRAP, 0) => return Ok(()),
                (signal, 0) => signal,
                _ => 0,
            };
        }
    }

    fn registers(&self) -> io::Result<user_regs_struct> {
        let mut registers = MaybeUninit::<user_regs_struct>::zeroed();
        let to =
            libc::iovec { iov_base: registers.as_mut_ptr().cast(), iov_len: size_of::<user_regs_struct>() };
        ptrace(libc::PTRACE_GETREGSET, self.0, NT_PRSTATUS, &raw const to as usize)?;
        // SAFETY: the structure is numbers, for which all zeroes is a value, and the kernel filled it.
        Ok(unsafe { registers.assume_init() })
    }

    fn set_registers(&self, registers: &user_regs_struct) -> io::Result<()> {
        let iov_base = std::ptr::from_ref(registers).cast_mut().cast();
        let from = libc::iovec { iov_base, iov_len: size_of::<user_regs_struct>() };
        ptrace(libc::PTRACE_SETREGSET, self.0, NT_PRSTATUS, &raw const from as usize)
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // It fails if the thread has ended.
        let _ = ptrace(libc::PTRACE_DETACH, self.0, 0, 0);
    }
}
