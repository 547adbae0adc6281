//! The order in which Linux 6.1 sets up regions: that of its heapsort, which is not stable (lib/sort.c, sort_r).

/// Sorts `items` by `key` as the kernel does. Items with equal keys come out in the order of its heapsort.
pub(super) fn sort<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    let not_less = |items: &[T], a: usize, b: usize| key(&items[a]) >= key(&items[b]);
    let mut end = items.len();
    let mut unsifted = items.len() / 2;
    if unsifted == 0 {
        return;
    }
    loop {
        if unsifted > 0 {
            unsifted -= 1;
        } else {
            end -= 1;
            if end == 0 {
                return;
            }
            items.swap(0, end);
        }
        // The path of the larger children, down to a leaf.
        let mut at = unsifted;
        while 2 * at + 2 < end {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            at = if not_less(items, left, right) { left } else { right };
        }
        if 2 * at + 2 == end {
            at = 2 * at + 1;
        }
        // Back up to the place of the item.
        while at != unsifted && not_less(items, unsifted, at) {
            at = (at - 1) / 2;
        }
        let place = at;
        while at != unsifted {
            at = (at - 1) / 2;
            items.swap(at, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_keys_are_rotated() {
        let mut names = vec!["aa", "bb", "cc", "dd"];
        sort(&mut names, |_| 0);
        assert_eq!(names, ["bb", "cc", "dd", "aa"]);
        // As a booted kernel of 6.1 sets up s1@90000000, a, b, s2@80000000, c.
        let mut mixed = vec![(0x9000_0000_u64, "s1"), (0, "a"), (0, "b"), (0x8000_0000, "s2"), (0, "c")];
        sort(&mut mixed, |(base, _)| *base);
        let names: Vec<_> = mixed.iter().map(|(_, name)| *name).collect();
        assert_eq!(names, ["c", "b", "a", "s2", "s1"]);
    }

    proptest! {
        #[test]
        fn the_result_is_sorted(keys in prop::collection::vec(0_u8..6, 0..70)) {
            let mut items: Vec<(u8, usize)> = keys.into_iter().zip(0..).collect();
            let mut expected = items.clone();
            sort(&mut items, |(key, _)| *key);
            prop_assert!(items.is_sorted_by_key(|(key, _)| *key));
            items.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(items, expected);
        }
    }
}
