//! The JSON of `--timeline`: what happened in a run, and when, in the trace-event format that ui.perfetto.dev opens (Chrome's
//! "Trace Event Format"). Each camera is a process there, with a track for each channel, its interrupts and its faults; the
//! guest's marks are one more.

use std::time::Instant;

use devices::{
    camera::regs,
    faults::{Device, Event, Moment, Point, What},
};
use serde::Serialize;
use serde_json::{Value, json};

/// The process of the guest's marks; the virtio devices are the next one, and the first camera that after it.
const GUEST: u32 = 1;
const VIRTIO: u32 = 2;
const FIRST_CAMERA: u32 = 3;
/// The tracks of a camera after those of its channels.
const SENSOR: u32 = regs::CHANNELS;
const INTERRUPTS: u32 = SENSOR + 1;
const FAULTS: u32 = SENSOR + 2;

/// A timeline.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    display_time_unit: &'static str,
    trace_events: Vec<Value>,
}

/// Where an event is drawn: process and track.
type Track = (u32, u32);

/// The timeline of what happened since `begun`.
pub fn of(begun: Instant, moments: &[Moment]) -> Timeline {
    let mut made = Made { begun, events: Vec::new(), tracks: Vec::new(), open: Vec::new() };
    for Moment { at, what } in moments {
        match what {
            What::Event(event) => made.event(*at, event),
            What::Fired { event, rule, number } => {
                let (process, _) = track(event);
                let details =
                    json!({ "rule": rule, "event": number, "on": event.point, "frame": event.frame });
                made.instant(*at, (process, FAULTS), rule, &details);
            }
            What::Mark(text) => made.instant(*at, (GUEST, 0), text, &json!({})),
            What::Interrupt { camera } => {
                made.instant(*at, (FIRST_CAMERA + camera, INTERRUPTS), "interrupt", &json!({}));
            }
        }
    }
    // What never ended was lost, or was in work at the end.
    for (channel, at, frame) in std::mem::take(&mut made.open) {
        made.lost(channel, at, frame);
    }
    made.finish()
}

struct Made {
    begun: Instant,
    events: Vec<Value>,
    /// Those that have something.
    tracks: Vec<Track>,
    /// Frames that a channel has begun to write: since when, and their numbers.
    open: Vec<(Track, Instant, Option<u32>)>,
}

impl Made {
    fn event(&mut self, at: Instant, event: &Event) {
        let track = track(event);
        let frame = || event.frame.map_or(String::new(), |frame| format!(" {frame}"));
        match event.point {
            Point::FrameStart => {
                self.instant(at, track, &format!("frame{}", frame()), &json!({ "frame": event.frame }));
            }
            Point::FrameDma => {
                if let Some(index) = self.open.iter().position(|(open, ..)| *open == track) {
                    let (_, at, frame) = self.open.swap_remove(index);
                    self.lost(track, at, frame);
                }
                self.open.push((track, at, event.frame));
            }
            Point::FrameEnd => {
                let is_its = |(open, _, number): &(Track, Instant, Option<u32>)| {
                    *open == track && *number == event.frame
                };
                if let Some(index) = self.open.iter().position(is_its) {
                    let (_, since, _) = self.open.swap_remove(index);
                    self.slice(since, at, track, &format!("frame{}", frame()), event.frame);
                } else {
                    // Metadata, which take no time.
                    self.instant(at, track, &format!("done{}", frame()), &json!({ "frame": event.frame }));
                }
            }
            Point::Queue => self.instant(at, track, "given back", &json!({ "queue": event.channel })),
            // The others are told by what follows them.
            _ => {}
        }
    }

    /// A frame that was begun and never told of.
    fn lost(&mut self, track: Track, at: Instant, frame: Option<u32>) {
        self.instant(
            at,
            track,
            &format!("frame {} lost", frame.unwrap_or_default()),
            &json!({ "frame": frame }),
        );
    }

    fn instant(&mut self, at: Instant, track: Track, name: &str, details: &Value) {
        let at = self.microseconds(at);
        let (process, thread) = self.on(track);
        self.events.push(json!({
            "ph": "i", "s": "t", "name": name, "ts": at, "pid": process, "tid": thread, "args": details
        }));
    }

    fn slice(&mut self, since: Instant, until: Instant, track: Track, name: &str, frame: Option<u32>) {
        let (since, until) = (self.microseconds(since), self.microseconds(until));
        let (process, thread) = self.on(track);
        self.events.push(json!({
            "ph": "X", "name": name, "ts": since, "dur": until - since, "pid": process, "tid": thread,
            "args": { "frame": frame }
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

    /// With the names of all tracks.
    fn finish(mut self) -> Timeline {
        self.tracks.sort_unstable();
        for (process, thread) in &self.tracks {
            let (of, on) = names(*process, *thread);
            for (kind, name) in [("process_name", of), ("thread_name", on.to_owned())] {
                self.events.push(json!({
                    "ph": "M", "name": kind, "pid": process, "tid": thread, "args": { "name": name }
                }));
            }
        }
        Timeline { display_time_unit: "ns", trace_events: self.events }
    }
}

/// Where an event of a device is drawn.
fn track(event: &Event) -> Track {
    match (event.camera, event.device) {
        (Some(camera), _) => (FIRST_CAMERA + camera, event.channel.unwrap_or(SENSOR)),
        (None, Some(Device::Console)) => (VIRTIO, 0),
        (None, Some(Device::Entropy)) => (VIRTIO, 1),
        (None, None) => (GUEST, 0),
    }
}

fn names(process: u32, thread: u32) -> (String, &'static str) {
    match (process, thread) {
        (GUEST, _) => ("guest".to_owned(), "marks"),
        (VIRTIO, 0) => ("virtio".to_owned(), "console"),
        (VIRTIO, 1) => ("virtio".to_owned(), "entropy"),
        (VIRTIO, _) => ("virtio".to_owned(), "faults"),
        _ => {
            let track = match thread {
                regs::CHANNEL_PROCESSED => "processed",
                regs::CHANNEL_RAW => "raw",
                regs::CHANNEL_STATISTICS => "statistics",
                regs::CHANNEL_PARAMS => "parameters",
                SENSOR => "sensor",
                INTERRUPTS => "interrupts",
                _ => "faults",
            };
            (format!("camera {}", process - FIRST_CAMERA), track)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn frames_are_slices_and_what_happens_meanwhile_lies_beside_them() {
        let begun = Instant::now();
        let frame = |point, frame| Event {
            camera: Some(0),
            frame: Some(frame),
            channel: Some(0),
            ..Event::new(point)
        };
        let at = |milliseconds, what| Moment { at: begun + Duration::from_millis(milliseconds), what };
        let fired = frame(Point::FrameDma, 1);
        let moments = [
            at(1, What::Mark("go".into())),
            at(2, What::Event(frame(Point::FrameDma, 0))),
            at(5, What::Event(frame(Point::FrameEnd, 0))),
            at(6, What::Interrupt { camera: 0 }),
            at(7, What::Event(fired)),
            at(7, What::Fired { event: fired, rule: "lost".into(), number: 2 }),
            at(9, What::Event(frame(Point::FrameDma, 2))),
        ];
        let json = serde_json::to_value(of(begun, &moments)).unwrap();
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
        assert_eq!(name("process_name", 3, 5), Some("camera 0".into()));
        assert_eq!(name("thread_name", 3, 5), Some("interrupts".into()));
        assert_eq!(name("thread_name", 1, 0), Some("marks".into()));
    }
}
