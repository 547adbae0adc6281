//! The JSON of `--timeline`: what happened in a run, and when, in the trace-event format that ui.perfetto.dev opens (Chrome's
//! "Trace Event Format"). Each device is a process there, with a track for each channel, one for itself, one for its interrupts
//! and one for its faults. The guest's marks are one more process.

use std::time::Instant;

use devices::faults::{Event, Happening, MachineDevice, Moment, Occurrence, Shown};
use serde::Serialize;
use serde_json::{Value, json};

/// The process of the guest's marks. The first device is the next process.
const GUEST: u32 = 1;
const FIRST_DEVICE: u32 = 2;

/// A timeline.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    display_time_unit: &'static str,
    trace_events: Vec<Value>,
}

/// Where an event is drawn: process and track.
type Track = (u32, u32);

/// The timeline of what happened to these devices since `begun`.
pub fn of(devices: &[MachineDevice], begun: Instant, moments: &[Moment]) -> Timeline {
    let mut writer = Writer { devices, begun, events: Vec::new(), tracks: Vec::new(), open: Vec::new() };
    for Moment { at, happening } in moments {
        match happening {
            Happening::Event(occurrence) => writer.event(*at, occurrence),
            Happening::Fired { at: Occurrence { device, point, event }, rule, number, .. } => {
                let track = writer.track(device.as_deref(), |channels| channels + 2);
                let details =
                    json!({ "rule": rule, "event": number, "on": point.name, "frame": event.frame });
                writer.instant(*at, track, rule, &details);
            }
            Happening::Mark(text) => writer.instant(*at, (GUEST, 0), text, &json!({})),
            Happening::Interrupt(device) => {
                let track = writer.track(Some(device), |channels| channels + 1);
                writer.instant(*at, track, "interrupt", &json!({}));
            }
            Happening::Reset(device) => {
                let track = writer.track(Some(device), |channels| channels);
                writer.instant(*at, track, "reset", &json!({}));
            }
        }
    }
    // A stretch that never ended was lost, or still lasted at the end.
    for open in std::mem::take(&mut writer.open) {
        writer.lost(&open);
    }
    writer.finish()
}

/// A stretch of time that has begun on a track.
struct Open {
    track: Track,
    since: Instant,
    name: &'static str,
    event: Event,
}

struct Writer<'a> {
    devices: &'a [MachineDevice],
    begun: Instant,
    events: Vec<Value>,
    /// The tracks that have something.
    tracks: Vec<Track>,
    open: Vec<Open>,
}

impl Writer<'_> {
    fn event(&mut self, at: Instant, Occurrence { device, point, event }: &Occurrence) {
        let track = self.track(device.as_deref(), |channels| event.channel.unwrap_or(channels));
        let details = json!({ "frame": event.frame, "channel": event.channel });
        match point.scope.shown {
            Shown::Not => {}
            Shown::Moment(name) => self.instant(at, track, &named(name, event), &details),
            Shown::Begin(name) => {
                if let Some(index) = self.open.iter().position(|open| open.track == track) {
                    let open = self.open.swap_remove(index);
                    self.lost(&open);
                }
                self.open.push(Open { track, since: at, name, event: *event });
            }
            Shown::End(name) => {
                let is_its = |open: &Open| open.track == track && open.event.frame == event.frame;
                match self.open.iter().position(is_its) {
                    Some(index) => {
                        let open = self.open.swap_remove(index);
                        self.slice(&open, at);
                    }
                    None => self.instant(at, track, &named(name, event), &details),
                }
            }
        }
    }

    /// A stretch that began and has no end.
    fn lost(&mut self, Open { track, since, name, event }: &Open) {
        let name = format!("{} lost", named(name, event));
        self.instant(*since, *track, &name, &json!({ "frame": event.frame }));
    }

    fn instant(&mut self, at: Instant, track: Track, name: &str, details: &Value) {
        let at = self.microseconds(at);
        let (process, thread) = self.on(track);
        self.events.push(json!({
            "ph": "i", "s": "t", "name": name, "ts": at, "pid": process, "tid": thread, "args": details
        }));
    }

    fn slice(&mut self, Open { track, since, name, event }: &Open, until: Instant) {
        let (since, until) = (self.microseconds(*since), self.microseconds(until));
        let (process, thread) = self.on(*track);
        self.events.push(json!({
            "ph": "X", "name": named(name, event), "ts": since, "dur": until - since, "pid": process, "tid": thread,
            "args": { "frame": event.frame }
        }));
    }

    fn on(&mut self, track: Track) -> Track {
        if !self.tracks.contains(&track) {
            self.tracks.push(track);
        }
        track
    }

    fn microseconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.begun).as_secs_f64() * 1e6
    }

    /// The track of a device that `of` names, given the number of its channels. The device itself has the track behind its
    /// channels, and its interrupts and faults the next ones.
    fn track(&self, device: Option<&str>, of: impl FnOnce(u32) -> u32) -> Track {
        let index = device.and_then(|id| self.devices.iter().position(|device| device.id == id));
        match index {
            Some(index) => {
                let process = FIRST_DEVICE.saturating_add(u32::try_from(index).unwrap_or(u32::MAX));
                (process, of(self.devices[index].table.channels))
            }
            None => (GUEST, 0),
        }
    }

    /// The names of a track: its process, and itself.
    fn names(&self, (process, thread): Track) -> (String, String) {
        let device = process.checked_sub(FIRST_DEVICE).and_then(|index| self.devices.get(index as usize));
        let Some(MachineDevice { id, table, .. }) = device else {
            return ("guest".to_owned(), "marks".to_owned());
        };
        let track = match thread.checked_sub(table.channels) {
            Some(0) => "device".to_owned(),
            Some(1) => "interrupts".to_owned(),
            Some(_) => "faults".to_owned(),
            None => match table.channel_names.get(thread as usize) {
                Some(name) => (*name).to_owned(),
                None => format!("channel {thread}"),
            },
        };
        (id.clone(), track)
    }

    /// The timeline, with the names of all tracks.
    fn finish(mut self) -> Timeline {
        self.tracks.sort_unstable();
        for track in std::mem::take(&mut self.tracks) {
            let (process, thread) = track;
            let (of, on) = self.names(track);
            for (kind, name) in [("process_name", of), ("thread_name", on)] {
                self.events.push(json!({
                    "ph": "M", "name": kind, "pid": process, "tid": thread, "args": { "name": name }
                }));
            }
        }
        Timeline { display_time_unit: "ns", trace_events: self.events }
    }
}

/// The name of an event, with its frame.
fn named(name: &str, event: &Event) -> String {
    event.frame.map_or_else(|| name.to_owned(), |frame| format!("{name} {frame}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use devices::faults::{FaultPoint as _, Ids, Table, fault_point};

    use super::*;

    fault_point! {
        /// A frame begins.
        enum Begin = "begin" [frame, channel, begin("frame")] {}
    }

    fault_point! {
        /// A frame ends.
        enum End = "end" [frame, channel, end("done")] {}
    }

    static GRABBER: Table = Table {
        title: "Grabber",
        ids: Ids::Numbered("grabber"),
        windows: false,
        channels: 4,
        channel_names: &["processed"],
        points: &[Begin::POINT, End::POINT],
    };

    #[test]
    fn frames_are_slices_and_what_happens_meanwhile_lies_beside_them() {
        let begun = Instant::now();
        let tables: Vec<_> = devices::fault_tables().into_iter().chain([&GRABBER]).collect();
        let device = |id: &str| MachineDevice::find(&tables, id.to_owned(), None).unwrap();
        let machine = [device("console"), device("grabber0")];
        let (begins, ends) = (Begin::POINT, End::POINT);
        let frame = |point, frame| {
            let event = Event::of_frame(frame).on_channel(0);
            Occurrence { device: Some("grabber0".into()), point, event }
        };
        let at =
            |milliseconds, happening| Moment { at: begun + Duration::from_millis(milliseconds), happening };
        let fired = || frame(begins, 1);
        let moments = [
            at(1, Happening::Mark("go".into())),
            at(2, Happening::Event(frame(begins, 0))),
            at(5, Happening::Event(frame(ends, 0))),
            at(6, Happening::Interrupt("grabber0".into())),
            at(7, Happening::Event(fired())),
            at(
                7,
                Happening::Fired {
                    at: fired(),
                    rule: "lost".into(),
                    number: 2,
                    window: None,
                    action: "lose".into(),
                },
            ),
            at(8, Happening::Reset("grabber0".into())),
            at(9, Happening::Event(frame(begins, 2))),
        ];
        let json = serde_json::to_value(of(&machine, begun, &moments)).unwrap();
        let events = json["traceEvents"].as_array().unwrap();
        let shown: Vec<_> = events
            .iter()
            .filter(|event| event["ph"] != "M")
            .map(|event| format!("{} {} {}/{}", event["ph"], event["name"], event["pid"], event["tid"]))
            .collect();
        assert_eq!(
            shown,
            [
                "\"i\" \"go\" 1/0",
                "\"X\" \"frame 0\" 3/0",
                "\"i\" \"interrupt\" 3/5",
                "\"i\" \"lost\" 3/6",
                "\"i\" \"reset\" 3/4",
                "\"i\" \"frame 1 lost\" 3/0",
                "\"i\" \"frame 2 lost\" 3/0",
            ]
        );
        let slice = &events[1];
        let near = |value: &Value, wanted: f64| (value.as_f64().unwrap() - wanted).abs() < 1.0;
        assert!(near(&slice["ts"], 2000.0) && near(&slice["dur"], 3000.0), "{slice}");
        let name = |kind: &str, process: u32, thread: u32| {
            let is_it =
                |event: &&Value| event["name"] == kind && event["pid"] == process && event["tid"] == thread;
            events.iter().find(is_it).map(|event| event["args"]["name"].clone())
        };
        assert_eq!(name("process_name", 3, 5), Some("grabber0".into()));
        assert_eq!(name("thread_name", 3, 5), Some("interrupts".into()));
        assert_eq!(name("thread_name", 1, 0), Some("marks".into()));
    }
}
