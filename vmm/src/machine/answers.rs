//! The answers of a running machine to the requests over its API socket.

use std::{sync::mpsc::Receiver, time::Instant};

use ::devices::{REGISTRY, dma::RECORD_UNIT, media::FrameSource};
use cma::PAGE_SIZE;

use super::{
    captures::Captures,
    requests::{Awaited, PATIENCE, Requests},
    running::Machine,
};
use crate::{
    api::{Answer, FramesRequest, Reader, Request, SetRequest, Status, Verb},
    guest::areas::{self, AreasError},
    observe::{
        guest_windows::guest_windows,
        kernel_memory::KernelAreas,
        process::since_process_start,
        report::{DeviceReport, MachineOutcome, WindowReport},
    },
};

// A device's port records its writes in the pages that maps and reports count.
const _: () = assert!(RECORD_UNIT == PAGE_SIZE);

/// The most captures at a time.
const CAPTURES_MAX: usize = 16;

/// The reaction to a request.
enum Reaction {
    /// The answer is ready.
    Answer(Answer),
    /// The answer comes later.
    Wait(Awaited),
    /// The answer is ready, and events follow it.
    Events(Answer),
}

impl Machine {
    /// Answers the requests that came since the last call. Returns an outcome if a request ends the machine.
    pub(super) fn answer_requests(&mut self) -> Option<MachineOutcome> {
        let mut requests = self.requests.take()?;
        let mut outcome = None;
        while let Some((client, request)) = requests.next(&mut self.manager) {
            if request.verb == Verb::Stop {
                outcome = Some(MachineOutcome::Stopped);
            }
            match self.react(&requests, request) {
                Reaction::Answer(answer) => requests.answer(&mut self.manager, client, &answer),
                Reaction::Wait(awaited) => requests.wait(client, awaited),
                Reaction::Events(answer) => {
                    requests.begin_events(&mut self.manager, client, &answer);
                    self.begin_listening();
                }
            }
        }
        for mut waiting in std::mem::take(&mut requests.waiting) {
            let late = Instant::now() >= waiting.until;
            let answer = match &mut waiting.awaited {
                Awaited::Pause => self.paused(late),
                Awaited::Areas(question) => self.areas(question, late),
                Awaited::Capture(capture) => capture.try_recv().ok().or_else(|| late.then(no_frame)),
            };
            match answer {
                Some(answer) => requests.answer(&mut self.manager, waiting.client, &answer),
                None => requests.waiting.push(waiting),
            }
        }
        self.requests = Some(requests);
        outcome
    }

    /// Executes a request, or begins to.
    fn react(&mut self, requests: &Requests, request: Request) -> Reaction {
        let device = request.device.as_deref();
        Reaction::Answer(match request.verb {
            Verb::Status => Answer::Status(self.status()),
            Verb::Devices => self.device_reports(device).map_or_else(Answer::Error, Answer::Devices),
            Verb::Cma => return self.cma(request.from),
            Verb::Capture if self.vcpus.is_pausing() => Answer::Error(
                "the machine is paused, so no device writes a frame; resume the machine first".to_owned(),
            ),
            Verb::Capture if requests.awaited_captures() >= CAPTURES_MAX => Answer::Error(format!(
                "{CAPTURES_MAX} captures wait for their frames already; try again in {} s",
                PATIENCE.as_secs()
            )),
            Verb::Capture => match self.capture(&requests.captures, device) {
                Ok(capture) => return Reaction::Wait(Awaited::Capture(capture)),
                Err(sentence) => Answer::Error(sentence),
            },
            Verb::Faults => requests.change_faults(request.faults),
            Verb::Set => self.set(device, request.set).map_or_else(Answer::Error, |()| Answer::Done {}),
            Verb::Frames => self.step_frames(request.frames, device),
            Verb::Pause => {
                self.vcpus.pause();
                self.devices.built.iter().for_each(|built| built.device.pause());
                return Reaction::Wait(Awaited::Pause);
            }
            Verb::Resume => {
                self.devices.built.iter().for_each(|built| built.device.resume());
                self.vcpus.resume();
                Answer::Done {}
            }
            Verb::Events => return Reaction::Events(Answer::Status(self.status())),
            // The caller ends the machine.
            Verb::Stop => Answer::Done {},
        })
    }

    /// The counters of all devices, or of the `device` that is named.
    fn device_reports(&self, device: Option<&str>) -> Result<Vec<DeviceReport>, String> {
        let reports = self.devices.reports();
        let Some(id) = device else { return Ok(reports) };
        match reports.iter().find(|report| report.id == id) {
            Some(report) => Ok(vec![report.clone()]),
            None => Err(no_device(id, "devices", reports.into_iter().map(|report| report.id))),
        }
    }

    /// Gives a key of the `device` a new value.
    fn set(&self, device: Option<&str>, request: Option<SetRequest>) -> Result<(), String> {
        let (Some(id), Some(SetRequest { key, value })) = (device, request) else {
            return Err("set needs a device, and a key with its new value".to_owned());
        };
        let built = &self.devices.built;
        let Some(found) = built.iter().find(|built| built.id == id) else {
            return Err(no_device(id, "devices", built.iter().map(|built| built.id.clone())));
        };
        let registration = REGISTRY.iter().find(|registration| registration.name == found.kind);
        let changeable = registration.map_or(&[][..], |registration| registration.changeable);
        if changeable.contains(&key.as_str()) {
            return found.device.set(&key, &value);
        }
        let known = if changeable.is_empty() { "none".to_owned() } else { changeable.join(", ") };
        Err(format!(
            "'{key}' is not one of the keys of {id} that can change while the machine runs; they are {known}"
        ))
    }

    /// The devices that make frames, or the `device` that is named; at least one.
    fn frame_sources(&self, device: Option<&str>) -> Result<Vec<(&str, &dyn FrameSource)>, String> {
        let mut sources = self.devices.frame_sources();
        if sources.is_empty() {
            return Err(
                "the machine has no device that makes frames; start it with one, as --camera adds".to_owned()
            );
        }
        if let Some(id) = device {
            if !sources.iter().any(|(known, _)| *known == id) {
                let ids = sources.into_iter().map(|(id, _)| id.to_owned());
                return Err(no_device(id, "devices that make frames", ids));
            }
            sources.retain(|(known, _)| *known == id);
        }
        Ok(sources)
    }

    /// Pauses, steps or resumes the frame clocks.
    fn step_frames(&self, request: Option<FramesRequest>, device: Option<&str>) -> Answer {
        let frames = match request {
            None => return Answer::Error("frames needs pause, step or resume".to_owned()),
            Some(FramesRequest::Pause) => Some(0),
            Some(FramesRequest::Step(count)) => Some(count),
            Some(FramesRequest::Resume) => None,
        };
        match self.frame_sources(device) {
            Ok(sources) => {
                sources.into_iter().for_each(|(_, source)| source.step(frames));
                Answer::Done {}
            }
            Err(sentence) => Answer::Error(sentence),
        }
    }

    /// Asks a device for its next frame. The answer with that frame comes through the receiver.
    fn capture(&self, captures: &Captures, device: Option<&str>) -> Result<Receiver<Answer>, String> {
        let (id, source) = self.frame_sources(device)?.swap_remove(0);
        Ok(captures.make(id, source.capture(), PATIENCE))
    }

    /// The answer to a pause, when the vCPUs have stopped or the client has waited long enough.
    fn paused(&self, late: bool) -> Option<Answer> {
        if self.vcpus.are_paused() {
            return Some(Answer::Done {});
        }
        let why = if !self.vcpus.is_pausing() {
            "the machine was resumed before it had paused"
        } else if late {
            "a vCPU has not paused yet, because it waits for a device; it pauses as soon as the device has taken its access"
        } else {
            return None;
        };
        Some(Answer::Error(why.to_owned()))
    }

    /// Reads the areas from guest memory, or asks the guest's agent.
    fn cma(&self, from: Option<Reader>) -> Reaction {
        let read = || self.kernel_memory.areas(&self.memory, self.memory_size, true);
        match from {
            Some(Reader::Memory) => {
                return Reaction::Answer(self.guest_windows(read(), Reader::Memory));
            }
            None if let Ok(areas) = read() => {
                return Reaction::Answer(self.guest_windows(Ok::<_, AreasError>(areas), Reader::Memory));
            }
            None | Some(Reader::Agent) => {}
        }
        if self.vcpus.is_pausing() {
            let why = "the machine is paused, so the guest's agent cannot read the bitmaps; resume the machine first";
            return Reaction::Answer(Answer::Error(why.to_owned()));
        }
        Reaction::Wait(Awaited::Areas(None))
    }

    /// The answer with the guest's areas, when the agent has reported them or the client has waited long enough.
    fn areas(&self, question: &mut Option<u64>, late: bool) -> Option<Answer> {
        let agent = &self.devices.agent;
        if question.is_none() && self.devices.terminal.is_open(self.devices.agent_port) {
            let (number, line) = agent.question();
            self.devices.terminal.send(self.devices.agent_port, line.as_bytes());
            *question = Some(number);
        }
        if let Some(number) = *question
            && let Some(answer) = agent.answer(number)
        {
            let areas = answer.and_then(|text| areas::parse(&text, number, self.memory_size));
            let areas = areas.map(|(page_size, areas)| KernelAreas { page_size, areas, owners: None });
            return Some(self.guest_windows(areas, Reader::Agent));
        }
        if !late {
            return None;
        }
        question.inspect(|&number| agent.forget(number));
        let why = if question.is_some() {
            "the guest's agent did not answer; the guest may hang or be slow: try again"
        } else {
            "the guest has no agent on its virtio port minivmm.agent; the init of minivmm's guest images starts it after the \
             boot"
        };
        Some(Answer::Error(format!("{why} (waited {} s)", PATIENCE.as_secs())))
    }

    fn guest_windows(&self, areas: Result<KernelAreas, impl ToString>, read_by: Reader) -> Answer {
        match areas {
            Ok(areas) => Answer::Cma(guest_windows(&areas, &self.devices.written(), read_by)),
            Err(error) => Answer::Error(error.to_string()),
        }
    }

    /// The state.
    pub(super) fn status(&self) -> Status {
        let written = self.devices.written();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seconds: since_process_start().unwrap_or_default().as_secs_f64(),
            seconds_to_boot_mark: self.devices.seconds_to_boot_mark(),
            paused: self.vcpus.is_pausing(),
            cpus: self.cpus,
            exits: self.vcpus.exits(),
            memory: self.memory_size,
            windows: self.windows.iter().map(|window| WindowReport::new(window.clone(), &written)).collect(),
            devices: self.devices.reports(),
        }
    }
}

/// The sentence for an `id` that none of the `devices` has. `ids` are the ids of these devices.
fn no_device(id: &str, devices: &str, ids: impl Iterator<Item = String>) -> String {
    let ids: Vec<String> = ids.collect();
    let ids = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
    format!("'{id}' is not one of the machine's {devices}; they are {ids}")
}

/// The answer to a capture when no frame came in time.
fn no_frame() -> Answer {
    let seconds = PATIENCE.as_secs();
    Answer::Error(format!(
        "the device made no frame within {seconds} s; start a stream in the guest (v4l2-ctl --stream-mmap) or a display (modetest \
         -s), and resume frames if they are paused"
    ))
}
