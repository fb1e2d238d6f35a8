//! The few things that only the operating system can tell.

use std::{io, time::Duration};

/// Reads CLOCK_MONOTONIC in nanoseconds: the same clock in all processes of the machine.
pub(crate) fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// CPU time that this process has used, in nanoseconds.
pub(crate) fn cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call, which writes nothing else.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(result, 0, "these clocks exist on every Linux");
    let time = Duration::new(
        u64::try_from(time.tv_sec).expect("these clocks are not negative"),
        u32::try_from(time.tv_nsec).expect("nanoseconds are below a thousand million"),
    );
    u64::try_from(time.as_nanos()).expect("584 years fit")
}

/// Allows this process as many descriptors as it may allow itself.
pub(crate) fn raise_descriptor_limit() -> Result<(), String> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives both calls; the first writes it, the second reads it.
    let failed = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 || {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0
        }
    };
    if failed {
        return Err(format!("cannot raise the descriptor limit: {}", io::Error::last_os_error()));
    }
    Ok(())
}

/// Keeps this process on one processor.
pub(crate) fn stay_on(cpu: usize) -> Result<(), String> {
    // SAFETY: a set of processors is a plain array of bits, for which all zeros is the empty set;
    // both calls get its true size.
    let result = unsafe {
        let mut set: libc::cpu_set_t = core::mem::zeroed();
        if cpu >= 8 * size_of::<libc::cpu_set_t>() {
            return Err(format!("there is no processor {cpu}"));
        }
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result != 0 {
        return Err(format!("cannot stay on processor {cpu}: {}", io::Error::last_os_error()));
    }
    Ok(())
}
