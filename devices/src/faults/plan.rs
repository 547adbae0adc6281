//! A plan of faults: its rules, as values.

use std::ops::RangeInclusive;

use super::{
    action::Action,
    table::{Ids, Table},
    vocabulary::Vocabulary,
};

/// The state that a plan begins in.
pub const START: &str = "start";

/// At which events of its point a rule fires. All conditions that are given must hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct When {
    /// At the event with this number alone; the first is 1.
    pub nth: Option<u64>,
    /// At each event whose number is a multiple of this.
    pub every: Option<u64>,
    /// While the number of the frame is one of these.
    pub frames: Option<RangeInclusive<u32>>,
    /// With this probability, above 0 and at most 1.
    pub probability: Option<f64>,
    /// At accesses to the register with this offset.
    pub register: Option<u32>,
    /// While this is the value that is read or written there.
    pub value: Option<u32>,
    /// After this number of frames of the rule's devices, counted since the rule was added.
    pub after: Option<u64>,
    /// While this is the last mark that the guest made.
    pub mark: Option<String>,
}

/// A rule: where, when and how often something goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name, which no other rule of the plan has.
    pub name: String,
    /// The name of the point where it acts.
    pub on: &'static str,
    /// What goes wrong.
    pub action: Action,
    /// At which events.
    pub when: When,
    /// The maximum number of firings. None: unlimited.
    pub times: Option<u64>,
    /// The id of the device whose events it counts. None: all devices that have this point and action.
    pub device: Option<String>,
    /// The CMA window whose events, or whose devices' events, it counts. None: all windows.
    pub window: Option<String>,
    /// The channel, or the queue, whose events it counts. None: all channels.
    pub channel: Option<u32>,
    /// The state in which it counts events. None: all states.
    pub state: Option<String>,
    /// The state that follows when it has fired.
    pub next_state: Option<String>,
}

/// A plan of faults.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The text that it was read from.
    pub text: String,
    /// The rules. Where several fire at an event, the device does what the first says.
    pub rules: Vec<Rule>,
}

/// A device of a machine, as plans know it.
#[derive(Debug, Clone)]
pub struct MachineDevice {
    /// Its id.
    pub id: String,
    /// The name of the CMA window that it uses, if it uses one.
    pub window: Option<String>,
    /// What can go wrong with it.
    pub table: &'static Table,
}

impl MachineDevice {
    /// The device `id`, if one of the tables is of it.
    pub fn find(tables: &[&'static Table], id: String, window: Option<String>) -> Option<Self> {
        let table = Vocabulary(tables).table(&id)?;
        Some(Self { id, window, table })
    }
}

impl Plan {
    /// A plan of these rules.
    pub fn of(rules: Vec<Rule>) -> Self {
        Self { text: rules.iter().map(Rule::to_toml).collect::<Vec<_>>().join("\n"), rules }
    }

    /// Checks that a machine has what the rules name: it has these `devices`, and its device tree advertises these CMA
    /// `windows`; none if the guest has read the tree already.
    ///
    /// # Errors
    /// A sentence with the rule that names something else, and the valid names.
    pub fn check(
        &self,
        tables: &[&'static Table],
        devices: &[MachineDevice],
        windows: Option<&[&str]>,
    ) -> Result<(), String> {
        self.rules.iter().try_for_each(|rule| {
            let mut places = Vocabulary(tables).places(rule.on);
            if places.any(|(table, _)| table.ids == Ids::Windows) {
                rule.check_windows(windows)
            } else {
                rule.check_devices(devices)
            }
        })
    }
}

impl Rule {
    /// Checks a rule for events of CMA windows.
    fn check_windows(&self, windows: Option<&[&str]>) -> Result<(), String> {
        let Self { name, on, window, .. } = self;
        let Some(windows) = windows else {
            return Err(format!(
                "rule '{name}' acts on the {on}, which the guest has read; give it with --faults"
            ));
        };
        if window.as_deref().map_or(windows.is_empty(), |window| !windows.contains(&window)) {
            return Err(format!(
                "rule '{name}' is of {} in the {on}, which has {}",
                window.as_ref().map_or("a CMA window".to_owned(), |window| format!("the window '{window}'")),
                if windows.is_empty() { "none".to_owned() } else { windows.join(", ") }
            ));
        }
        Ok(())
    }

    /// Checks a rule for events of devices.
    fn check_devices(&self, devices: &[MachineDevice]) -> Result<(), String> {
        let Self { name, device, window, .. } = self;
        if let Some(device) = device
            && !devices.iter().any(|there| there.id == *device)
        {
            let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
            return Err(format!(
                "rule '{name}' is of {device}, and the machine has no such device; it has {}",
                if ids.is_empty() { "none that can go wrong".to_owned() } else { ids.join(", ") }
            ));
        }
        if let Some(window) = window
            && !devices.iter().any(|device| device.window.as_ref() == Some(window))
        {
            let used: Vec<&str> = devices.iter().filter_map(|device| device.window.as_deref()).collect();
            return Err(format!(
                "rule '{name}' is of the window '{window}', which no device uses; they use {}",
                if used.is_empty() { "none".to_owned() } else { used.join(", ") }
            ));
        }
        Ok(())
    }

    /// The rule as text of a plan.
    fn to_toml(&self) -> String {
        // TOML writes strings and numbers as JSON does, except for a character that it wants escaped.
        let json = |value: &str| serde_json::Value::from(value).to_string().replace('\u{7f}', "\\u007f");
        let mut lines = vec!["[[rule]]".to_owned()];
        let mut put = |name: &str, value: Option<String>| {
            lines.extend(value.map(|value| format!("{name} = {value}")));
        };
        put("name", Some(json(&self.name)));
        put("on", Some(json(self.on)));
        put("action", Some(json(self.action.name())));
        if let Some((name, value)) = self.action.given() {
            put(name, Some(value.to_string()));
        }
        let When { nth, every, frames, probability, register, value, after, mark } = &self.when;
        let when = [
            nth.map(|nth| format!("nth = {nth}")),
            every.map(|every| format!("every = {every}")),
            frames.as_ref().map(|frames| format!("frames = [{}, {}]", frames.start(), frames.end())),
            probability.map(|probability| format!("probability = {probability:?}")),
            register.map(|register| format!("register = {register:#x}")),
            value.map(|value| format!("value = {value:#x}")),
            after.map(|after| format!("after = {after}")),
            mark.as_deref().map(|mark| format!("mark = {}", json(mark))),
        ];
        let when: Vec<String> = when.into_iter().flatten().collect();
        put("when", (!when.is_empty()).then(|| format!("{{ {} }}", when.join(", "))));
        put("times", self.times.map(|times| times.to_string()));
        put("device", self.device.as_deref().map(json));
        put("window", self.window.as_deref().map(json));
        put("channel", self.channel.map(|channel| channel.to_string()));
        put("state", self.state.as_deref().map(json));
        put("next-state", self.next_state.as_deref().map(json));
        lines.push(String::new());
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing, *};

    #[test]
    fn a_plan_that_is_written_is_read_the_same() {
        let text = "[[rule]]\nname = \"a \\\"b\\\" \\u007f \\t\"\non = \"frame.dma\"\naction = \"offset\"\nbytes = -4096\n\
            when = { every = 2, frames = [3, 9], probability = 1.0 }\ntimes = 4\ncamera = 1\nchannel = 0\n\
            next-state = \"hurt\"\n\n[[rule]]\nname = \"c\"\non = \"mmio.read\"\naction = \"ones\"\n\
            when = { nth = 7, register = 0x18, value = 0xffffffff, after = 9, mark = \"a \\\"b\\\"\" }\nstate = \"hurt\"\n\
            window = \"isp\"\n\n[[rule]]\nname = \"d\"\non = \"queue\"\naction = \"lose\"\ndevice = \"entropy\"\nchannel = 0\n";
        let rules = testing::plan(text).rules;
        assert_eq!(rules[0].device.as_deref(), Some("camera1"));
        let written = Plan::of(rules.clone());
        assert_eq!(testing::plan(&written.text).rules, rules, "{}", written.text);
    }

    #[test]
    fn rules_are_of_devices_that_are_there() {
        let device = |id: &str, window: Option<&str>| MachineDevice {
            id: id.to_owned(),
            window: window.map(ToOwned::to_owned),
            table: testing::TABLES[1],
        };
        let devices = [device("camera0", Some("isp")), device("camera1", None)];
        let check = |selector: &str| {
            let rule = format!("[[rule]]\nname = \"r\"\non = \"irq\"\naction = \"lose\"\n{selector}\n");
            testing::plan(&rule).check(testing::TABLES, &devices, Some(&["isp"]))
        };
        assert_eq!(check("camera = 1\nwindow = \"isp\""), Ok(()));
        assert_eq!(
            check("camera = 2"),
            Err("rule 'r' is of camera2, and the machine has no such device; it has camera0, camera1"
                .to_owned())
        );
        assert_eq!(
            check("window = \"vpu\""),
            Err("rule 'r' is of the window 'vpu', which no device uses; they use isp".to_owned())
        );
        let tree = |selector: &str, windows: Option<&[&str]>| {
            let rule = format!("[[rule]]\nname = \"r\"\non = \"tree\"\naction = \"no-map\"\n{selector}\n");
            testing::plan(&rule).check(testing::TABLES, &[], windows)
        };
        assert_eq!(
            (tree("window = \"vpu\"", Some(&["isp", "vpu"])), tree("", Some(&["isp"]))),
            (Ok(()), Ok(()))
        );
        assert_eq!(
            tree("window = \"npu\"", Some(&["isp", "vpu"])),
            Err("rule 'r' is of the window 'npu' in the tree, which has isp, vpu".to_owned())
        );
        assert_eq!(
            tree("", Some(&[])),
            Err("rule 'r' is of a CMA window in the tree, which has none".to_owned())
        );
        assert!(tree("", None).unwrap_err().contains("which the guest has read; give it with --faults"));
    }
}
