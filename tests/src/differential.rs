//! Compares the allocator model with the kernel: lists of operations, both answers, and the shortest list that shows a
//! difference.

use std::{
    fmt::{self, Write as _},
    process::Command,
    time::Duration,
};

use cma::{
    PAGE_SIZE,
    area::{Area, dma_alignment, order},
    dma::MAX_PAGE_ORDER,
    map::Pages,
};
use guest_images::Kind;

use crate::{guest, kernels};

/// The program for the operations in the guest, see tests/guest/cma-ops.c.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cma-ops"));
/// The number of operations between two comparisons of the bitmap.
pub const BATCH: usize = 16;
/// Number of pages of the camera's smallest frame, 160x120 GREY. The driver refuses smaller buffers.
const LEAST_OF_A_FRAME: u64 = (160 * 120_u64).div_ceil(PAGE_SIZE);
/// Time limit of the guest for a list.
const LIMIT: Duration = Duration::from_secs(400);
/// Maximum number of guests that boot to shorten a list.
const ROUNDS: usize = 16;
/// The most buffers that a queue can have (include/media/videobuf2-core.h, VB2_MAX_FRAME in 6.1).
const VB2_MAX_FRAME: usize = 32;
/// ENOMEM, EBADF and ENOBUFS (errno.h).
const ENOMEM: i32 = 12;
const EBADF: i32 = 9;
const ENOBUFS: i32 = 105;

/// An operation. The program in the guest uses the first letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// debugfs `alloc`: this number of pages without alignment.
    Alloc(u64),
    /// debugfs `free`: this number of pages of the last allocations.
    Free(u64),
    /// A buffer of the dma-buf heap: its number, and its pages.
    Buffer(usize, u64),
    /// Closes a buffer.
    Close(usize),
    /// VIDIOC_CREATE_BUFS: one more buffer of the camera, with this number of pages.
    Create(u64),
    /// VIDIOC_REQBUFS with count 0: frees the camera's buffers.
    Request0,
    /// Frees everything.
    Reset,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alloc(pages) => write!(f, "a {pages}"),
            Self::Free(pages) => write!(f, "f {pages}"),
            Self::Buffer(id, pages) => write!(f, "h {id} {pages}"),
            Self::Close(id) => write!(f, "c {id}"),
            Self::Create(pages) => write!(f, "v {pages}"),
            Self::Request0 => write!(f, "w"),
            Self::Reset => write!(f, "r"),
        }
    }
}

/// The state after an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 0, or the error.
    pub errno: i32,
    /// debugfs `used`.
    pub used: u64,
    /// debugfs `maxchunk`.
    pub maxchunk: u64,
    /// The bitmap, if it was read.
    pub bitmap: Option<Pages>,
}

/// One line. The bitmap is shown as runs of pages in use.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "errno {}, used {}, maxchunk {}, in use", self.errno, self.used, self.maxchunk)?;
        self.bitmap.iter().flat_map(Pages::runs).try_for_each(|run| write!(f, " {run:?}"))
    }
}

/// Pseudorandom numbers, reproducible by their seed (splitmix64).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Begins with `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of `values`.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        let count = values.len() as u64;
        values[usize::try_from(self.below(count)).unwrap_or_default()]
    }

    /// A number of pages. All magnitudes are equally frequent; some are powers of two, and some exceed the window.
    fn pages(&mut self, window: u64) -> u64 {
        let order = self.below(u64::from(window.ilog2()) + 1);
        match self.below(16) {
            0 => 1 << order,
            1 if self.below(8) == 0 => window + self.below(3),
            _ => 1 + self.below(1 << order),
        }
    }
}

/// `count` operations of debugfs on a window of `window` pages.
pub fn debugfs_operations(random: &mut Random, count: usize, window: u64) -> Vec<Operation> {
    (0..count)
        .map(|_| match random.below(100) {
            0..55 => Operation::Alloc(random.pages(window)),
            55..99 => Operation::Free(random.pages(window)),
            _ if random.below(8) == 0 => Operation::Reset,
            _ => Operation::Alloc(0),
        })
        .collect()
}

/// `count` operations of the dma-buf heap and of the camera's driver on a window of `window` pages. Their allocations are
/// aligned.
pub fn aligned_operations(random: &mut Random, count: usize, window: u64) -> Vec<Operation> {
    let mut live: Vec<usize> = Vec::new();
    let mut unused: Vec<usize> = (0..1024).rev().collect();
    (0..count)
        .map(|_| {
            match random.below(64) {
                0 => return Operation::Request0,
                1..16 => return Operation::Create(random.pages(window / 2).max(LEAST_OF_A_FRAME)),
                _ => {}
            }
            let full = unused.is_empty();
            if !live.is_empty() && (full || random.below(100) < 45) {
                let at = usize::try_from(random.below(live.len() as u64)).unwrap_or(0);
                let id = live.swap_remove(at);
                unused.push(id);
                Operation::Close(id)
            } else {
                let id = unused.pop().unwrap_or(0);
                live.push(id);
                Operation::Buffer(id, random.pages(window / 4))
            }
        })
        .collect()
}

/// The model of a window, and of the holders of its pages.
#[derive(Debug, Clone)]
pub struct Model {
    empty: Area,
    area: Area,
    /// The allocations of debugfs, the last one at the end: first page and number (struct cma_mem).
    stack: Vec<(u64, u64)>,
    /// The buffers, by number.
    buffers: Vec<Option<(u64, u64)>>,
    /// The camera's buffers. None for a buffer outside the window.
    camera: Vec<Option<(u64, u64)>>,
}

impl Model {
    /// A model of `area`, which is empty except for the first `taken` pages. Those stay allocated.
    ///
    /// # Panics
    /// If the area has fewer pages.
    pub fn new(area: &Area, taken: u64) -> Self {
        let mut area = area.clone();
        if taken > 0 {
            area.alloc(taken, 0).expect("the window is larger");
        }
        Self { empty: area.clone(), area, stack: Vec::new(), buffers: vec![None; 4096], camera: Vec::new() }
    }

    /// Does `operation`, and then reads the bitmap if `look` is set.
    pub fn step(&mut self, operation: Operation, look: bool) -> Answer {
        let errno = match operation {
            Operation::Alloc(pages) => match self.area.alloc(pages, 0) {
                Ok(allocation) => {
                    self.stack.push((allocation.pfn, pages));
                    0
                }
                Err(_) => ENOMEM,
            },
            Operation::Free(pages) => {
                self.free(pages);
                0
            }
            Operation::Buffer(id, pages) => match self.area.alloc(pages, dma_alignment(pages * PAGE_SIZE)) {
                Ok(allocation) => {
                    self.buffers[id] = Some((allocation.pfn, pages));
                    0
                }
                Err(_) => ENOMEM,
            },
            Operation::Close(id) => match self.buffers[id].take() {
                Some((pfn, pages)) => {
                    self.area.release(pfn, pages);
                    0
                }
                None => EBADF,
            },
            Operation::Create(pages) => self.create(pages),
            Operation::Request0 => {
                for (pfn, pages) in self.camera.drain(..).flatten() {
                    self.area.release(pfn, pages);
                }
                0
            }
            Operation::Reset => {
                self.area = self.empty.clone();
                self.stack.clear();
                self.buffers.fill(None);
                self.camera.clear();
                0
            }
        };
        let maxchunk = self.area.largest_hole();
        Answer {
            errno,
            used: self.area.used(),
            maxchunk: maxchunk.end - maxchunk.start,
            bitmap: look.then(|| self.area.allocated()),
        }
    }

    /// Allocates a buffer of the camera through the DMA API. If the window has no room, the buddy allocator provides it,
    /// up to its largest order (kernel/dma/direct.c, __dma_direct_alloc_pages).
    fn create(&mut self, pages: u64) -> i32 {
        if self.camera.len() == VB2_MAX_FRAME {
            return ENOBUFS;
        }
        let allocation = self.area.alloc(pages, dma_alignment(pages * PAGE_SIZE)).ok();
        if allocation.is_none() && order(pages) > MAX_PAGE_ORDER {
            return ENOMEM;
        }
        self.camera.push(allocation.map(|allocation| (allocation.pfn, pages)));
        0
    }

    /// debugfs `free` (mm/cma_debug.c, cma_free_mem): frees the first pages of the last allocation.
    fn free(&mut self, mut pages: u64) {
        while pages > 0 {
            let Some((pfn, count)) = self.stack.pop() else { return };
            let freed = count.min(pages);
            // If a bit stands for several pages, only a whole allocation is freed.
            if freed < count && self.area.order_per_bit() > 0 {
                self.stack.push((pfn, count));
                return;
            }
            self.area.release(pfn, freed);
            pages -= freed;
            if freed < count {
                self.stack.push((pfn + freed, count - freed));
            }
        }
    }
}

/// A window of a guest for operations.
#[derive(Debug)]
pub struct Place<'a> {
    /// The empty area of the window.
    pub area: &'a Area,
    /// The image to boot. Its kernel has the area's rules.
    pub kind: Kind,
    /// minivmm's arguments for a machine with that window, separated by spaces.
    pub arguments: &'a str,
    /// Whether the dma-buf heap and the camera allocate from it.
    pub heap: bool,
}

impl Place<'_> {
    /// Does `operations` in a guest and on the model.
    ///
    /// # Errors
    /// The first difference, and the shortest list of operations found that shows one.
    ///
    /// # Panics
    /// If the guest does not do them at all.
    pub fn compare(&self, operations: &[Operation]) -> Result<(), String> {
        let Some(at) = self.differences(&[operations])[0] else { return Ok(()) };
        let mut list = operations[..=at].to_vec();
        let mut pieces = 2;
        // Delta debugging (Zeller and Hildebrandt, 2002), with a guest for each round.
        for _ in 0..ROUNDS {
            let length = list.len().div_ceil(pieces).max(1);
            let without: Vec<Vec<Operation>> = (0..list.len())
                .step_by(length)
                .map(|from| [&list[..from], &list[(from + length).min(list.len())..]].concat())
                .collect();
            let lists: Vec<&[Operation]> = without.iter().map(Vec::as_slice).collect();
            let found =
                self.differences(&lists).into_iter().zip(&without).find_map(|(at, list)| Some((at?, list)));
            match found {
                Some((at, shorter)) => {
                    list = shorter[..=at].to_vec();
                    pieces = pieces.saturating_sub(1).max(2);
                }
                None if length == 1 => break,
                None => pieces *= 2,
            }
        }
        let (_, mut kernel) = self.kernel(&[&list]);
        let said = |answers: Vec<Answer>| answers.last().map(Answer::to_string).unwrap_or_default();
        let (kernel, model) = (said(kernel.remove(0)), said(self.model(&list)));
        let mut text =
            format!("a list of {} operations ends with\n  kernel: {kernel}\n  model:  {model}\n", list.len());
        for operation in &list {
            let _ = writeln!(text, "  {operation}");
        }
        Err(text)
    }

    /// Does the operations of `list`, which depend on the number of pages in use before, in a guest and on the model. Returns
    /// both answers to each operation, the model's first.
    ///
    /// # Panics
    /// If the guest does not do them at all.
    pub fn answers(&self, list: &dyn Fn(u64) -> Vec<Operation>) -> Vec<(Answer, Answer)> {
        let (taken, _) = self.kernel(&[]);
        let operations = list(taken);
        let (_, mut kernel) = self.kernel(&[&operations]);
        self.model_with(taken, &operations).into_iter().zip(kernel.remove(0)).collect()
    }

    /// For each of `lists`, the first operation after which kernel and model differ.
    fn differences(&self, lists: &[&[Operation]]) -> Vec<Option<usize>> {
        let (taken, kernel) = self.kernel(lists);
        let differs = |(list, kernel): (&&[Operation], Vec<Answer>)| {
            let model = self.model_with(taken, list);
            model.iter().zip(&kernel).position(|(model, kernel)| model != kernel)
        };
        lists.iter().zip(kernel).map(differs).collect()
    }

    fn model(&self, operations: &[Operation]) -> Vec<Answer> {
        self.model_with(self.kernel(&[]).0, operations)
    }

    fn model_with(&self, taken: u64, operations: &[Operation]) -> Vec<Answer> {
        let mut model = Model::new(self.area, taken);
        let last = operations.len().saturating_sub(1);
        let step = |(index, &operation)| model.step(operation, looks(index, last));
        operations.iter().enumerate().map(step).collect()
    }

    /// The kernel's answers to each of `lists`, and the number of the window's first pages that were in use before.
    fn kernel(&self, lists: &[&[Operation]]) -> (u64, Vec<Vec<Answer>>) {
        let mut script = "b\n".to_owned();
        for list in lists {
            script.push_str("r\n");
            for (index, operation) in list.iter().enumerate() {
                let _ = writeln!(script, "{operation}");
                if looks(index, list.len() - 1) {
                    script.push_str("b\n");
                }
            }
        }
        let initrd =
            guest::initramfs_with(self.kind, &[("bin/cma-ops", PROGRAM), ("ops", script.as_bytes())]);
        let place = self.area.name();
        let heap = if self.heap { format!("/dev/dma_heap/{place} /dev/video0") } else { String::new() };
        let mut minivmm = Command::new(guest::minivmm());
        let arguments = format!("{} {}", kernels::image(self.kind), self.arguments);
        minivmm.args(arguments.split_whitespace()).arg("--initrd").arg(initrd.path());
        minivmm.args(["--exec", &format!("cma-ops /sys/kernel/debug/cma/{place} {heap} < /ops")]);
        let printed = guest::printed(&guest::run_within(&mut minivmm, LIMIT));

        let mut lines = printed.lines().map(|line| answer(line, self.area));
        let before = lines.next().expect("the bitmap before");
        let taken: Vec<_> = before.bitmap.iter().flat_map(Pages::runs).collect();
        assert!(
            taken.is_empty() || taken == [0..before.used],
            "the model knows only of a first part of the window that is in use, not of {taken:?}"
        );
        let mut answers = Vec::new();
        for list in lists {
            assert_eq!(lines.next().expect("an answer to the reset").errno, 0);
            let next = |index| {
                let mut answer = lines.next().expect("an answer to each operation");
                if looks(index, list.len() - 1) {
                    answer.bitmap = lines.next().expect("a bitmap").bitmap;
                }
                answer
            };
            answers.push((0..list.len()).map(next).collect());
        }
        assert!(lines.next().is_none(), "there is more than was asked for");
        (before.used, answers)
    }
}

/// Whether the bitmap is read after the operation `index`, where `last` is the last one.
fn looks(index: usize, last: usize) -> bool {
    index % BATCH == BATCH - 1 || index == last
}

/// Parses a line of the program in the guest.
fn answer(line: &str, area: &Area) -> Answer {
    let mut words = line.splitn(4, ' ');
    let mut number =
        || words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("in {line}"));
    let (errno, used, maxchunk) = (number(), number(), number());
    let bitmap = words.next().map(|text| {
        let bitmaps: Vec<&str> = text.split('|').collect();
        assert_eq!(bitmaps.len(), area.ranges().count(), "in {line}");
        let mut pages = Pages::empty(area.count());
        let mut before = 0;
        for (text, range) in bitmaps.into_iter().zip(area.ranges()) {
            let (count, order) = (range.end - range.start, area.order_per_bit());
            let bits = Pages::parse(text, count >> order).unwrap_or_else(|error| panic!("{error}: {line}"));
            for run in bits.runs() {
                pages.insert(before + (run.start << order)..before + (run.end << order));
            }
            before += count;
        }
        pages
    });
    Answer { errno: i32::try_from(errno).unwrap_or(i32::MAX), used, maxchunk, bitmap }
}

#[cfg(test)]
mod tests {
    use cma::area::Rules;

    use super::*;

    fn window() -> Area {
        Area::new("isp@60000000", 0x60000, 4096, 0).unwrap()
    }

    #[test]
    fn several_ranges_have_a_bitmap_each() {
        let area = Area::of_ranges("hugetlb0", &[(0x100_000, 64), (0x180_000, 128)], 1, Rules::V7_2).unwrap();
        let answer = answer("0 8 100 3|0 2147483648", &area);
        assert_eq!(answer.bitmap.unwrap().runs().collect::<Vec<_>>(), [0..4, 190..192]);
        let mut model = Model::new(&area, 0);
        model.step(Operation::Alloc(66), false);
        assert_eq!(model.step(Operation::Alloc(3), true).bitmap.unwrap().runs().next(), Some(0..4));
        // A part of the last allocation is not freed.
        assert_eq!(model.step(Operation::Free(2), false).used, 69);
        assert_eq!(model.step(Operation::Free(3), false).used, 66);
    }

    #[test]
    fn the_last_allocation_loses_its_first_pages() {
        let mut model = Model::new(&window(), 0);
        model.step(Operation::Alloc(10), false);
        model.step(Operation::Alloc(8), false);
        let answer = model.step(Operation::Free(3), true);
        assert_eq!((answer.errno, answer.used, answer.maxchunk), (0, 15, 4096 - 18));
        assert_eq!(answer.bitmap.unwrap().runs().collect::<Vec<_>>(), [0..10, 13..18]);
        assert_eq!(model.step(Operation::Free(u64::MAX), false).used, 0);
        assert_eq!(model.step(Operation::Alloc(0), false).errno, ENOMEM);
        assert_eq!(model.step(Operation::Alloc(4097), false).errno, ENOMEM);
    }

    #[test]
    fn buffers_are_aligned_and_closed_once() {
        let mut model = Model::new(&window(), 1);
        model.step(Operation::Buffer(7, 64), false);
        let answer = model.step(Operation::Buffer(8, 3), true);
        assert_eq!(answer.bitmap.unwrap().runs().collect::<Vec<_>>(), [0..1, 4..7, 64..128]);
        assert_eq!(model.step(Operation::Close(7), false).errno, 0);
        assert_eq!(model.step(Operation::Close(7), false).errno, EBADF);
        assert_eq!(model.step(Operation::Reset, false).used, 1);
    }

    #[test]
    fn lists_are_the_same_for_the_same_seed() {
        let list = |seed| debugfs_operations(&mut Random::new(seed), 1000, 4096);
        assert_eq!(list(1), list(1));
        assert_ne!(list(1), list(2));
        let list = aligned_operations(&mut Random::new(3), 1000, 4096);
        let closed = list.iter().filter(|operation| matches!(operation, Operation::Close(_))).count();
        assert!((200..400).contains(&closed), "{closed}");
    }

    #[test]
    fn a_camera_gets_other_memory_where_the_window_has_none() {
        let mut model = Model::new(&window(), 0);
        model.step(Operation::Buffer(0, 4096), false);
        assert_eq!(model.step(Operation::Create(1024), false).errno, 0);
        assert_eq!(model.step(Operation::Create(1025), false).errno, ENOMEM);
        model.step(Operation::Close(0), false);
        assert_eq!(model.step(Operation::Create(1025), false).used, 1025);
        assert_eq!(model.step(Operation::Request0, false).used, 0);
        for _ in 0..VB2_MAX_FRAME {
            assert_eq!(model.step(Operation::Create(5), false).errno, 0);
        }
        assert_eq!(model.step(Operation::Create(5), false).errno, ENOBUFS);
    }
}
