//! Shrinks a plan that shows a failure to the smallest that still shows it: first fewer rules, then smaller counts.

use devices::faults::Rule;

/// The smallest part of the failing `rules` that still `fails`. Each try is a run.
pub fn minimise(rules: &[Rule], mut fails: impl FnMut(&[Rule]) -> bool) -> Vec<Rule> {
    let mut smallest = rules.to_vec();
    let mut index = 0;
    while index < smallest.len() && smallest.len() > 1 {
        let mut fewer = smallest.clone();
        fewer.remove(index);
        if fails(&fewer) {
            smallest = fewer;
        } else {
            index += 1;
        }
    }
    for index in 0..smallest.len() {
        // A rule that may fire once has the smallest count already.
        let mut times = smallest[index].times.unwrap_or(u64::MAX);
        if smallest[index].when.nth.is_some() {
            continue;
        }
        for less in [1, 2, 4, 8] {
            let mut with_less = smallest.clone();
            with_less[index].times = Some(less);
            if less < times && fails(&with_less) {
                smallest = with_less;
                times = less;
            }
        }
    }
    smallest
}

#[cfg(test)]
mod tests {
    use devices::faults::Plan;

    use super::*;
    use crate::boot::tree_faults::fault_tables;

    fn rules(names: &str) -> Vec<Rule> {
        let rule = |name: char| {
            format!("[[rule]]\nname = \"{name}\"\non = \"irq\"\naction = \"lose\"\ntimes = 100\n")
        };
        Plan::read(&names.chars().map(rule).collect::<String>(), &fault_tables()).unwrap().rules
    }

    fn names(rules: &[Rule]) -> String {
        rules.iter().map(|rule| rule.name.as_str()).collect()
    }

    #[test]
    fn what_is_not_needed_goes() {
        let needs =
            |needed: &'static str| move |rules: &[Rule]| needed.chars().all(|c| names(rules).contains(c));
        assert_eq!(names(&minimise(&rules("abcdef"), needs("be"))), "be");
        assert_eq!(names(&minimise(&rules("a"), needs("a"))), "a");
        assert_eq!(names(&minimise(&rules("abc"), needs("abc"))), "abc");
    }

    #[test]
    fn counts_shrink_as_far_as_it_fails() {
        let least = minimise(&rules("a"), |rules| rules[0].times.is_none_or(|times| times >= 3));
        assert_eq!(least[0].times, Some(4));
        let mut tries = 0;
        let least = minimise(&rules("ab"), |rules| {
            tries += 1;
            rules.len() == 2
        });
        assert_eq!((least[0].times, least[1].times), (Some(1), Some(1)));
        assert!(tries < 20, "{tries}");
    }
}
