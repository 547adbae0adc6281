//! What is asked of a running machine over its API socket, and how it answers.

use std::sync::{Arc, Mutex};

use event_manager::{EventManager, SubscriberId, SubscriberOps};

use super::{Machine, Subscriber, lock, window_report};
use crate::{
    api::{
        Answer, Request, Status, Verb,
        server::{ClientId, Server},
    },
    report::{Outcome, since_process_start},
};

/// The API socket in the event loop.
pub(super) struct Requests {
    server: Arc<Mutex<Server>>,
    subscriber: SubscriberId,
}

impl Requests {
    /// Serves `server` by the event loop of `manager`.
    pub(super) fn new(server: Server, manager: &mut EventManager<Subscriber>) -> Self {
        let server = Arc::new(Mutex::new(server));
        let subscriber = manager.add_subscriber(server.clone());
        Self { server, subscriber }
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
        let requests = self.requests.take()?;
        let mut outcome = None;
        while let Some((client, request)) = requests.next(&mut self.manager) {
            let answer = match request.verb {
                Verb::Status => Answer::Status(self.status()),
                Verb::Camera => match &self.devices.camera {
                    Some((camera, _)) => Answer::Camera(camera.counters()),
                    None => Answer::Error("this machine has no camera; give it one with --camera".to_owned()),
                },
                Verb::Stop => {
                    outcome = Some(Outcome::Stopped);
                    Answer::Done {}
                }
            };
            requests.answer(&mut self.manager, client, &answer);
        }
        self.requests = Some(requests);
        outcome
    }

    fn status(&self) -> Status {
        let written = self.devices.camera.as_ref().map(|(_, dma)| dma.written()).unwrap_or_default();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seconds: since_process_start().unwrap_or_default().as_secs_f64(),
            seconds_to_boot_mark: self.devices.seconds_to_boot_mark(),
            cpus: self.cpus,
            memory: self.memory_size,
            windows: self.windows.iter().map(|window| window_report(window.clone(), &written)).collect(),
            camera: self.devices.camera.as_ref().map(|(camera, _)| camera.counters()),
        }
    }
}
