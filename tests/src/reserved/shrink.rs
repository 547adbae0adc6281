//! Makes a list of items smaller while something about it stays true.

use super::tree::Item;

/// The most questions.
const MOST: usize = 120;

/// The smallest list found of which `holds` is true, by leaving out items (delta debugging, Zeller and Hildebrandt, 2002), and then
/// properties of those that remain. `holds` is true of `items`.
pub fn shrink(items: &[Item], holds: &mut dyn FnMut(&[Item]) -> bool) -> Vec<Item> {
    let mut left = MOST;
    let mut ask = |items: &[Item]| {
        left = left.saturating_sub(1);
        left > 0 && holds(items)
    };
    let mut list = items.to_vec();
    let mut length = list.len().div_ceil(2).max(1);
    loop {
        let smaller = (0..list.len()).step_by(length).map(|from| {
            let to = (from + length).min(list.len());
            [&list[..from], &list[to..]].concat()
        });
        match smaller.into_iter().find(|smaller| ask(smaller)) {
            Some(smaller) => list = smaller,
            None if length == 1 => break,
            None => length = length.div_ceil(2),
        }
    }
    for index in 0..list.len() {
        let mut property = 0;
        while let Some(smaller) = without_property(&list, index, property) {
            if ask(&smaller) { list = smaller } else { property += 1 }
        }
    }
    list
}

/// The list without a property of an item. None if it has no such property.
fn without_property(items: &[Item], index: usize, property: usize) -> Option<Vec<Item>> {
    let mut items = items.to_vec();
    let (Item::Top(node) | Item::Region(node)) = items.get_mut(index)? else { return None };
    if property >= node.properties.len() {
        return None;
    }
    node.properties.remove(property);
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reserved::tree::Node;

    #[test]
    fn what_matters_remains() {
        let region = |name: &str| Item::Region(Node::new(name).mark("a").mark("b").mark("c"));
        let items: Vec<Item> = (0..40).map(|index| region(&format!("r{index}"))).collect();
        let needs = |items: &[Item], name: &str, mark: &str| {
            let is = |item: &Item| matches!(item, Item::Region(node) if node.name == name && node.properties.iter().any(|(name, _)| name == mark));
            items.iter().any(is)
        };
        let smallest = shrink(&items, &mut |items| needs(items, "r7", "b") && needs(items, "r31", "c"));
        assert_eq!(
            smallest,
            [Item::Region(Node::new("r7").mark("b")), Item::Region(Node::new("r31").mark("c"))]
        );
    }
}
