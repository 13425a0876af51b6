//! Holes: which parts of a file the archive holds, and where they belong.

use super::error::Refusal;

/// A run of bytes that the archive holds. Between runs are zeros, which it does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub offset: u64,
    pub len: u64,
}

/// More runs than this in one file are refused. A disk image of 1 TiB with runs of 4 MiB has fewer.
pub(super) const EXTENTS_MAX: usize = 1 << 18;

/// Checks a map against the size that it claims and the bytes that the archive holds.
///
/// Runs must be in order and without overlap, end within `size`, and add up to `stored`. All except the last must be whole blocks: every
/// writer stores blocks, and readers disagree about anything else.
pub(super) fn check(extents: &[Extent], size: u64, stored: u64) -> Result<(), Refusal> {
    if extents.len() > EXTENTS_MAX {
        return Err(Refusal::SparseMapTooLarge { limit: EXTENTS_MAX });
    }
    let mut end = 0_u64;
    let mut sum = 0_u64;
    let mut ragged = false;
    for extent in extents {
        if extent.offset < end || (ragged && extent.len > 0) {
            return Err(Refusal::SparseMap);
        }
        end = extent.offset.checked_add(extent.len).ok_or(Refusal::SparseMap)?;
        sum = sum.checked_add(extent.len).ok_or(Refusal::SparseMap)?;
        ragged |= extent.len % 512 != 0;
    }
    if end > size || sum != stored {
        return Err(Refusal::SparseMap);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_checked() {
        let e = |offset, len| Extent { offset, len };
        for (extents, size, stored, good) in [
            (vec![], 4 << 30, 0, true),
            (vec![e(0, 512), e(1024, 100)], 1124, 612, true),
            (vec![e(0, 512), e(4 << 30, 0)], 4 << 30, 512, true),
            (vec![e(0, 100), e(4096, 0)], 4096, 100, true),
            (vec![e(512, 512), e(0, 512)], 4096, 1024, false),
            (vec![e(0, 1024), e(512, 512)], 4096, 1536, false),
            (vec![e(0, 512)], 511, 512, false),
            (vec![e(0, 512)], 4096, 1024, false),
            (vec![e(0, 100), e(512, 512)], 4096, 612, false),
            (vec![e(u64::MAX, 512)], u64::MAX, 512, false),
        ] {
            assert_eq!(check(&extents, size, stored).is_ok(), good, "{extents:?}");
        }
    }

    #[test]
    fn a_map_has_a_limit() {
        let map = |len: usize| (0..len).map(|at| Extent { offset: at as u64 * 512, len: 512 }).collect::<Vec<_>>();
        let bytes = EXTENTS_MAX as u64 * 512;
        assert!(check(&map(EXTENTS_MAX), bytes, bytes).is_ok());
        let refusal = check(&map(EXTENTS_MAX + 1), bytes + 512, bytes + 512).unwrap_err();
        assert!(matches!(refusal, Refusal::SparseMapTooLarge { limit: EXTENTS_MAX }));
    }
}
