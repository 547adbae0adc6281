//! What is asked of a running machine over its API socket, and how it answers.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use cma::{PAGE_SIZE, area::Area};
use devices::{camera::Counters, faults::Plan};
use event_manager::{EventManager, SubscriberId, SubscriberOps};

use super::{AGENT, Machine, Subscriber, lock, window_report};
use crate::{
    api::{
        Answer, FaultsRequest, FramesRequest, GuestWindow, Request, Status, Verb,
        server::{ClientId, Server},
    },
    guest::areas::{self, AreasError},
    observe::{
        capture,
        report::{Outcome, runs, since_process_start},
    },
};

/// How long an answer may take that is not at hand.
const PATIENCE: Duration = Duration::from_secs(10);

/// The API socket in the event loop.
pub(super) struct Requests {
    server: Arc<Mutex<Server>>,
    subscriber: SubscriberId,
    waiting: Vec<Waiting>,
}

/// A client whose answer is not at hand.
struct Waiting {
    client: ClientId,
    what: What,
    until: Instant,
}

/// What a client waits for.
enum What {
    /// The vCPUs to stand still.
    Pause,
    /// The guest's agent to say what areas there are: the question's number, when it was sent, which is not before the
    /// agent listens.
    Areas(Option<u64>),
    /// A camera to make a frame, and that to become an answer.
    Snapshot(Receiver<Answer>),
}

impl Requests {
    /// Serves `server` by the event loop of `manager`.
    pub(super) fn new(server: Server, manager: &mut EventManager<Subscriber>) -> Self {
        let server = Arc::new(Mutex::new(server));
        let subscriber = manager.add_subscriber(server.clone());
        Self { server, subscriber, waiting: Vec::new() }
    }

    fn wait(&mut self, client: ClientId, what: What) {
        self.waiting.push(Waiting { client, what, until: Instant::now() + PATIENCE });
    }

    fn next(&self, manager: &mut EventManager<Subscriber>) -> Option<(ClientId, Request)> {
        let mut ops = manager.event_ops(self.subscriber).ok()?;
        lock(&self.server).next_request(&mut ops)
    }

    fn answer(&self, manager: &mut EventManager<Subscriber>, client: ClientId, answer: &Answer) {
        if let Ok(mut ops) = manager.event_ops(self.subscriber) {
            lock(&self.server).answer(client, answer, &mut ops);
        }
    }
}

impl Machine {
    /// Answers what was asked since the last call; says if the machine is to end.
    pub(super) fn answer_requests(&mut self) -> Option<Outcome> {
        let mut requests = self.requests.take()?;
        let mut outcome = None;
        while let Some((client, request)) = requests.next(&mut self.manager) {
            let answer = match request.verb {
                Verb::Status => Answer::Status(self.status()),
                Verb::Camera | Verb::Frames if self.devices.cameras.is_empty() => {
                    Answer::Error("this machine has no camera; give it one with --camera".to_owned())
                }
                Verb::Camera => Answer::Camera(self.counters()),
                Verb::Cma if self.vcpus.is_pausing() => Answer::Error(
                    "the machine is paused, and so is the guest's agent, which reads the bitmaps; resume it first"
                        .to_owned(),
                ),
                Verb::Cma => {
                    requests.wait(client, What::Areas(None));
                    continue;
                }
                Verb::Snapshot => match self.snapshot(request.camera.unwrap_or(0)) {
                    Ok(snapshot) => {
                        requests.wait(client, What::Snapshot(snapshot));
                        continue;
                    }
                    Err(sentence) => Answer::Error(sentence),
                },
                Verb::Faults => self.ask_faults(request.faults),
                Verb::Frames => self.step_frames(request.frames),
                Verb::Pause => {
                    self.vcpus.pause();
                    requests.wait(client, What::Pause);
                    continue;
                }
                Verb::Resume => {
                    self.vcpus.resume();
                    Answer::Done {}
                }
                Verb::Stop => {
                    outcome = Some(Outcome::Stopped);
                    Answer::Done {}
                }
            };
            requests.answer(&mut self.manager, client, &answer);
        }
        for mut waiting in std::mem::take(&mut requests.waiting) {
            let late = Instant::now() >= waiting.until;
            let answer = match &mut waiting.what {
                What::Pause => self.paused(late),
                What::Areas(question) => self.areas(question, late),
                What::Snapshot(snapshot) => snapshot.try_recv().ok().or_else(|| late.then(no_frame)),
            };
            match answer {
                Some(answer) => requests.answer(&mut self.manager, waiting.client, &answer),
                None => requests.waiting.push(waiting),
            }
        }
        self.requests = Some(requests);
        outcome
    }

    /// Does what is asked of the cameras' frames.
    fn step_frames(&self, request: Option<FramesRequest>) -> Answer {
        let frames = match request {
            None => return Answer::Error("frames are paused, stepped or resumed; say which".to_owned()),
            Some(FramesRequest::Pause) => Some(0),
            Some(FramesRequest::Step(count)) => Some(count),
            Some(FramesRequest::Resume) => None,
        };
        self.devices.cameras.iter().for_each(|(camera, _)| camera.step(frames));
        Answer::Done {}
    }

    /// The next frame of a camera comes there as an answer, made by a thread of its own: a picture takes its time.
    fn snapshot(&self, number: u32) -> Result<Receiver<Answer>, String> {
        let cameras = &self.devices.cameras;
        let camera = usize::try_from(number).ok().and_then(|number| cameras.get(number));
        let Some((camera, _)) = camera else {
            return Err(match cameras.len() {
                0 => "this machine has no camera; give it one with --camera".to_owned(),
                count => format!("there is no camera {number}: the machine has {count}, and the first is 0"),
            });
        };
        let (frames, events) = (camera.snapshot(), self.devices.events.clone());
        let (answer, answers) = mpsc::channel();
        let make = move || {
            if let Ok(captured) = frames.recv_timeout(PATIENCE) {
                // Who asked may be gone.
                let _ = answer.send(capture::answer(number, &captured));
                let _ = events.eventfd().write(1);
            }
        };
        let thread = thread::Builder::new().name("snapshot".into()).spawn(make);
        thread.map(|_| answers).map_err(|error| format!("there is no thread for a snapshot: {error}"))
    }

    /// Does what is asked of faults.
    fn ask_faults(&self, request: Option<FaultsRequest>) -> Answer {
        let Some(faults) = &self.devices.faults else {
            return Answer::Error(
                "this machine has no camera that could go wrong; give it one with --camera".to_owned(),
            );
        };
        let known = |done: bool, name: &str| {
            let names = || faults.rules().into_iter().map(|rule| rule.name).collect::<Vec<_>>().join(", ");
            if done {
                Answer::Done {}
            } else {
                Answer::Error(format!("there is no rule '{name}'; there are: {}", names()))
            }
        };
        match request {
            None | Some(FaultsRequest::List) => Answer::Faults(faults.rules()),
            Some(FaultsRequest::Add(text)) => match Plan::read(&text) {
                Ok(plan) => match plan.check(faults.windows(), None).map(|()| faults.add(plan)) {
                    Err(sentence) => Answer::Error(sentence),
                    Ok(Ok(())) => Answer::Done {},
                    Ok(Err(name)) => Answer::Error(format!(
                        "there is a rule '{name}' already; remove it, or give the new one another name"
                    )),
                },
                Err(error) => Answer::Error(format!("the plan is wrong at {error}")),
            },
            Some(FaultsRequest::Remove(name)) => known(faults.remove(&name), &name),
            Some(FaultsRequest::Trigger(name)) => known(faults.trigger(&name), &name),
        }
    }

    /// That the vCPUs stand still, when they do or will not.
    fn paused(&self, late: bool) -> Option<Answer> {
        if self.vcpus.are_paused() {
            return Some(Answer::Done {});
        }
        let why = if !self.vcpus.is_pausing() {
            "the machine was resumed before it had paused"
        } else if late {
            "a vCPU has not paused yet, as a device has not taken what it stored; it will when that has"
        } else {
            return None;
        };
        Some(Answer::Error(why.to_owned()))
    }

    /// What the guest's agent says of its areas, when it has said it or will not.
    fn areas(&self, question: &mut Option<u64>, late: bool) -> Option<Answer> {
        let agent = &self.devices.agent;
        if question.is_none() && self.devices.terminal.is_open(AGENT) {
            let (number, line) = agent.question();
            self.devices.terminal.send(AGENT, line.as_bytes());
            *question = Some(number);
        }
        if let Some(number) = *question
            && let Some(answer) = agent.answer(number)
        {
            let areas = answer.and_then(|text| areas::parse(&text, number, self.memory_size));
            return Some(self.guest_windows(areas));
        }
        if !late {
            return None;
        }
        question.inspect(|&number| agent.forget(number));
        let why = if question.is_some() {
            "the guest's agent did not answer; the guest may hang, or be short of CPU time: ask again"
        } else {
            "the guest has no agent on its virtio port minivmm.agent; the init of minivmm's own guest images starts it when \
             it has booted"
        };
        Some(Answer::Error(format!("{why} (waited {} s)", PATIENCE.as_secs())))
    }

    fn guest_windows(&self, areas: Result<(u64, Vec<Area>), AreasError>) -> Answer {
        let written = self.devices.written();
        let written: Vec<_> = written.iter().map(|(range, bitmap)| (range.start, runs(bitmap))).collect();
        match areas {
            Ok((page_size, areas)) => {
                let mut windows: Vec<_> =
                    areas.iter().map(|area| guest_window(area, page_size, &written)).collect();
                windows.sort_by_key(|window| window.base);
                Answer::Cma(windows)
            }
            Err(error) => Answer::Error(error.to_string()),
        }
    }

    fn counters(&self) -> Vec<Counters> {
        self.devices.cameras.iter().map(|(camera, _)| camera.counters()).collect()
    }

    fn status(&self) -> Status {
        let written = self.devices.written();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seconds: since_process_start().unwrap_or_default().as_secs_f64(),
            seconds_to_boot_mark: self.devices.seconds_to_boot_mark(),
            paused: self.vcpus.is_pausing(),
            cpus: self.cpus,
            memory: self.memory_size,
            windows: self.windows.iter().map(|window| window_report(window.clone(), &written)).collect(),
            cameras: self.counters(),
        }
    }
}

/// There was nothing to take a snapshot of.
fn no_frame() -> Answer {
    let seconds = PATIENCE.as_secs();
    Answer::Error(format!(
        "the camera wrote no frame within {seconds} s; let the guest stream from its first video node, as by v4l2-ctl --stream-mmap"
    ))
}

/// An area of a guest with pages of `page_size` bytes, with what was written there of the runs of our pages from some
/// addresses on.
fn guest_window(area: &Area, page_size: u64, written: &[(u64, Vec<(u64, u64)>)]) -> GuestWindow {
    let base = area.ranges().next().map_or(0, |range| range.start) * page_size;
    let size = area.count() * page_size;
    let scale = page_size / PAGE_SIZE;
    let allocated = area.allocated();
    let inside = |run: Range<u64>| {
        let run = run.start.max(base)..run.end.min(base + size);
        (!run.is_empty()).then(|| ((run.start - base) / PAGE_SIZE, (run.end - run.start) / PAGE_SIZE))
    };
    let addresses = written.iter().flat_map(|(start, runs)| {
        runs.iter().map(move |(first, count)| start + first * PAGE_SIZE..start + (first + count) * PAGE_SIZE)
    });
    GuestWindow {
        name: area.name().to_owned(),
        base,
        size,
        order_per_bit: area.order_per_bit() + scale.ilog2(),
        pages_allocated: allocated.count() * scale,
        runs_allocated: allocated
            .runs()
            .map(|run| (run.start * scale, (run.end - run.start) * scale))
            .collect(),
        runs_written: addresses.filter_map(inside).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_what_was_written_inside() {
        let area = Area::new("isp@100000", 0x100, 64, 0).unwrap();
        // Pages 0xfe to 0x101, 0x110, and 0x13f to 0x140, counted from an alloc-range's start; another window.
        let written = [(0xf0_000, vec![(14, 4), (32, 1), (79, 2)]), (0x20_0000, vec![(0, 4)])];
        let window = guest_window(&area, 4096, &written);
        assert_eq!(window.runs_written, [(0, 2), (16, 1), (63, 1)]);
        assert_eq!((window.base, window.size), (0x10_0000, 64 << 12));
    }

    #[test]
    fn larger_pages_are_counted_in_ours() {
        let mut area = Area::new("isp@1000000", 0x100, 64, 0).unwrap();
        area.alloc(3, 0).unwrap();
        let window = guest_window(&area, 65536, &[(0x100_0000, vec![(5, 1)])]);
        assert_eq!((window.base, window.size, window.order_per_bit), (0x100_0000, 64 << 16, 4));
        assert_eq!((window.pages_allocated, window.runs_allocated), (48, vec![(0, 48)]));
        assert_eq!(window.runs_written, [(5, 1)]);
    }
}
