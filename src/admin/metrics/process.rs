//! What the system knows of this process, as `/proc` of Linux shows it; elsewhere nothing.

use std::fs;

/// Ticks a second in `/proc`, whatever the kernel's own clock (`USER_HZ`, proc(5)).
const TICKS: f64 = 100.0;

/// What the system knows of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// User and system time, in seconds.
    pub(super) cpu: Option<f64>,
    /// Resident memory, in bytes.
    pub(super) resident: Option<f64>,
    /// Open file descriptors.
    pub(super) open_fds: Option<f64>,
    /// The most of them.
    pub(super) max_fds: Option<f64>,
}

impl Process {
    /// Looks.
    pub(super) fn look() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
        let fds = fs::read_dir("/proc/self/fd").ok();
        Self {
            cpu: read("stat").and_then(|stat| cpu(&stat)),
            resident: read("status").and_then(|status| resident(&status)),
            open_fds: fds.and_then(|fds| u32::try_from(fds.count()).ok().map(f64::from)),
            max_fds: read("limits").and_then(|limits| max_fds(&limits)),
        }
    }
}

/// Fields 14 and 15, counted behind the name of the program, which may hold anything.
fn cpu(stat: &str) -> Option<f64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0)
}

fn max_fds(limits: &str) -> Option<f64> {
    let mut lines = limits.lines();
    let soft = lines.find_map(|it| it.strip_prefix("Max open files"))?;
    soft.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_understood() {
        let stat = "7 (a) b) S 1 1 1 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 12 1000 10";
        assert_eq!(cpu(stat), Some(3.0));
        assert_eq!(cpu("7 (a) S 1"), None);
        let status = "Name:\ta\nVmHWM:\t  900 kB\nVmRSS:\t   512 kB\n";
        assert_eq!(resident(status), Some(524_288.0));
        let limits = "Limit  Soft Limit  Hard Limit  Units\n\
                      Max open files            1024                 4096                 files\n";
        assert_eq!(max_fds(limits), Some(1024.0));
        assert_eq!(max_fds("Max open files  unlimited unlimited files\n"), None);
    }
}
