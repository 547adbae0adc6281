//! Requests to a running machine over its API socket: the socket in the event loop, and the clients that wait for answers.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Receiver},
    time::{Duration, Instant},
};

use ::devices::{
    faults::{Faults, Plan},
    machine_events::MachineEvents,
};
use event_manager::{EventManager, SubscriberId, SubscriberOps};

use super::{
    captures::Captures,
    error::{MachineError, host},
    wakeups::Subscriber,
};
use crate::{
    api::{
        Answer, Event, FaultsRequest, Request,
        server::{ClientId, Server},
    },
    boot::tree_faults::fault_tables,
};

/// How long a client waits for an answer that takes time.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The API socket in the event loop.
pub(super) struct Requests {
    server: Arc<Mutex<Server>>,
    subscriber: SubscriberId,
    pub(super) captures: Captures,
    /// The plan that rules are added to and removed from.
    faults: Faults,
    pub(super) waiting: Vec<Waiting>,
}

/// A client that waits for its answer.
pub(super) struct Waiting {
    pub(super) client: ClientId,
    pub(super) awaited: Awaited,
    pub(super) until: Instant,
}

/// The event that an answer waits for.
pub(super) enum Awaited {
    /// The vCPUs stop.
    Pause,
    /// The guest's agent reports the CMA areas. The number is the question's; none until the agent listens.
    Areas(Option<u64>),
    /// A device finishes a frame, and a thread makes an answer of it.
    Capture(Receiver<Answer>),
}

impl Requests {
    /// Serves `server` by the event loop of `manager`, which `events` wakes.
    ///
    /// # Errors
    /// If the host refuses a thread.
    pub(super) fn new(
        server: Server,
        manager: &mut EventManager<Subscriber>,
        events: Arc<MachineEvents>,
        faults: Faults,
    ) -> Result<Self, MachineError> {
        let captures = Captures::start(events).map_err(host("a thread for captures"))?;
        let server = Arc::new(Mutex::new(server));
        let subscriber = manager.add_subscriber(server.clone());
        Ok(Self { server, subscriber, captures, faults, waiting: Vec::new() })
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `client` wait for its answer.
    pub(super) fn wait(&mut self, client: ClientId, awaited: Awaited) {
        self.waiting.push(Waiting { client, awaited, until: Instant::now() + PATIENCE });
    }

    /// The number of captures that wait for their frames.
    pub(super) fn awaited_captures(&self) -> usize {
        self.waiting.iter().filter(|waiting| matches!(waiting.awaited, Awaited::Capture(_))).count()
    }

    /// The next request of a client.
    pub(super) fn next(&self, manager: &mut EventManager<Subscriber>) -> Option<(ClientId, Request)> {
        let mut ops = manager.event_ops(self.subscriber).ok()?;
        self.server().next_request(&mut ops)
    }

    /// Sends `client` its answer.
    pub(super) fn answer(&self, manager: &mut EventManager<Subscriber>, client: ClientId, answer: &Answer) {
        if let Ok(mut ops) = manager.event_ops(self.subscriber) {
            self.server().answer(client, answer, &mut ops);
        }
    }

    /// Answers `client` by a stream of events that begins with `answer`.
    pub(super) fn begin_events(
        &self,
        manager: &mut EventManager<Subscriber>,
        client: ClientId,
        answer: &Answer,
    ) {
        if let Ok(mut ops) = manager.event_ops(self.subscriber) {
            self.server().begin_events(client, answer, &mut ops);
        }
    }

    /// Whether a client listens to events.
    pub(super) fn has_listeners(&self) -> bool {
        self.server().has_listeners()
    }

    /// Tells the clients that listen.
    pub(super) fn tell(&self, manager: &mut EventManager<Subscriber>, events: Vec<Event>) {
        if let Ok(mut ops) = manager.event_ops(self.subscriber) {
            self.server().tell(events, &mut ops);
        }
    }

    /// Tells the clients that listen the last events, when the event loop has ended.
    pub(super) fn tell_last(&self, events: Vec<Event>) {
        self.server().tell_the_end(events);
    }

    /// Lists, adds, removes or triggers rules.
    pub(super) fn change_faults(&self, request: Option<FaultsRequest>) -> Answer {
        let faults = &self.faults;
        let known = |done: bool, name: &str| {
            let names = || faults.rules().into_iter().map(|rule| rule.name).collect::<Vec<_>>().join(", ");
            if done {
                Answer::Done {}
            } else {
                Answer::Error(format!("there is no rule '{name}'; the rules are: {}", names()))
            }
        };
        match request {
            None | Some(FaultsRequest::List) => Answer::Faults(faults.rules()),
            Some(FaultsRequest::Add(text)) => match Plan::read(&text, &fault_tables()) {
                Ok(plan) => {
                    match plan.check(&fault_tables(), faults.devices(), None).map(|()| faults.add(plan)) {
                        Err(sentence) => Answer::Error(sentence),
                        Ok(Ok(())) => Answer::Done {},
                        Ok(Err(name)) => Answer::Error(format!(
                            "there is already a rule '{name}'; remove it, or give the new rule another name"
                        )),
                    }
                }
                Err(error) => Answer::Error(format!("the plan has a mistake at {error}")),
            },
            Some(FaultsRequest::Remove(name)) => known(faults.remove(&name), &name),
            Some(FaultsRequest::Trigger(name)) => known(faults.trigger(&name), &name),
        }
    }
}
