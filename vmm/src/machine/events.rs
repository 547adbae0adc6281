//! The events of a running machine, for clients of the API socket that listen.

use std::time::Instant;

use ::devices::faults::{Faults, Fed, Happening, Moment, Occurrence};

use super::{running::Machine, told::Told};
use crate::{
    api::Event,
    observe::{process::since_process_start, report::Report},
};

impl Machine {
    /// Somebody listens from now on: what happened before is no event.
    pub(super) fn begin_listening(&mut self) {
        if let Some(faults) = &self.devices.faults {
            faults.begin_listening(self.devices.events.clone());
        }
        self.told.written.get_or_insert_with(|| self.devices.touched(&self.windows));
    }

    /// Tells those who listen what happened since the last call: the event loop calls it at each wakeup. If that was a `tick`, it
    /// also looks at what wakes nobody.
    pub(super) fn tell_events(&mut self, tick: bool) {
        let reported = self.devices.events.reported();
        let before = Told { written: None, ..self.told };
        self.told.booted = reported.booted.is_some();
        self.told.paused = self.vcpus.are_paused();
        self.told.panicked = reported.panicked;
        let Some(requests) = &self.requests else { return };
        let Some(written) = &mut self.told.written else { return };
        if !requests.has_listeners() {
            self.told.written = None;
            self.devices.faults.iter().for_each(Faults::end_listening);
            return;
        }
        let now = seconds(Instant::now());
        let mut events = moments(self.devices.faults.as_ref());
        if let Some(at) = reported.booted.filter(|_| !before.booted) {
            events.push(Event::BootMark { seconds: seconds(at) });
        }
        match (before.paused, self.told.paused) {
            (false, true) => events.push(Event::Paused { seconds: now }),
            (true, false) => events.push(Event::Resumed { seconds: now }),
            _ => {}
        }
        if tick && written.contains(&false) {
            let touched = self.devices.touched(&self.windows);
            for ((window, is), was) in self.windows.iter().zip(touched).zip(written) {
                if is && !std::mem::replace(was, is) {
                    events.push(Event::WindowWritten { seconds: now, window: window.name.clone() });
                }
            }
        }
        if reported.panicked && !before.panicked {
            events.push(Event::Panicked { seconds: now });
        }
        // Each source is in order already.
        events.sort_by(|one, other| one.seconds().total_cmp(&other.seconds()));
        if !events.is_empty() {
            requests.tell(&mut self.manager, events);
        }
    }
}

/// The last events of a machine that ended as the report says.
pub(super) fn last(faults: Option<&Faults>, report: &Report) -> Vec<Event> {
    let Report { seconds, outcome, exit, .. } = report;
    let mut events = moments(faults);
    events.push(Event::End { seconds: *seconds, outcome: outcome.clone(), exit: exit.clone() });
    events
}

/// What happened since the last call as events.
fn moments(faults: Option<&Faults>) -> Vec<Event> {
    let Fed { moments, lost, .. } = faults.map(Faults::take_moments).unwrap_or_default();
    let mut events: Vec<Event> = moments.into_iter().filter_map(event).collect();
    if lost > 0 {
        events.push(Event::Lost { seconds: seconds(Instant::now()), count: lost });
    }
    events
}

/// The event that a moment is; none for one that only timelines have.
fn event(Moment { at, happening }: Moment) -> Option<Event> {
    let seconds = seconds(at);
    Some(match happening {
        Happening::Mark(text) => Event::Mark { seconds, text },
        Happening::Reset(device) => Event::Reset { seconds, device: device.to_string() },
        Happening::Fired { at: Occurrence { device, point, event }, rule, number, window, action } => {
            Event::Fired {
                seconds,
                device: device.map(|id| id.to_string()),
                window: window.map(|name| name.to_string()),
                frame: event.frame,
                on: point.name.into(),
                rule,
                event: number,
                channel: event.channel,
                register: event.register,
                accessed: event.value,
                action,
            }
        }
        Happening::Event(_) | Happening::Interrupt(_) => return None,
    })
}

/// From the start of the process to `at`, in seconds.
fn seconds(at: Instant) -> f64 {
    since_process_start().unwrap_or_default().saturating_sub(at.elapsed()).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ::devices::{
        faults::{Event as PointEvent, FaultPoint as _, MmioRead},
        machine_events::MachineEvents,
    };

    use super::*;

    #[test]
    fn a_firing_has_the_fields_of_a_trace() {
        let at = Occurrence {
            device: Some("camera0".into()),
            point: MmioRead::POINT,
            event: PointEvent::access(0x40, 7),
        };
        let happening =
            Happening::Fired { at, rule: "r".into(), number: 2, window: None, action: "ones".into() };
        let event = event(Moment { at: Instant::now(), happening }).unwrap();
        let json = serde_json::to_value(&event).unwrap();
        assert!(json["seconds"].as_f64().unwrap() > 0.0);
        for (field, value) in [
            ("kind", serde_json::json!("fired")),
            ("device", "camera0".into()),
            ("on", "mmio.read".into()),
            ("rule", "r".into()),
            ("event", 2.into()),
            ("register", 0x40.into()),
            ("accessed", 7.into()),
            ("action", "ones".into()),
        ] {
            assert_eq!(json[field], value, "{field} of {json}");
        }
    }

    #[test]
    fn what_was_lost_before_the_event_loop_is_told() {
        let faults = Faults::new(::devices::faults::Plan::default(), 1);
        faults.begin_listening(Arc::new(MachineEvents::new().unwrap()));
        (0..5000).for_each(|_| faults.mark("here"));
        let events = moments(Some(&faults));
        let Some(Event::Lost { count, .. }) = events.last() else { panic!("{:?}", events.last()) };
        assert_eq!(events.len() as u64 - 1 + count, 5000);
        assert!(moments(Some(&faults)).is_empty());
    }
}
