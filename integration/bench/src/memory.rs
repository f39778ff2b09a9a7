//! How much memory the process has had at most, as Linux counts it.

/// Lets the most that it has had count from now on. Where that is not allowed it counts from the start of the process.
pub(crate) fn forget_peak() {
    const PEAK: &str = "5";
    let _ = std::fs::write("/proc/self/clear_refs", PEAK);
}

/// The most resident bytes since then; `None` where nobody says so.
pub(crate) fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_of_what_came_since() {
        const MUCH: usize = 64 << 20;
        forget_peak();
        let before = peak().unwrap_or_default();
        std::hint::black_box(vec![1_u8; MUCH]);
        let then = peak().unwrap_or_default();
        assert!(before > 0 && then >= before + MUCH as u64 / 2, "{before} {then}");
        forget_peak();
        assert!(peak().unwrap_or_default() <= then);
    }
}
