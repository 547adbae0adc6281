//! Regions that refer to each other in a circle by their own `memory-region`.

use std::collections::BTreeMap;

/// The number of the circle that each node is in: nodes with the same number lead to each other. `targets` has the nodes that
/// each node refers to, all of which are keys (Tarjan's algorithm, without recursion).
pub(super) fn circles(targets: &BTreeMap<usize, Vec<usize>>) -> BTreeMap<usize, usize> {
    let mut order = BTreeMap::<usize, usize>::new();
    let mut lowest = BTreeMap::<usize, usize>::new();
    let mut circle = BTreeMap::new();
    let mut open = Vec::new();
    for start in targets.keys() {
        // Each node with the number of its targets that were looked at.
        let mut path = Vec::new();
        if !order.contains_key(start) {
            path.push((*start, 0));
        }
        while let Some((node, next)) = path.last_mut() {
            let node = *node;
            if !order.contains_key(&node) {
                let number = order.len();
                order.insert(node, number);
                lowest.insert(node, number);
                open.push(node);
            }
            if let Some(target) = targets[&node].get(*next).copied() {
                *next += 1;
                if !order.contains_key(&target) {
                    path.push((target, 0));
                } else if !circle.contains_key(&target) {
                    let least = lowest[&node].min(order[&target]);
                    lowest.insert(node, least);
                }
                continue;
            }
            path.pop();
            if lowest[&node] == order[&node] {
                while let Some(member) = open.pop() {
                    circle.insert(member, node);
                    if member == node {
                        break;
                    }
                }
            }
            if let Some((parent, _)) = path.last() {
                let least = lowest[parent].min(lowest[&node]);
                lowest.insert(*parent, least);
            }
        }
    }
    circle
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nodes_of_a_circle_lead_to_each_other(edges in prop::collection::vec((0_usize..8, 0_usize..8), 0..20)) {
            let mut targets: BTreeMap<usize, Vec<usize>> = (0..8).map(|node| (node, Vec::new())).collect();
            edges.iter().for_each(|(from, to)| targets.get_mut(from).unwrap().push(*to));
            let reaches = |from: usize, to: usize| {
                let (mut seen, mut open) = (vec![from], vec![from]);
                while let Some(node) = open.pop() {
                    for target in &targets[&node] {
                        if !seen.contains(target) {
                            seen.push(*target);
                            open.push(*target);
                        }
                    }
                }
                seen.contains(&to)
            };
            let circle = circles(&targets);
            for one in 0..8 {
                for other in 0..8 {
                    let both = reaches(one, other) && reaches(other, one);
                    prop_assert_eq!(circle[&one] == circle[&other], both, "{} {}", one, other);
                }
            }
        }
    }
}
