//! Activates the CMA areas: their pages are given to the page allocator (mm/cma.c, cma_activate_area).

use std::ops::Range;

use super::{
    early::{Checked, Early},
    finding::{Level, finding},
    kernel::Arch,
    ranges::Ranges,
    report::Origin,
};

const ACTIVATE: &str = "mm/cma.c, cma_activate_area";

impl Early<'_, '_> {
    /// Activates all areas, and says which fail.
    pub(super) fn activate(&mut self, regions: &mut [Checked]) {
        // The memory of the areas before, which the page allocator has, also where their activation failed.
        let mut given = Ranges::default();
        for (index, range) in std::mem::take(&mut self.areas) {
            let Some(range) = range else { continue };
            let failure = self.failure(&range);
            let crash = if self.panics { None } else { self.crash(&range, &given) };
            given.insert(range);
            for text in failure.into_iter().chain(crash) {
                match index {
                    // Linux chooses the address, so that it depends on RAM.
                    Some(index) if regions[index].region.base.is_none() && self.ram.may_grow() => {
                        let text =
                            format!("with the RAM of the tree {text}; with other RAM, its place is another");
                        regions[index].say(Level::Warning, ACTIVATE, text);
                    }
                    Some(index) => regions[index].say(Level::Error, ACTIVATE, text),
                    None => self.window.findings.push(finding(Level::Error, ACTIVATE, text)),
                }
            }
        }
        if let Some(index) = self.default {
            if let Some(size) = self.window.size.filter(|_| self.window.origin == Origin::Config) {
                let text = format!(
                    "Linux also reserves {} for a default window by its configuration, because it sets up {} later",
                    crate::size::format(size),
                    self.paths[index]
                );
                self.window.findings.push(finding(Level::Note, super::default_window::RESERVE, text));
            }
            let region = &regions[index].region;
            self.window.origin = Origin::Node;
            self.window.node = Some(region.node.clone());
            (self.window.base, self.window.size) = (region.base, region.size);
        }
    }

    /// Why the window at `range` fails. None if it does not.
    fn failure(&mut self, range: &Range<u64>) -> Option<String> {
        if let Some(lack) = self.ram.lack(range) {
            let advice = if self.ram.may_grow() {
                "; --ram tells where RAM is if the boot loader adds some"
            } else {
                ""
            };
            if self.kernel.arch == Arch::Arm {
                return Some(format!(
                    "{lack}: Linux makes the window, and crashes when it uses the page structures, which do not exist{advice}"
                ));
            }
            let ends = if self.is_in_sections_of_ram(range) {
                self.may_panic = true;
                "crashes when it first uses a page without memory"
            } else {
                self.panics = true;
                "panics at boot when it activates it (\"Unable to handle kernel paging request\")"
            };
            return Some(format!("{lack}: Linux makes the window, and {ends}{advice}"));
        }
        let nodes = self.ram.nodes.values().filter(|ram| ram.overlaps(range)).count();
        if nodes > 1 {
            let text = "it lies in more than one NUMA node, in two zones (\"CMA area ... could not be activated\"): devices get \
                        nothing from it";
            return Some(text.to_owned());
        }
        let (end, zone) =
            self.ram.zone_ends.iter().find(|(end, _)| range.start < *end && *end < range.end)?;
        let end = if *end == 4 << 30 { "4 GiB".to_owned() } else { format!("{end:#x}") };
        Some(format!(
            "it lies on both sides of {end}, the end of {zone}, in two zones (\"CMA area ... could not be activated\"): devices get \
             nothing from it"
        ))
    }

    /// Why Linux crashes when it uses a page of the window at `range`. The areas before it have the memory `given`. None if it does not.
    fn crash(&mut self, range: &Range<u64>, given: &Ranges) -> Option<String> {
        if !self.ram.is_known() || self.ram.lack(range).is_some() {
            return None;
        }
        if given.overlaps(range) {
            // The finding about the overlap says so.
            self.may_panic = true;
            return None;
        }
        let free = Ranges::from_iter([range.clone()]).without(&[self.memblock.reserved()]);
        let mut unmapped = Ranges::from_iter(self.memblock.unmapped());
        unmapped.keep(range);
        let text = if let Some(free) = free.first() {
            format!(
                "{free:#x?} in it is free, because Linux freed it with the memory of a region that it refuses: the page allocator \
                 gets it twice, and Linux crashes when it uses it"
            )
        } else {
            let unmapped = unmapped.iter().next()?;
            format!(
                "{unmapped:#x?} in it is not mapped, because of a region with no-map: the page allocator gets it, and Linux crashes \
                 when it uses it"
            )
        };
        self.may_panic = true;
        Some(text)
    }

    /// Whether all of `range` is in sections with some RAM: Linux has page structures for whole sections (mm/sparse.c).
    fn is_in_sections_of_ram(&self, range: &Range<u64>) -> bool {
        let section: u64 = if self.kernel.page_size == 64 << 10 { 512 << 20 } else { 128 << 20 };
        let mut start = range.start / section * section;
        while start < range.end {
            let Some(end) = start.checked_add(section) else { return false };
            if !self.ram.memory.overlaps(&(start..end)) {
                return false;
            }
            // Sections that are all RAM are skipped at once.
            let covered = self.ram.memory.end_of(start.max(range.start)).unwrap_or(end);
            start = end.max(covered / section * section);
        }
        true
    }
}
